"""The client's stream, against services that lose it, end it, answer twice, or not at all."""

import asyncio
import random
import socket
import unittest
from unittest import mock

import grpc

from token_service import LONGEST_TOKEN
from token_service.client import CHANNEL_OPTIONS, Closed, Settings, Unanswered, ValidationStream
from token_service.v1 import tokens_pb2, tokens_pb2_grpc

# Seconds. Generous for a busy machine: only a failure waits them out.
PATIENCE = 60
QUICK = {"patience": PATIENCE, "first_pause": 0.01, "last_pause": 0.05, "farewell": 0.5}


class Scripted(tokens_pb2_grpc.TokenServiceServicer):
    """A service whose first stream goes by the first script, and so on; the last one is for all that follow.

    An answer's subject is the token that was asked for.
    """

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        # For each stream the ids that came, and how many streams are open.
        self.received = []
        self.open = 0

    async def ValidateStream(self, requests, context):
        script = self.scripts[min(len(self.received), len(self.scripts) - 1)]
        received = []
        self.received.append(received)

        async def noted():
            async for request in requests:
                received.append(request.id)
                yield request

        self.open += 1
        try:
            async for answer in script(noted(), context):
                yield answer
        finally:
            self.open -= 1


async def all_answered(requests, _):
    async for request in requests:
        yield answer_to(request)


async def all_answered_twice(requests, _):
    async for request in requests:
        yield answer_to(request)
        yield answer_to(request)


async def silence(requests, _):
    async for _request in requests:
        pass
    return
    yield


def lost_after(count, code=grpc.StatusCode.UNAVAILABLE):
    """Answers so many, and ends with a status once one more was asked."""

    async def script(requests, context):
        answered = 0
        async for request in requests:
            if answered == count:
                if code != grpc.StatusCode.OK:
                    await context.abort(code, "told so by the test")
                return
            yield answer_to(request)
            answered += 1

    return script


async def lost_at_once(_, context):
    await context.abort(grpc.StatusCode.UNAVAILABLE, "told so by the test")
    yield


def answer_to(request):
    return tokens_pb2.ValidateResponse(id=request.id, verdict=tokens_pb2.VALID, subject=request.token)


class Stream(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        # Which unittest switches on, and which takes most of the time of thousands of requests.
        asyncio.get_running_loop().set_debug(False)
        await self.enterAsyncContext(asyncio.timeout(2 * PATIENCE))

    async def serve(self, *scripts, **settings):
        """A service of these scripts, and a stream to it."""
        service = Scripted(*scripts)
        server = grpc.aio.server()
        tokens_pb2_grpc.add_TokenServiceServicer_to_server(service, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self.addAsyncCleanup(server.stop, 0)
        return service, await self.stream_to(port, **settings)

    async def stream_to(self, port, **settings):
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS)
        await self.enterAsyncContext(channel)
        stream = ValidationStream(channel, settings=Settings(**{**QUICK, **settings}))
        await self.enterAsyncContext(stream)
        return stream

    async def ask(self, stream, count):
        """Asks for so many tokens at once, and expects each one's own answer."""
        answers = await asyncio.gather(*(stream.validate(f"token-{number}") for number in range(count)))
        self.assertEqual([answer.subject for answer in answers], [f"token-{number}" for number in range(count)])

    async def test_one_stream_for_all_that_is_asked(self):
        service, stream = await self.serve(all_answered)
        await self.ask(stream, 1000)
        self.assertEqual((stream.opened, stream.answers, stream.repeated, stream.surplus), (1, 1000, 0, 0))
        self.assertEqual(service.received, [list(range(1, 1001))])

    async def test_what_a_lost_stream_left_is_asked_again_in_order(self):
        service, stream = await self.serve(lost_after(10), all_answered)
        await self.ask(stream, 100)
        self.assertEqual((stream.opened, stream.answers, stream.surplus), (2, 100, 0))
        self.assertEqual(service.received[1], list(range(11, 101)))
        self.assertGreater(stream.repeated, 0)

    async def test_every_way_to_lose_it(self):
        codes = [grpc.StatusCode[name] for name in ("OK", "ABORTED", "CANCELLED", "RESOURCE_EXHAUSTED", "UNAVAILABLE")]
        _, stream = await self.serve(*(lost_after(5, code) for code in codes), all_answered)
        await self.ask(stream, 100)
        self.assertEqual(stream.opened, len(codes) + 1)

    async def test_many_losses_at_any_time(self):
        chance = random.Random(7)
        _, stream = await self.serve(*(lost_after(chance.randrange(60)) for _ in range(50)), all_answered, in_flight=32)
        await self.ask(stream, 3000)
        self.assertEqual((stream.opened, stream.answers, stream.surplus), (51, 3000, 0))
        await stream.__aexit__()
        self.assertEqual([task for task in asyncio.all_tasks() if "ValidationStream" in repr(task)], [])

    async def test_a_second_answer_is_dropped(self):
        _, stream = await self.serve(all_answered_twice)
        await self.ask(stream, 100)
        # The last surplus one may be on its way still.
        await self.until(lambda: stream.surplus == 100)
        self.assertEqual(stream.answers, 100)

    async def test_a_silent_stream_is_given_up(self):
        service, stream = await self.serve(silence, all_answered, silence=0.2)
        await self.ask(stream, 10)
        # On a machine that is busy enough, so may be one that is not silent.
        self.assertGreaterEqual(len(service.received), 2)
        await self.until(lambda: service.open == 1)

    async def test_an_idle_stream_is_not(self):
        _, stream = await self.serve(all_answered)
        await self.ask(stream, 1)
        stream.settings = Settings(silence=0.02)
        call = mock.Mock()
        watch = asyncio.create_task(stream._expect_answers(call))
        # Past the silence many times over.
        await asyncio.sleep(0.3)
        watch.cancel()
        call.cancel.assert_not_called()

    async def test_an_idle_stream_that_is_lost_is_open_again_before_it_is_needed(self):
        service, stream = await self.serve(lost_at_once, all_answered)
        await self.until(lambda: len(service.received) == 2 and service.open == 1)
        await self.ask(stream, 1)
        self.assertEqual((stream.opened, stream.repeated), (2, 0))

    async def test_a_refusal_is_told_to_all_who_wait_and_to_later_ones(self):
        for code in ("UNIMPLEMENTED", "UNAUTHENTICATED", "FAILED_PRECONDITION", "INTERNAL"):
            with self.subTest(code):
                _, stream = await self.serve(lost_after(0, grpc.StatusCode[code]))
                waiting = [await stream.submit("a token") for _ in range(3)]
                for future in waiting:
                    with self.assertRaisesRegex(Closed, f"{code} .told so by the test"):
                        await future
                with self.assertRaisesRegex(Closed, code):
                    await stream.validate("a token")
                self.assertTrue(stream.task.done())

    async def test_patience_has_an_end(self):
        _, stream = await self.serve(lost_at_once, patience=0.3)
        await self.until(lambda: stream.opened > 1)
        with self.assertRaisesRegex(Unanswered, r"in 0.3 s; .*UNAVAILABLE .told so by the test"):
            await stream.validate("a token")

    async def test_nobody_there(self):
        with socket.socket() as taken:
            # Bound, so that nobody else gets the port, and not listening.
            taken.bind(("127.0.0.1", 0))
            stream = await self.stream_to(taken.getsockname()[1], patience=0.3)
            await self.until(lambda: stream.opened > 1)
            with self.assertRaisesRegex(Unanswered, "UNAVAILABLE"):
                await stream.validate("a token")

    async def test_pauses_grow_and_shrink_again(self):
        pauses = []

        def uniform(_, most):
            pauses.append(most)
            return 0

        with mock.patch("token_service.client.random.uniform", uniform):
            scripts = [*[lost_at_once] * 5, lost_after(1), all_answered]
            _, stream = await self.serve(*scripts, first_pause=0.01, last_pause=0.05)
            await self.ask(stream, 2)
        self.assertEqual(pauses, [0.01, 0.02, 0.04, 0.05, 0.05, 0.01])

    async def test_no_more_in_flight_than_allowed(self):
        service, stream = await self.serve(silence, in_flight=4)
        waiting = [await stream.submit("a token") for _ in range(4)]
        fifth = asyncio.create_task(stream.submit("a token"))
        await self.until(lambda: service.received and len(service.received[0]) == 4)
        self.assertFalse(fifth.done())
        await stream.__aexit__()
        for future in [*waiting, fifth]:
            with self.assertRaises(Closed):
                await future

    async def test_one_who_stopped_waiting_holds_up_nobody(self):
        _, stream = await self.serve(all_answered, in_flight=2)
        for _ in range(5):
            (await stream.submit("a token")).cancel()
        await self.ask(stream, 10)

    async def test_a_token_that_is_too_long_breaks_no_stream(self):
        service, stream = await self.serve(all_answered, in_flight=1)
        for bad in ("a" * (LONGEST_TOKEN + 1), "\ud800"):
            with self.assertRaises(ValueError):
                await stream.validate(bad)
        await self.ask(stream, 2)
        self.assertEqual(len(service.received), 1)

    async def test_closing_ends_the_call_in_peace(self):
        service, stream = await self.serve(all_answered, farewell=PATIENCE)
        await self.ask(stream, 1)
        self.assertEqual(service.open, 1)
        begun = asyncio.get_running_loop().time()
        await stream.__aexit__()
        # The service ended it, for being told that this was all: we need not cancel.
        self.assertLess(asyncio.get_running_loop().time() - begun, PATIENCE / 2)
        await self.until(lambda: service.open == 0)
        self.assertTrue(stream.task.done())
        with self.assertRaises(Closed):
            await stream.validate("a token")

    async def until(self, holds):
        """The test's own limit bounds it."""
        while not holds():
            await asyncio.sleep(0.01)
