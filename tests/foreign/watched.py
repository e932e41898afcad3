"""Calls that run beside a suite, how they end, and what may be said of the times that they took."""

import itertools
import math
import queue
import threading
import time

import grpc
import numbered
from programs import wait_until
from tunnel import START_TIMEOUT, Failure

# Seconds for one call: none takes it.
CALL_TIMEOUT = 60


class Background:
    """What a call gives, which runs beside us."""

    def __init__(self, call):
        self.outcome = queue.Queue(1)
        self.ended_at = None
        self.thread = threading.Thread(target=self.run, args=(call,), daemon=True)
        self.thread.start()

    def run(self, call):
        try:
            outcome = call(), None
        except (grpc.RpcError, numbered.Wrong) as error:
            outcome = None, error
        self.ended_at = time.monotonic()
        self.outcome.put(outcome)

    def wait(self):
        try:
            return self.outcome.get(timeout=CALL_TIMEOUT + START_TIMEOUT)
        except queue.Empty:
            raise Failure("a stream has not ended") from None

    def result(self):
        result, error = self.wait()
        if error:
            raise Failure(f"a stream failed: {error!r}")
        return result


class Held:
    """A call that waits for more, and notes when it fails."""

    def __init__(self, client, answered=True):
        self.requests = queue.Queue()
        self.requests.put(numbered.message(0))
        self.begun, self.at = time.monotonic(), None
        self.call = client.held(iter(self.requests.get, None), timeout=CALL_TIMEOUT)
        self.call.add_callback(self.note)
        if answered:
            numbered.check(next(self.call), 0)
        self.ended = Background(lambda: next(self.call, None))

    def note(self):
        self.at = time.monotonic()

    def failed(self):
        expect_lost(self.ended)
        self.requests.put(None)
        return wait_until("the call's end is noted", lambda: self.at)


def expect_lost(stream):
    result, error = stream.wait()
    if not isinstance(error, grpc.RpcError):
        raise Failure(f"a call went on without its link: {result!r} {error!r}")
    metadata = dict(error.trailing_metadata() or ())
    found = (error.code().name, metadata.get("adit-error"), metadata.get("adit-delivered"))
    if found != ("UNAVAILABLE", "link-lost", "maybe"):
        raise Failure(f"a call whose link was lost ended with {found}: {error.details()}")


def longest(arrivals, since=0, until=math.inf):
    """The longest silence between two messages of those that go on after `since` and begin before `until`; its begin, its end."""
    silences = itertools.pairwise(arrivals)
    return max((after - before, before, after) for before, after in silences if after > since and before < until)


def expect_within(what, seconds, limit):
    if seconds > limit:
        raise Failure(f"{what} took {told(seconds)}, and may take {told(limit)}")


def told(seconds):
    return f"{seconds:.2f} s" if abs(seconds) >= 1 else f"{seconds * 1000:.0f} ms"
