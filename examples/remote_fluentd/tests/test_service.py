"""The service, without a network: its methods are called as gRPC would call them."""

import asyncio
import hashlib

import grpc

from daemon import Daemon
from server import LONGEST_GRACE, Fluentd, pb
from tests.fixtures import PATIENCE, STAND_IN, WithDaemon, until


class Aborted(Exception):
    pass


class Context:
    """As much of a call's context as the service uses."""

    async def abort(self, code, details):
        raise Aborted(code, details)


class Service(WithDaemon):
    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.fluentd = Fluentd(self.daemon, self.configuration)

    async def call(self, method, request):
        return await getattr(self.fluentd, method)(request, Context())

    async def expect_abort(self, method, request, code, *words):
        with self.assertRaises(Aborted) as aborted:
            await self.call(method, request)
        found, details = aborted.exception.args
        self.assertEqual(found, code, details)
        for word in words:
            self.assertIn(word, details)

    async def test_a_life(self):
        before = await self.call("Status", pb.StatusRequest())
        self.assertEqual((before.running, before.pid, before.starts), (False, 0, 0))
        self.assertFalse(before.HasField("uptime") or before.HasField("last_exit"))

        started = await self.call("Start", pb.StartRequest())
        self.assertTrue(started.running)
        self.assertEqual(started.pid, self.daemon.process.pid)
        self.assertGreater(started.uptime.ToNanoseconds(), 0)
        await self.written("loaded first")

        configured = await self.call("Configure", pb.ConfigureRequest(configuration="tag second\n"))
        self.assertEqual((configured.pid, configured.reloads), (started.pid, 1))
        self.assertEqual(configured.configuration_sha256, hashlib.sha256(b"tag second\n").hexdigest())
        await self.written("loaded second")
        self.assertEqual(list((await self.call("Status", pb.StatusRequest())).output)[-1], "loaded second")

        stopped = await self.call("Stop", pb.StopRequest())
        self.assertEqual((stopped.running, stopped.pid, stopped.last_exit.code), (False, 0, 0))
        self.assertEqual(stopped.last_exit.WhichOneof("how"), "code")
        self.assertGreater(stopped.last_exit.uptime.ToNanoseconds(), 0)

    async def test_it_may_be_configured_before_it_runs(self):
        self.file.unlink()
        configured = await self.call("Configure", pb.ConfigureRequest(configuration="tag second\n"))
        self.assertEqual((configured.running, configured.reloads), (False, 0))
        await self.call("Start", pb.StartRequest())
        await self.written("loaded second")

    async def test_the_grace_is_the_callers(self):
        self.file.write_text("tag first\ndeaf\n")
        await self.call("Start", pb.StartRequest())
        await self.written("loaded first")
        request = pb.StopRequest()
        request.grace.FromMilliseconds(100)
        stopped = await self.call("Stop", request)
        self.assertEqual(stopped.last_exit.signal, "SIGKILL")

    async def test_a_grace_without_end_is_refused(self):
        for seconds in (-1, LONGEST_GRACE + 1, 10**11):
            request = pb.StopRequest()
            request.grace.seconds = seconds
            await self.expect_abort("Stop", request, grpc.StatusCode.INVALID_ARGUMENT, f"{seconds:g} s")

    async def test_a_bad_configuration_changes_nothing(self):
        started = await self.call("Start", pb.StartRequest())
        request = pb.ConfigureRequest(configuration="tga second\n")
        await self.expect_abort("Configure", request, grpc.StatusCode.INVALID_ARGUMENT, "unknown ['tga']")
        state = await self.call("Status", pb.StatusRequest())
        self.assertEqual((state.pid, state.reloads), (started.pid, 0))
        self.assertEqual(state.configuration_sha256, started.configuration_sha256)

    async def test_a_file_that_cannot_be_written(self):
        self.configuration.path = self.folder / "no-such-folder" / "file"
        request = pb.ConfigureRequest(configuration="tag second\n")
        await self.expect_abort("Configure", request, grpc.StatusCode.INTERNAL, "cannot write", "no-such-folder")

    async def test_a_daemon_that_ends_at_once(self):
        self.file.write_text("tag first\nexit 3\n")
        self.fluentd.daemon = Daemon([*STAND_IN, str(self.file)], settle=PATIENCE)
        code = grpc.StatusCode.FAILED_PRECONDITION
        await self.expect_abort("Start", pb.StartRequest(), code, "exit code 3", "loaded first")
        state = await self.call("Status", pb.StatusRequest())
        self.assertEqual((state.running, state.last_exit.code, state.starts), (False, 3, 1))

    async def test_a_caller_who_goes_away_stops_nothing_half_way(self):
        self.file.write_text("tag first\ndeaf\n")
        await self.call("Start", pb.StartRequest())
        await self.written("loaded first")
        request = pb.StopRequest()
        request.grace.FromMilliseconds(300)
        stopping = asyncio.create_task(self.call("Stop", request))
        await until(lambda: self.fluentd.one_at_a_time.locked(), lambda: "nothing is being stopped")
        stopping.cancel()
        await until(lambda: not self.daemon.running, lambda: "the daemon still runs")
        self.assertEqual(self.daemon.last_exit.signal, "SIGKILL")

    async def test_two_starts_at_once_start_one(self):
        states = await asyncio.gather(*(self.call("Start", pb.StartRequest()) for _ in range(2)))
        self.assertEqual({state.pid for state in states}, {self.daemon.process.pid})
        self.assertEqual(self.daemon.starts, 1)
