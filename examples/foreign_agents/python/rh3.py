"""rh3: HTTP/3 with its roles swapped after the handshake (draft-thomson-ptth-potato), on aioquic.

The agent dials the hub, so it is the QUIC client; it answers the hub's requests, so it is the HTTP server. A request
comes on a bidirectional stream that the hub opens, whose number is 1, 5, 9 … Everything else is HTTP/3 as it is.
"""

import asyncio
import logging

from aioquic.asyncio import QuicConnectionProtocol
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import ErrorCode, FrameType, H3Connection, encode_frame
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.events import ConnectionTerminated, ProtocolNegotiated, StopSendingReceived, StreamReset

ALPN = "rh3"

# The hub sends nothing on an idle link to an agent that takes no control call, and an expired NAT mapping opens from
# inside only. The hub gives an idle link 30 s.
KEEP_ALIVE = 10
# Calls at once: streams that the hub may open.
MAX_CALLS = 4096
# Bytes of one response that may wait here for the hub to take them.
WRITE_AHEAD = 1 << 20
# Bytes of the token at the end of a stateless reset.
RESET_TOKEN = 16
# The first stream of the hub, and the distance to its next one.
FIRST_STREAM = 1
STREAM_STEP = 4

log = logging.getLogger("rh3")


class ReversedH3(H3Connection):
    """aioquic takes the HTTP role from the QUIC role. Here the two differ."""

    def _init_connection(self):
        self._is_client = False
        # Only an HTTP client allows pushes.
        self._max_push_id = None
        super()._init_connection()

    def send_goaway(self, first_unseen):
        """Says which of the peer's streams is the first that has not been and will not be looked at."""
        frame = encode_frame(FrameType.GOAWAY, encode_uint_var(first_unseen))
        self._quic.send_stream_data(self._local_control_stream_id, frame)


class Link(QuicConnectionProtocol):
    """One connection to the hub. `answer(link, stream, headers)` makes the object that deals with a request.

    That object has `feed(data, ended)` for the request's body, and `cancel()` for when the hub gives the request up or
    the link is lost. It ends its response with `send_headers`, and then calls `done`.
    """

    def __init__(self, *arguments, answer, **keywords):
        super().__init__(*arguments, **keywords)
        self.http = None
        self.end = None
        self.answer = answer
        self.requests = {}
        self.first_unseen = FIRST_STREAM
        self.draining = False
        self.moved = asyncio.Event()
        # aioquic has no setting for it, and grants 128.
        self._quic._local_max_streams_bidi.value = MAX_CALLS

    def quic_event_received(self, event):
        if isinstance(event, ProtocolNegotiated):
            self.http = ReversedH3(self._quic)
        elif isinstance(event, ConnectionTerminated):
            self.end = event
            for request in list(self.requests.values()):
                request.cancel()
        if self.http is None:
            return
        for received in self.http.handle_event(event):
            self.http_event_received(received)
        # Either half that the hub gives up is the end of the call for gRPC.
        if isinstance(event, (StreamReset, StopSendingReceived)) and event.stream_id in self.requests:
            self.requests[event.stream_id].cancel()

    def http_event_received(self, event):
        stream = event.stream_id
        if isinstance(event, HeadersReceived) and stream not in self.requests:
            if self.draining:
                return self.reject(stream)
            self.first_unseen = max(self.first_unseen, stream + STREAM_STEP)
            self.requests[stream] = self.answer(self, stream, event.headers)
        if stream in self.requests and isinstance(event, (HeadersReceived, DataReceived)):
            data = event.data if isinstance(event, DataReceived) else b""
            self.requests[stream].feed(data, event.stream_ended)

    def send_headers(self, stream, headers, end=False):
        """A response's head or, after data or with `end`, its trailers."""
        if self.sender(stream):
            self.http.send_headers(stream, headers, end)
            self._transmit_soon()

    async def send_data(self, stream, data):
        """A piece of a response's body; waits until the hub has taken what came before."""
        sender = self.sender(stream)
        if not sender:
            return
        self.http.send_data(stream, data, end_stream=False)
        self._transmit_soon()
        # aioquic keeps all that it is given, and tells nobody when it is gone.
        while sender._buffer_stop - sender._buffer_start > WRITE_AHEAD:
            self.moved.clear()
            await self.moved.wait()

    def sender(self, stream):
        """The half of a stream that responses go to; none if the hub wants nothing of it any more.

        A packet that gives a call up may have been read when it has just begun here, and to send then is an error.
        """
        known = self._quic._streams.get(stream)
        return known.sender if known and known.sender._reset_error_code is None else None

    def datagram_received(self, data, address):
        # What a hub that was restarted answers (RFC 9000 §10.3). To aioquic it is a packet that can't be read.
        if data[-RESET_TOKEN:] == self._quic._peer_cid.stateless_reset_token:
            return self.close(ErrorCode.H3_NO_ERROR, "the hub knows nothing of this link")
        super().datagram_received(data, address)
        self.moved.set()

    def reject(self, stream):
        """Refuses a request unseen: the hub may make it elsewhere."""
        self._quic.reset_stream(stream, ErrorCode.H3_REQUEST_REJECTED)
        self._quic.stop_stream(stream, ErrorCode.H3_REQUEST_REJECTED)

    def done(self, stream):
        """A request has been dealt with."""
        self.requests.pop(stream, None)

    async def keep_alive(self):
        """Sends a packet now and then, until the link ends."""
        while True:
            await asyncio.sleep(KEEP_ALIVE)
            await self.ping()

    async def drain(self, timeout):
        """Takes no new requests, and gives those that run their time. The hub closes the link after the last one."""
        self.draining = True
        self.http.send_goaway(self.first_unseen)
        self.transmit()
        try:
            async with asyncio.timeout(timeout):
                await self.wait_closed()
        except TimeoutError:
            log.warning("%d calls are cut off", len(self.requests))
            self.close(ErrorCode.H3_NO_ERROR, "the agent stopped")
