"""gRPC's test service (../proto/test_service.proto), as far as it is here."""

import asyncio
import pathlib
import sys

import grpc
from grpc_calls import INVALID_ARGUMENT, Status, values

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "proto"))
pb = grpc.protos("test_service.proto")

INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"


async def empty_call(call):
    await one(call, pb.Empty)
    await call.write(b"")


async def unary_call(call):
    request = await one(call, pb.SimpleRequest)
    refuse(request)
    await call.write(pb.SimpleResponse(payload=payload(request.response_size)).SerializeToString())


async def streaming_output_call(call):
    request = await one(call, pb.StreamingOutputCallRequest)
    call.send_head()
    await answers(call, request)


async def streaming_input_call(call):
    size = 0
    async for message in call:
        size += len(pb.StreamingInputCallRequest.FromString(message).payload.body)
    await call.write(pb.StreamingInputCallResponse(aggregated_payload_size=size).SerializeToString())


async def full_duplex_call(call):
    call.send_head()
    async for message in call:
        request = pb.StreamingOutputCallRequest.FromString(message)
        refuse(request)
        await answers(call, request)


async def answers(call, request):
    for wanted in request.response_parameters:
        await asyncio.sleep(wanted.interval_us / 1e6)
        await call.write(pb.StreamingOutputCallResponse(payload=payload(wanted.size)).SerializeToString())


async def one(call, kind):
    """The only message of a request."""
    messages = [message async for message in call]
    if len(messages) != 1:
        raise Status(INVALID_ARGUMENT, f"{len(messages)} messages in place of one")
    return kind.FromString(messages[0])


def refuse(request):
    if request.response_status.code:
        raise Status(request.response_status.code, request.response_status.message)


def payload(size):
    if size < 0:
        raise Status(INVALID_ARGUMENT, f"a payload of {size} bytes")
    return pb.Payload(body=bytes(size))


def echoing(method):
    """The method, with the metadata sent back that the service's description says."""

    async def run(call):
        call.initial += [(INITIAL, value) for value in values(call.metadata, INITIAL)]
        call.trailing += [(TRAILING, value) for value in values(call.metadata, TRAILING)]
        await method(call)

    return run


METHODS = {
    f"/grpc.testing.TestService/{name}": echoing(method)
    for name, method in {
        "EmptyCall": empty_call,
        "UnaryCall": unary_call,
        "StreamingOutputCall": streaming_output_call,
        "StreamingInputCall": streaming_input_call,
        "FullDuplexCall": full_duplex_call,
    }.items()
}
