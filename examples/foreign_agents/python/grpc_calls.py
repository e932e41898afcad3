"""gRPC on the streams of an rh3 link: messages, metadata, deadlines and statuses."""

import asyncio
import base64
import logging
import struct
import urllib.parse

OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED = 0, 1, 2, 3, 4
RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 8, 12, 13

# The longest message that is taken.
MAX_MESSAGE = 65 << 20

UNITS = {b"H": 3600, b"M": 60, b"S": 1, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}

log = logging.getLogger("calls")


class Status(Exception):
    """Ends a call with a status that is not OK."""

    def __init__(self, code, message=""):
        super().__init__(message)
        self.code, self.message = code, message


class Call:
    """One call, as a method sees it: `async for` its messages, `write` answers, and return or raise a Status."""

    def __init__(self, link, stream, headers):
        self.link, self.stream = link, stream
        self.path = dict(headers)[b":path"].decode()
        self.metadata = [(name.decode(), value) for name, value in headers if not name.startswith(b":")]
        self.initial, self.trailing = [], []
        self.head_sent = False
        self.received = bytearray()
        self.messages = asyncio.Queue()
        self.task = None

    # --- for the link

    def start(self, method):
        self.task = asyncio.get_running_loop().create_task(self.run(method))

    def feed(self, data, ended):
        self.received += data
        try:
            while message := self.next_message():
                self.messages.put_nowait(message)
            if ended and self.received:
                raise Status(INTERNAL, "the request ended within a message")
        except Status as status:
            self.messages.put_nowait(status)
        if ended:
            self.messages.put_nowait(None)

    def cancel(self):
        self.task.cancel()

    def next_message(self):
        """A message, as a tuple so that an empty one is not nothing; None until there is one."""
        if len(self.received) < 5:
            return None
        compressed, length = struct.unpack_from(">BI", self.received)
        if compressed:
            raise Status(UNIMPLEMENTED, "compressed messages are not taken here")
        if length > MAX_MESSAGE:
            raise Status(RESOURCE_EXHAUSTED, f"a message of {length} bytes; {MAX_MESSAGE} are the limit")
        if len(self.received) < 5 + length:
            return None
        message = bytes(self.received[5 : 5 + length])
        del self.received[: 5 + length]
        return (message,)

    # --- for methods

    def __aiter__(self):
        return self

    async def __anext__(self):
        message = await self.messages.get()
        if message is None:
            raise StopAsyncIteration
        if isinstance(message, Status):
            raise message
        return message[0]

    async def write(self, message):
        self.send_head()
        await self.link.send_data(self.stream, struct.pack(">BI", 0, len(message)) + message)

    def send_head(self):
        if not self.head_sent:
            self.head_sent = True
            self.link.send_headers(self.stream, [*HEAD, *encoded(self.initial)])

    # ---

    async def run(self, method):
        try:
            async with asyncio.timeout(timeout(self.metadata)):
                await method(self)
            self.finish(OK)
        except Status as status:
            self.finish(status.code, status.message)
        except TimeoutError:
            self.finish(DEADLINE_EXCEEDED, "the deadline passed")
        except asyncio.CancelledError:
            log.info("call cancelled path=%s", self.path)
        except Exception:
            log.exception("a method failed path=%s", self.path)
            self.finish(UNKNOWN, "the method failed")
        finally:
            self.link.done(self.stream)

    def finish(self, code, message=""):
        """The trailers; with no head before them they are all that there is of the response."""
        head = [] if self.head_sent else [*HEAD, *encoded(self.initial)]
        self.head_sent = True
        status = [(b"grpc-status", str(code).encode())]
        if message:
            # Percent-encoded, where it is not a printable character of ASCII.
            safe = "".join(chr(character) for character in range(0x20, 0x7F) if character != ord("%"))
            status.append((b"grpc-message", urllib.parse.quote(message, safe=safe).encode()))
        self.link.send_headers(self.stream, [*head, *status, *encoded(self.trailing)], end=True)


HEAD = [(b":status", b"200"), (b"content-type", b"application/grpc")]
NOT_FOUND = [(b":status", b"404"), (b"content-length", b"0")]


class NotFound:
    """The answer to what is no method here: HTTP's own, as of any web server."""

    def __init__(self, link, stream):
        link.send_headers(stream, NOT_FOUND, end=True)
        self.link, self.stream = link, stream

    def feed(self, _data, ended):
        if ended:
            self.link.done(self.stream)

    def cancel(self):
        self.link.done(self.stream)


def answer(methods):
    """Deals with requests: `methods` are the coroutine functions by their paths."""
    services = {path.rpartition("/")[0] for path in methods}

    async def unimplemented(call):
        raise Status(UNIMPLEMENTED, f"there is no method {call.path}")

    def begin(link, stream, headers):
        path = dict(headers)[b":path"].decode()
        if path.rpartition("/")[0] not in services:
            log.info("not found path=%s", path)
            return NotFound(link, stream)
        call = Call(link, stream, headers)
        call.start(methods.get(path, unimplemented))
        return call

    return begin


def encoded(metadata):
    """Metadata for the wire: values of keys that end in -bin as base64."""
    return [
        (name.encode(), base64.b64encode(value).rstrip(b"=") if name.endswith("-bin") else value)
        for name, value in metadata
    ]


def values(metadata, key):
    """All values of one key, in order."""
    found = [value for name, value in metadata if name == key]
    if key.endswith("-bin"):
        # Several may have been joined on their way, and padded or not.
        found = [base64.b64decode(part.strip() + b"==") for value in found for part in value.split(b",")]
    return found


def timeout(metadata):
    """Seconds of `grpc-timeout`; None where there is none."""
    for value in values(metadata, "grpc-timeout"):
        amount, unit = value[:-1], value[-1:]
        if amount.isdigit() and unit in UNITS:
            return int(amount) * UNITS[unit]
    return None
