"""HTTP/2 as no library would speak it: frames by hand, and what the other side says to them."""

import collections
import select
import socket
import struct
import time

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE = 4
CANCEL = 8

CODES = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
)  # fmt: skip

# An address of the attacker's own: what it takes of the hub counts for it, and not for the good client.
ATTACKER = "127.0.0.2"
CONNECT_TIMEOUT = 10
CHUNK = 1 << 16


class Cut(Exception):
    """The other side has ended the connection: how."""


class Peer:
    """A connection, from its preface on."""

    def __init__(self, target, settings=(), preface=PREFACE):
        host, _, port = target.rpartition(":")
        address = (host, int(port))
        self.socket = socket.create_connection(address, CONNECT_TIMEOUT, source_address=(ATTACKER, 0))
        self.socket.setblocking(False)
        self.received = bytearray()
        self.seen = collections.Counter()
        self.resets = collections.Counter()
        self.goaway = None
        self.opened = time.monotonic()
        self.next_stream = 1
        self.first = preface + (frame(SETTINGS, 0, 0, encoded(settings)) if preface else b"")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def stream(self):
        self.next_stream += 2
        return self.next_stream - 2

    def send(self, data, until, read=True):
        """Sends all of it; False where the other side takes no more of it until that moment. Reads what comes."""
        view = memoryview(self.first + data)
        self.first = b""
        while view:
            left = until - time.monotonic()
            if left <= 0:
                return False
            ready = self.ready((select.POLLIN if read else 0) | select.POLLOUT, left)
            if ready & ~select.POLLOUT:
                self.take()
            if ready & select.POLLOUT:
                try:
                    view = view[self.socket.send(view[:CHUNK]) :]
                except OSError:
                    self.drain()
        return True

    def wait(self, until, holds=lambda: False):
        """Reads until something holds: whether it did, by that moment."""
        while not holds():
            left = until - time.monotonic()
            if left <= 0 or not self.ready(select.POLLIN, left):
                return False
            self.take()
        return True

    def ready(self, wanted, left):
        """What the connection is ready for within these seconds. (`select` knows no more than 1,024 files.)"""
        poll = select.poll()
        poll.register(self.socket, wanted)
        found = poll.poll(left * 1000)
        return found[0][1] if found else 0

    def take(self):
        try:
            data = self.socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            raise Cut(self.goaway or "closed")
        self.received += data
        at = 0
        while len(self.received) - at >= 9:
            length = int.from_bytes(self.received[at : at + 3], "big")
            kind, flags = self.received[at + 3 : at + 5]
            if len(self.received) - at < 9 + length:
                break
            stream = int.from_bytes(self.received[at + 5 : at + 9], "big")
            self.took(kind, flags, stream, bytes(self.received[at + 9 : at + 9 + length]))
            at += 9 + length
        del self.received[:at]

    def took(self, kind, flags, stream, payload):
        self.seen[kind] += 1
        if kind == RST_STREAM:
            self.resets[code(payload)] += 1
        elif kind == GOAWAY:
            told = payload[8:].decode(errors="replace")
            self.goaway = code(payload[4:8]) + (f" ({told})" if told else "")

    def drain(self):
        """The other side takes no more: reads what it said before."""
        until = time.monotonic() + 1
        while time.monotonic() < until:
            if self.ready(select.POLLIN, max(0, until - time.monotonic())):
                self.take()
        raise Cut(self.goaway or "closed")


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def encoded(settings):
    return b"".join(struct.pack(">HI", key, value) for key, value in settings)


def code(payload):
    number = int.from_bytes(payload[:4], "big")
    return CODES[number] if number < len(CODES) else hex(number)


def block(path, agent, *more):
    """The head of a gRPC call, in bytes that mean the same at any time: nothing of it goes into the dynamic table."""
    fields = [
        (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "hub.example"),
        ("content-type", "application/grpc"), ("te", "trailers"), ("adit-agent", agent), *more,
    ]  # fmt: skip
    return hpack.Encoder().encode([(name, value, True) for name, value in fields], huffman=False)


def message(payload):
    return struct.pack(">BI", 0, len(payload)) + payload
