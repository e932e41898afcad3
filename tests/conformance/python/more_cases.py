"""The cases with compression, and those that gRPC's interop descriptions have as TODO, on grpcio."""

import asyncio
import threading
import time

import grpc
from cases import (
    ECHO_INITIAL,
    LARGE_RESPONSE,
    TIMEOUT,
    Requests,
    Wrong,
    expect,
    expect_code,
    expect_size,
    expect_sizes,
    large_request,
)

CONCURRENT = 1000
HEADER_SIZE = 63 << 10
REPLY_FIRST = "x-conformance-reply-first"

# What a server that does not read for PUSH_PAUSE seconds may be sent meanwhile at the most, of PUSH_COUNT messages: the
# windows of every hop on the way are far below it. Nothing is sent for PUSH_STILL seconds then.
PUSH_PAUSE = 2
PUSH_MESSAGE = 64 << 10
PUSH_COUNT = 768
PUSH_LIMIT = 24 << 20
PUSH_STILL = 0.5


def client_compressed_unary(peer):
    def call(expected, compression):
        request = large_request(peer)
        request.expect_compressed.value = expected
        expect_size(peer.stub.UnaryCall(request, compression=compression, timeout=TIMEOUT), LARGE_RESPONSE)

    if peer.probe:
        expect_code(lambda: call(True, grpc.Compression.NoCompression), grpc.StatusCode.INVALID_ARGUMENT)
    call(True, grpc.Compression.Gzip)
    call(False, grpc.Compression.NoCompression)


def server_compressed_unary(peer):
    for compressed in (True, False):
        request = large_request(peer)
        request.response_compressed.value = compressed
        expect_size(peer.stub.UnaryCall(request, timeout=TIMEOUT), LARGE_RESPONSE)


def server_compressed_streaming(peer):
    parameters = [{"compressed": {"value": True}, "size": 31415}, {"compressed": {"value": False}, "size": 92653}]
    call = peer.stub.StreamingOutputCall(peer.output(response_parameters=parameters), timeout=TIMEOUT)
    expect_sizes(call, [31415, 92653])


def concurrent_large_unary(peer):
    calls = [peer.stub.UnaryCall.future(large_request(peer), timeout=TIMEOUT) for _ in range(CONCURRENT)]
    for call in calls:
        expect_size(call.result(), LARGE_RESPONSE)


def client_push_back(peer):
    taken, longest = 0, 0
    ended = threading.Event()

    def requests():
        nonlocal taken, longest
        pause = {"size": 1, "interval_us": int(PUSH_PAUSE * 1e6)}
        yield peer.output(response_parameters=[pause])
        for _ in range(PUSH_COUNT):
            begun = time.monotonic()
            # grpcio comes for the next one when it has sent this one.
            yield peer.output(payload={"body": bytes(PUSH_MESSAGE)})
            taken, longest = taken + PUSH_MESSAGE, max(longest, time.monotonic() - begun)
        yield peer.output(response_parameters=[{"size": 9}])
        ended.set()

    call = peer.stub.FullDuplexCall(requests(), timeout=TIMEOUT)
    expect_size(next(call), 1)
    held = taken
    expect_sizes(call, [9])
    expect(ended.is_set(), "the call succeeded before its last request was sent")
    if held > PUSH_LIMIT or longest < PUSH_STILL:
        raise Wrong(f"a server that did not read was sent {held} bytes; the longest wait was {longest:.1f} s")


def cancel_before_start(peer):
    """In asyncio: the blocking API starts a call as it makes it."""

    async def run():
        async with grpc.aio.insecure_channel(peer.target) as channel:
            stub = peer.protos.stub(channel, "grpc.testing.TestService")
            call = stub.UnaryCall(large_request(peer), timeout=TIMEOUT)
            call.cancel()
            code = await call.code()
            expect(code == grpc.StatusCode.CANCELLED, f"{code} in place of CANCELLED")
            await stub.EmptyCall(peer.empty(), timeout=TIMEOUT)

    asyncio.run(run())


def large_header(peer):
    value = "X" * HEADER_SIZE
    request, metadata = large_request(peer), [(ECHO_INITIAL, value)]
    response, call = peer.stub.UnaryCall.with_call(request, metadata=metadata, timeout=TIMEOUT)
    expect_size(response, LARGE_RESPONSE)
    values = [entry.value for entry in call.initial_metadata() if entry.key == ECHO_INITIAL]
    expect(values == [value], f"{len(values)} values came back, of {sum(map(len, values))} bytes in all")


def server_replies_first(peer):
    requests = Requests()
    call = peer.stub.FullDuplexCall(iter(requests), metadata=[(REPLY_FIRST, "31415")], timeout=TIMEOUT)
    expect_size(next(call), 31415)
    requests.send(peer.output(response_parameters=[{"size": 9}], payload={"body": bytes(8)}))
    expect_size(next(call), 9)
    requests.half_close()
    expect_sizes(call, [])


CASES = {
    case.__name__: case
    for case in (
        client_compressed_unary, server_compressed_unary, server_compressed_streaming, concurrent_large_unary,
        client_push_back, cancel_before_start, large_header, server_replies_first,
    )
}  # fmt: skip
