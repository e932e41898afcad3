"""Streams whose messages are numbered and checksummed: a gRPC service that sends or takes them, and its clients.

    python tests/foreign/numbered.py --listen unix:/run/numbered.sock

Either end knows what each message has to be, and when it came: nothing can be lost, doubled, changed or late unseen. Times
are those of the machine's monotonic clock, which is one for all processes.
"""

import argparse
import asyncio
import json
import random
import struct
import time
import zlib

import grpc

SERVICE = "numbered.Numbers"
HEAD = struct.Struct("!QI")
# Bytes of a message that is sent at a pace: in a packet with others.
SMALL = 200


class Wrong(Exception):
    """A message that is not the next one."""


def message(number, size=SMALL):
    """The message of this number."""
    body = random.Random(number).randbytes(size)
    return HEAD.pack(number, zlib.crc32(body)) + body


def check(data, number, size=SMALL):
    if data == message(number, size):
        return
    found, checksum = HEAD.unpack_from(data)
    sound = zlib.crc32(data[HEAD.size :]) == checksum
    raise Wrong(f"message {number} is {found} with {'the right' if sound else 'a wrong'} checksum")


async def down(request, _context):
    """Sends as many messages as asked for, one every so often."""
    wanted = json.loads(request)
    begun = time.monotonic()
    for number in range(wanted["count"]):
        if pace := wanted["pace"]:
            await asyncio.sleep(max(0, begun + number * pace - time.monotonic()))
        yield message(number, wanted["size"])


def reading(number):
    """A message as services have it that speak JSON."""
    values = random.Random(number)
    sensors = [
        {
            "id": values.randrange(1 << 24),
            "name": f"boiler-{values.randrange(16)}",
            "celsius": round(values.uniform(20, 80), 1),
            "ok": values.random() < 0.9,
            "tags": ["boiler", f"hall-{values.randrange(50)}"],
        }
        for _ in range(100)
    ]
    return json.dumps({"number": number, "sensors": sensors}).encode()


async def readings(request, _context):
    """Sends as many readings as asked for, at once."""
    for number in range(json.loads(request)["count"]):
        yield reading(number)


async def up(requests, context):
    """Takes messages, and tells when each came."""
    size = int(dict(context.invocation_metadata())["size"])
    arrivals = []
    async for data in requests:
        try:
            check(data, len(arrivals), size)
        except Wrong as wrong:
            await context.abort(grpc.StatusCode.DATA_LOSS, str(wrong))
        arrivals.append(time.monotonic())
    return json.dumps(arrivals).encode()


async def held(requests, _context):
    """Answers each message with the same, and says nothing by itself."""
    async for data in requests:
        yield data


HANDLERS = {
    "Down": grpc.unary_stream_rpc_method_handler(down),
    "Readings": grpc.unary_stream_rpc_method_handler(readings),
    "Up": grpc.stream_unary_rpc_method_handler(up),
    "Held": grpc.stream_stream_rpc_method_handler(held),
}


async def serve(address):
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, HANDLERS)])
    server.add_insecure_port(address)
    await server.start()
    print(f"listening on {address}", flush=True)
    await server.wait_for_termination()


class Client:
    """The service of one agent, through a hub."""

    def __init__(self, target, agent):
        self.channel = grpc.insecure_channel(target)
        self.metadata = (("adit-agent", agent),)

    def down(self, count, pace, size=SMALL, timeout=None):
        """When each message came, all of which have to."""
        wanted = json.dumps({"count": count, "pace": pace, "size": size}).encode()
        method = self.channel.unary_stream(f"/{SERVICE}/Down")
        arrivals = []
        for data in method(wanted, metadata=self.metadata, timeout=timeout):
            check(data, len(arrivals), size)
            arrivals.append(time.monotonic())
        if len(arrivals) != count:
            raise Wrong(f"{len(arrivals)} of {count} messages came, and an end after them")
        return arrivals

    def up(self, count, pace, size=SMALL, timeout=None):
        """The same of those that are sent."""

        def messages():
            begun = time.monotonic()
            for number in range(count):
                if pace:
                    time.sleep(max(0, begun + number * pace - time.monotonic()))
                yield message(number, size)

        method = self.channel.stream_unary(f"/{SERVICE}/Up")
        metadata = (*self.metadata, ("size", str(size)))
        arrivals = json.loads(method(messages(), metadata=metadata, timeout=timeout))
        if len(arrivals) != count:
            raise Wrong(f"{len(arrivals)} of {count} messages came, and an end after them")
        return arrivals

    def readings(self, count, timeout=None):
        """How many bytes of readings came, all of which have to."""
        method = self.channel.unary_stream(f"/{SERVICE}/Readings")
        messages = list(method(json.dumps({"count": count}).encode(), metadata=self.metadata, timeout=timeout))
        if messages != [reading(number) for number in range(count)]:
            raise Wrong("other readings came than were sent")
        return sum(map(len, messages))

    def held(self, requests, timeout=None):
        """A call that goes on."""
        return self.channel.stream_stream(f"/{SERVICE}/Held")(requests, metadata=self.metadata, timeout=timeout)

    def close(self):
        self.channel.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--listen", required=True, metavar="ADDRESS")
    asyncio.run(serve(parser.parse_args().listen))
