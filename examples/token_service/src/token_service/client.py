"""Asks a token service, on a stream that is opened again whenever it is lost.

    async with grpc.aio.insecure_channel("127.0.0.1:9090", options=CHANNEL_OPTIONS) as channel:
        async with ValidationStream(channel, metadata=[("adit-agent", "site-1")]) as stream:
            answer = await stream.validate(token)

A request that was not answered when its stream was lost is sent again on the next one, which is right because what the
service says of a token does not depend on how often it was asked. Whoever asked gets one answer, or one error.
"""

import asyncio
import contextlib
import logging
import random
from dataclasses import dataclass

import grpc

from token_service import LONGEST_TOKEN
from token_service.v1 import tokens_pb2, tokens_pb2_grpc

log = logging.getLogger("token_service")

# For the channel: after a broken connection gRPC waits for up to two minutes, unless told otherwise.
CHANNEL_OPTIONS = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 2000)]

# How a stream ends that may go on elsewhere, or later; any other status is the service's own refusal.
# CANCELLED: not by us, so somebody on the way has given it up.
LOST = {
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
}
# What grpc.aio says if a request could not be written, and how the call has ended is not known yet. It then never tells
# that, so a refusal is known as such on one of the next tries, when nothing is being written at that moment.
UNKNOWN_END = "Internal error from Core"


@dataclass(frozen=True)
class Settings:
    """Seconds, but for the first."""

    # Requests that may be unanswered at a time: what they hold is bounded, and so is what is sent again.
    in_flight: int = 256
    # What a request may take from when it was given to us, all streams together.
    patience: float = 60.0
    # A stream on which nothing is answered for so long, though something was asked, is given up as lost.
    silence: float = 10.0
    # Before a lost stream is opened again: a random time, up to the first after one that had answers, and up to the last
    # after many that had none.
    first_pause: float = 0.1
    last_pause: float = 3.0
    # What the service has to end the stream when we close it.
    farewell: float = 2.0


class Unanswered(Exception):
    """A request had no answer in time. The message says what last happened to the stream."""


class Closed(Exception):
    """The stream was closed, or refused by the service, before the answer."""


class ValidationStream:
    """Many `ValidateStream` calls, one after the other, that look like one which is never lost.

    Of its attributes, `opened` counts the calls, `repeated` the requests that were sent again, `answers` those that
    were answered, and `surplus` the answers that nobody waited for any more: those are dropped.
    """

    def __init__(self, channel, metadata=(), settings=None):
        self.settings = settings or Settings()
        self.stub = tokens_pb2_grpc.TokenServiceStub(channel)
        self.metadata = tuple(metadata)
        self.free = asyncio.Semaphore(self.settings.in_flight)
        # By id, in the order in which they were asked.
        self.unanswered = {}
        self.to_send = asyncio.Queue()
        self.last_id = 0
        # When the stream last gave a sign of life, or was last given something to answer.
        self.heard = 0.0
        self.last_loss = "the service was not reached"
        self.end = None
        self.task = None
        self.opened = self.repeated = self.answers = self.surplus = 0

    async def __aenter__(self):
        self.task = asyncio.create_task(self._keep_open())
        return self

    async def __aexit__(self, *_):
        self._finish(Closed("the stream was closed before the answer"))
        self.to_send.put_nowait(None)
        await asyncio.wait([self.task], timeout=self.settings.farewell)
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def validate(self, token):
        """The answer for a token: a `ValidateResponse`. Raises Unanswered, Closed, or ValueError."""
        return await (await self.submit(token))

    async def submit(self, token):
        """Asks for a token, and gives the answer's future. While too many are unanswered, it waits first."""
        self.last_id += 1
        request = tokens_pb2.ValidateRequest(id=self.last_id, token=token)
        if len(token) > LONGEST_TOKEN:
            # It could be so long that the service refuses the message, and every stream on which it is sent again.
            raise ValueError(f"{len(token)} characters; a token has {LONGEST_TOKEN} at the most")
        await self.free.acquire()
        if self.end:
            self.free.release()
            raise self.end
        loop = asyncio.get_running_loop()
        if not self.unanswered:
            self.heard = loop.time()
        timer = loop.call_later(self.settings.patience, self._give_up, request.id)
        pending = self.unanswered[request.id] = Pending(request, loop.create_future(), timer)
        self.to_send.put_nowait(pending)
        return pending.future

    async def _keep_open(self):
        pause = self.settings.first_pause
        while not self.end:
            answers = self.answers
            try:
                await self._one_call()
                self.last_loss = "the service ended the stream"
            except grpc.RpcError as error:
                self.last_loss = f"{error.code().name} “{error.details()}”"
                if error.code() not in LOST and error.details() != UNKNOWN_END:
                    self._finish(Closed(f"the service refuses the stream: {self.last_loss}"))
            except Silence as silence:
                self.last_loss = str(silence)
            if self.end:
                return
            log.info("the stream is lost, with %d unanswered: %s", len(self.unanswered), self.last_loss)
            if self.answers > answers:
                pause = self.settings.first_pause
            await asyncio.sleep(random.uniform(0, pause))
            pause = min(pause * 2, self.settings.last_pause)

    async def _one_call(self):
        """Asks in one call for whatever is unanswered, and hands out the answers until it ends."""
        loop = asyncio.get_running_loop()
        self.opened += 1
        self.heard = loop.time()
        self.to_send = asyncio.Queue()
        for pending in self.unanswered.values():
            self.to_send.put_nowait(pending)
        call = self.stub.ValidateStream(metadata=self.metadata)
        sender = asyncio.create_task(self._send(call, self.to_send))
        watch = asyncio.create_task(self._expect_answers(call))
        try:
            async for answer in call:
                self.heard = loop.time()
                if pending := self._forget(answer.id):
                    self.answers += 1
                    pending.settle(answer)
                else:
                    self.surplus += 1
        except asyncio.CancelledError:
            # Either the watch has given up the call, or we are being stopped.
            if watch.done():
                raise Silence(f"no answer for {self.settings.silence:g} s") from None
            raise
        finally:
            call.cancel()
            for task in (sender, watch):
                task.cancel()
            await asyncio.gather(sender, watch, return_exceptions=True)

    async def _send(self, call, to_send):
        """Sends what is asked, and says so once nothing more will be."""
        while pending := await to_send.get():
            if pending.request.id in self.unanswered:
                self.repeated += pending.sent
                pending.sent = True
                # If this fails, so does the reading, which knows more of the reason.
                await call.write(pending.request)
        await call.done_writing()

    async def _expect_answers(self, call):
        """Cancels a call that has gone silent."""
        silence = self.settings.silence
        while True:
            await asyncio.sleep(silence / 4)
            if self.unanswered and asyncio.get_running_loop().time() - self.heard > silence:
                call.cancel()
                return

    def _give_up(self, request_id):
        message = f"no answer in {self.settings.patience:g} s; the last that happened: {self.last_loss}"
        self._forget(request_id).settle(Unanswered(message))

    def _finish(self, error):
        """Nothing is asked any more, and nothing answered."""
        self.end = self.end or error
        for request_id in list(self.unanswered):
            self._forget(request_id).settle(self.end)

    def _forget(self, request_id):
        """Takes a request from those that are unanswered; None if it is not one of them."""
        pending = self.unanswered.pop(request_id, None)
        if pending:
            pending.timer.cancel()
            self.free.release()
        return pending


class Pending:
    """A request that is unanswered."""

    def __init__(self, request, future, timer):
        self.request = request
        self.future = future
        self.timer = timer
        self.sent = False

    def settle(self, outcome):
        """Tells whoever asked; he may have stopped waiting."""
        if self.future.done():
            return
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


class Silence(Exception):
    """A call that was given up because nothing came back."""
