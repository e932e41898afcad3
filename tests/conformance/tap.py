"""A relay before an HTTP/2 server that notes the gRPC messages which pass, with the flags that say “compressed”.

Client libraries and servers tell nobody of these flags, and a proxy that compresses anew would show nowhere else.
"""

import contextlib
import socket
import threading

PREFACE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
FRAME_HEAD = 9
MESSAGE_HEAD = 5
DATA, HEADERS = 0, 1
PADDED = 0x8
READ = 1 << 16


class Tap:
    """Listens on `port`, and relays to `upstream` (HOST:PORT)."""

    def __init__(self, upstream):
        host, _, port = upstream.rpartition(":")
        self.upstream = (host, int(port))
        self.connections = []
        self.sockets = []
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self.relay, args=(client,), daemon=True).start()

    def relay(self, client):
        try:
            server = socket.create_connection(self.upstream)
        except OSError:
            client.close()
            return
        connection = Connection()
        with self.lock:
            self.sockets += [client, server]
            self.connections.append(connection)
        there = threading.Thread(target=pump, args=(client, server, connection.requests), daemon=True)
        there.start()
        pump(server, client, connection.responses)
        there.join()

    def exchanges(self):
        """All streams: lists of the requests' and of the responses' messages, each as (flag, bytes)."""
        with self.lock:
            connections = list(self.connections)
        return [exchange for connection in connections for exchange in connection.exchanges()]

    def close(self):
        # A listener that is only closed would leave its thread in accept().
        for one in [self.listener, *self.sockets]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


class Connection:
    """Both directions of a connection."""

    def __init__(self):
        self.requests, self.responses = Direction(PREFACE), Direction(0)

    def exchanges(self):
        streams = sorted(self.requests.streams)
        return [(self.requests.messages(stream), self.responses.messages(stream)) for stream in streams]


class Direction:
    """The frames that pass in one direction, and the messages in them."""

    def __init__(self, skip):
        self.skip = skip
        self.buffer = bytearray()
        self.streams = {}

    def feed(self, data):
        self.buffer += data
        if self.skip:
            if len(self.buffer) < self.skip:
                return
            del self.buffer[: self.skip]
            self.skip = 0
        while len(self.buffer) >= FRAME_HEAD:
            length = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < FRAME_HEAD + length:
                return
            kind, flags = self.buffer[3], self.buffer[4]
            stream = int.from_bytes(self.buffer[5:9], "big") & 0x7FFFFFFF
            payload = bytes(self.buffer[FRAME_HEAD : FRAME_HEAD + length])
            del self.buffer[: FRAME_HEAD + length]
            if kind == HEADERS:
                self.streams.setdefault(stream, bytearray())
            elif kind == DATA:
                end = length - payload[0] if flags & PADDED else length
                self.streams.setdefault(stream, bytearray()).extend(payload[1 if flags & PADDED else 0 : end])

    def messages(self, stream):
        data, at, messages = bytes(self.streams.get(stream, b"")), 0, []
        while at + MESSAGE_HEAD <= len(data):
            length = int.from_bytes(data[at + 1 : at + MESSAGE_HEAD], "big")
            messages.append((data[at], data[at + MESSAGE_HEAD : at + MESSAGE_HEAD + length]))
            at += MESSAGE_HEAD + length
        return messages


def pump(source, sink, direction):
    """Relays until either side ends, and tells the other."""
    with contextlib.suppress(OSError):
        while data := source.recv(READ):
            direction.feed(data)
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
