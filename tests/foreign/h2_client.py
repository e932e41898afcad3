"""A client on the h2 library that may say what no gRPC client would, and tells all that it is answered."""

import dataclasses
import socket
import time

import h2.config
import h2.connection
import h2.errors
import h2.events

from h2_peer import ATTACKER, CHUNK, CODES, CONNECT_TIMEOUT, message

ANSWER_TIMEOUT = 20
EMPTY = message(b"")


@dataclasses.dataclass
class Reply:
    """What came of a request. `fields` are those of the head, and behind them those of the trailers."""

    fields: dict = dataclasses.field(default_factory=dict)
    body: bytes = b""
    trailers_only: bool = False
    reset: str | None = None
    goaway: str | None = None
    closed: bool = False

    def summary(self):
        """The shortest that tells it: how the stream or the connection was ended, or the statuses."""
        if self.goaway or self.closed:
            return f"connection: {self.goaway or 'closed'}"
        if self.reset:
            return f"stream: {self.reset}"
        told = [f"HTTP {self.fields[':status']}"] if self.fields.get(":status") != "200" else []
        told += [f"{self.fields[key]}" for key in ("grpc-status", "adit-error") if key in self.fields]
        return " ".join(told) or "HTTP 200"


class Client:
    """One connection."""

    def __init__(self, target):
        host, _, port = target.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), CONNECT_TIMEOUT, source_address=(ATTACKER, 0))
        # Nothing is put right, and nothing refused, before it is sent.
        config = h2.config.H2Configuration(
            header_encoding="utf-8",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            validate_inbound_headers=False,
            normalize_inbound_headers=False,
        )
        self.connection = h2.connection.H2Connection(config)
        self.connection.initiate_connection()
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def request(self, fields, body=EMPTY):
        """Makes a request, and waits for the end of what it is answered."""
        stream = self.connection.get_next_available_stream_id()
        self.connection.send_headers(stream, fields, end_stream=not body)
        if body:
            self.connection.send_data(stream, body, end_stream=True)
        self.flush()
        return self.answer(stream)

    def answer(self, stream):
        reply, until = Reply(), time.monotonic() + ANSWER_TIMEOUT
        while True:
            self.socket.settimeout(max(0.001, until - time.monotonic()))
            try:
                data = self.socket.recv(CHUNK)
            except ConnectionResetError:
                data = b""
            if not data:
                reply.closed = True
                return reply
            for event in self.connection.receive_data(data):
                if self.took(event, stream, reply):
                    return reply
            self.flush()

    def took(self, event, stream, reply):
        """Whether this event is the end of what comes."""
        if isinstance(event, h2.events.ConnectionTerminated):
            reply.goaway = CODES[event.error_code]
            return True
        if getattr(event, "stream_id", None) != stream:
            return False
        if isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
            reply.trailers_only = not reply.fields
            reply.fields.update(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            reply.body += event.data
            self.connection.acknowledge_received_data(event.flow_controlled_length, stream)
        elif isinstance(event, h2.events.StreamReset):
            reply.reset = CODES[event.error_code]
            return True
        return isinstance(event, h2.events.StreamEnded)

    def flush(self):
        self.socket.sendall(self.connection.data_to_send())


def call(path, *more, **replaced):
    """The head of a call. `replaced` are fields by their names, with `_` for `-` and without `:`; None leaves one out."""
    fields = {
        ":method": "POST", ":scheme": "http", ":path": path, ":authority": "hub.example",
        "te": "trailers", "content-type": "application/grpc",
    }  # fmt: skip
    for name, value in replaced.items():
        key = name.replace("_", "-")
        fields[f":{key}" if f":{key}" in fields else key] = value
    return [*((name, value) for name, value in fields.items() if value is not None), *more]
