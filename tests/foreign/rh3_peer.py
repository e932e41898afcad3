"""rh3 as no agent would speak it, on the sample agent's link and on aioquic's own frames."""

import asyncio
import collections
import contextlib
import functools
import ssl
import sys
import time

from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import ErrorCode, encode_frame
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, ProtocolNegotiated
from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from tunnel import ROOT

sys.path.insert(0, str(ROOT / "examples/foreign_agents/python"))

from rh3 import ALPN, Link, ReversedH3  # isort: skip

CONTROL, PUSH, QPACK_ENCODER, QPACK_DECODER = 0, 1, 2, 3
DATA, HEADERS, CANCEL_PUSH, SETTINGS, GOAWAY, MAX_PUSH_ID = 0, 1, 3, 4, 7, 13
# An empty field section's prefix: no dynamic table.
PREFIX = b"\0\0"
EMPTY_SETTINGS = encode_frame(SETTINGS, b"")

HANDSHAKE_TIMEOUT = 10
PING_INTERVAL = 1


class RawQuic(QuicConnection):
    """QUIC that sends frames of any kind, too."""

    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.frames = collections.deque()

    def _write_connection_limits(self, builder, space):
        super()._write_connection_limits(builder, space)
        while self.frames and builder.remaining_flight_space > len(self.frames[0][1]) + 16:
            kind, payload = self.frames.popleft()
            builder.start_frame(kind, capacity=len(payload) + 8).push_bytes(payload)


class RawHttp(ReversedH3):
    """HTTP/3 whose own streams say what they are told to, and beside which there may be others."""

    control, encoder, decoder = EMPTY_SETTINGS, b"", b""
    others = ()

    def _init_connection(self):
        self._is_client = False
        self._max_push_id = None
        self._local_control_stream_id = self.open(CONTROL, self.control)
        self._local_encoder_stream_id = self.open(QPACK_ENCODER, self.encoder)
        self._local_decoder_stream_id = self.open(QPACK_DECODER, self.decoder)
        for kind, said in self.others:
            self.open(kind, said)

    def open(self, kind, said=b""):
        stream = self._create_uni_stream(kind)
        self._quic.send_stream_data(stream, said)
        return stream


class RawLink(Link):
    """A link of the sample agent's on these two."""

    http_class = RawHttp

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.handshaken = asyncio.Event()

    def quic_event_received(self, event):
        if isinstance(event, (HandshakeCompleted, ConnectionTerminated)):
            self.handshaken.set()
        super().quic_event_received(event)
        if isinstance(event, ProtocolNegotiated):
            # In place of what the sample agent has just made, before anything of it is sent.
            forget_streams(self._quic)
            self.http = self.http_class(self._quic)

    def write(self, stream, data, end=False):
        """Bytes on a stream, as they are."""
        self._quic.send_stream_data(stream, data, end)
        self.transmit()

    def send_frames(self, kind, payload, times=1):
        """QUIC frames in the next packets."""
        self._quic.frames.extend([(kind, payload)] * times)
        self.transmit()

    async def ending(self, until):
        """How the hub ended the link; None if it has not by that moment. Asks now and then: a packet may be lost."""
        while not self.end and time.monotonic() < until:
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(min(PING_INTERVAL, max(0, until - time.monotonic()))):
                    await self.wait_closed()
            if not self.end:
                self.send_frames(QuicFrameType.PING, b"")
        return name_of(self.end) if self.end else None


def forget_streams(quic):
    quic._streams.clear()
    quic._streams_queue.clear()
    quic._streams_blocked_uni.clear()
    quic._local_next_stream_id_uni = 2


@contextlib.asynccontextmanager
async def dialled(tunnel, agent=None, answer=None, link=RawLink, alpn=ALPN, wait=True):
    """A connection to the agents' port, with the certificate of this agent or with none."""
    settings = QuicConfiguration(
        is_client=True, alpn_protocols=[alpn], server_name="localhost", idle_timeout=30, verify_mode=ssl.CERT_REQUIRED
    )
    settings.load_verify_locations(cafile=str(tunnel.certs / "ca.pem"))
    if agent:
        settings.load_cert_chain(tunnel.certs / f"agent-{agent}.pem", tunnel.certs / f"agent-{agent}.key")
    protocol = functools.partial(link, RawQuic(configuration=settings), answer=answer or NotFound)
    transport, made = await asyncio.get_running_loop().create_datagram_endpoint(protocol, local_addr=("127.0.0.2", 0))
    try:
        made.connect(("127.0.0.1", tunnel.agents_port))
        if wait:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                await made.handshaken.wait()
        yield made
    finally:
        made.close(ErrorCode.H3_NO_ERROR)
        transport.close()


class NotFound:
    """Answers 404 to the control call, which makes a bare agent, and nothing to any other."""

    def __init__(self, link, stream, headers):
        self.link, self.stream = link, stream
        if dict(headers)[b":path"].startswith(b"/adit."):
            link.write(stream, encode_frame(HEADERS, PREFIX + STATUS_404), end=True)

    def feed(self, data, ended):
        """The request's body is nobody's business."""

    def cancel(self):
        self.link.done(self.stream)


# Entries of QPACK's static table.
STATUS_103, STATUS_200, STATUS_404 = b"\xd8", b"\xd9", b"\xdb"


def literal(name, value):
    """A field that is in no table (RFC 9204 §4.5.6)."""
    return prefixed(0x20, 3, len(name)) + name + prefixed(0, 7, len(value)) + value


def prefixed(flags, bits, number):
    """An integer behind flags (RFC 7541 §5.1)."""
    most = (1 << bits) - 1
    if number < most:
        return bytes([flags | number])
    out, number = bytearray([flags | most]), number - most
    while number >= 128:
        out.append(number % 128 + 128)
        number //= 128
    return bytes([*out, number])


GRPC_HEAD = PREFIX + STATUS_200 + literal(b"content-type", b"application/grpc")
GRPC_OK = PREFIX + literal(b"grpc-status", b"0")


def name_of(event):
    """A connection's end, by the name of its code."""
    codes = (ErrorCode, QuicErrorCode) if event.frame_type is None else (QuicErrorCode, ErrorCode)
    for known in codes:
        if event.error_code in known._value2member_map_:
            return known(event.error_code).name
    if QuicErrorCode.CRYPTO_ERROR < event.error_code < QuicErrorCode.CRYPTO_ERROR + 256:
        return f"TLS alert {event.error_code - QuicErrorCode.CRYPTO_ERROR}"
    return hex(event.error_code)


def varints(*numbers):
    return b"".join(encode_uint_var(number) for number in numbers)
