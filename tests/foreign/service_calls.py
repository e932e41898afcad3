"""Calls of gRPC's test service, as examples/foreign_agents serve it, at agents that are named."""

import contextlib
import queue
import sys
import threading
import time

import grpc

from tunnel import POLL, ROOT, Failure

SAMPLE = ROOT / "examples/foreign_agents"
sys.path.insert(0, str(SAMPLE / "proto"))
pb, services = grpc.protos_and_services("test_service.proto")

# Seconds; only ever waited out by a failure.
CALL_TIMEOUT = 60

# The metadata that the service sends back.
INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"


class Held:
    """A call that has begun, and ends well when it is told to."""

    def __init__(self, channel, agent):
        self.channel, self.last = channel, threading.Event()
        stub = services.TestServiceStub(channel)
        self.call = stub.FullDuplexCall(self.requests(), metadata=at(agent), timeout=CALL_TIMEOUT)
        expect(len(next(self.call).payload.body), 1)

    def requests(self):
        yield wanting(1)
        self.last.wait(CALL_TIMEOUT)
        yield wanting(2)

    def end(self):
        self.last.set()
        with self.channel:
            expect([len(answer.payload.body) for answer in self.call], [2])


class Caller:
    """Calls to one agent, one after another, for as long as the block runs."""

    def __init__(self, target, agent):
        self.target, self.agent = target, agent
        self.answered, self.failures = 0, []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.call)

    def call(self):
        with grpc.insecure_channel(self.target) as channel:
            while not self.over.is_set():
                call = services.TestServiceStub(channel).EmptyCall
                error = failure_of(call, pb.Empty(), self.agent, may_succeed=True)
                if error is None:
                    self.answered += 1
                else:
                    self.failures.append(f"{error.code().name} {adit(error)} {error.details()}")

    def answers(self, count):
        """Waits for this many more answers."""
        wanted, deadline = self.answered + count, time.monotonic() + CALL_TIMEOUT
        while self.answered < wanted:
            if self.failures or time.monotonic() > deadline:
                raise Failure(f"{wanted - self.answered} of {count} answers are missing; failures: {self.failures[:3]}")
            time.sleep(POLL)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def ping_pong(stub, sizes, after_the_first=lambda: None, **to):
    """A bidirectional call in which each request waits for the answer to the one before it."""
    answers = queue.SimpleQueue()
    call = stub.FullDuplexCall((wanting(size) for size in iter(answers.get, None)), **to)
    for index, size in enumerate(sizes):
        answers.put(size)
        expect(len(next(call).payload.body), size)
        if index == 0:
            after_the_first()
    answers.put(None)
    expect(list(call), [])


@contextlib.contextmanager
def endless():
    """A request stream without messages that ends with the block."""
    over = threading.Event()
    try:
        yield iter(lambda: over.wait(CALL_TIMEOUT), True)
    finally:
        over.set()


def failure_of(call, request, agent, *metadata, timeout=CALL_TIMEOUT, may_succeed=False):
    """The error that a call ends with."""
    try:
        response = call(request, metadata=at(agent, *metadata), timeout=timeout)
        if isinstance(response, grpc.Call):
            response = list(response)
    except grpc.RpcError as error:
        return error
    if not may_succeed:
        raise Failure(f"a call to {agent} was to fail, and gave {response!r:.200}")
    return None


def at(agent, *more):
    return [("adit-agent", agent), *more]


def sized(size):
    return pb.Payload(body=bytes(size))


def wanting(*sizes):
    return pb.StreamingOutputCallRequest(response_parameters=[pb.ResponseParameters(size=size) for size in sizes])


def echoes(metadata):
    return [(key, value) for key, value in metadata or () if key in (INITIAL, TRAILING)]


def adit(error):
    return {key: value for key, value in error.trailing_metadata() or () if key.startswith("adit-")}


def expect(found, wanted):
    if found != wanted:
        raise Failure(f"{found!r:.500} in place of {wanted!r:.500}")
