"""The daemon as a child process."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys

from daemon import OUTPUT_LINES, Daemon, NotStarted, ending_with_us
from tests.fixtures import PATIENCE, STAND_IN, WithDaemon, alive, until


class Running(WithDaemon):
    async def test_starts_and_stops(self):
        self.assertFalse(self.daemon.running)
        await self.daemon.start()
        await self.written("loaded first")
        pid = self.daemon.process.pid
        self.assertTrue(self.daemon.running)
        self.assertTrue(alive(pid))
        self.assertGreater(self.daemon.uptime, 0)
        await self.daemon.stop(PATIENCE)
        self.assertFalse(self.daemon.running)
        self.assertFalse(alive(pid))
        self.assertEqual(self.daemon.last_exit.code, 0)
        self.assertIn("stopping", self.daemon.output.lines())

    async def test_starts_once(self):
        await self.daemon.start()
        pid = self.daemon.process.pid
        await self.daemon.start()
        self.assertEqual(self.daemon.process.pid, pid)
        self.assertEqual(self.daemon.starts, 1)

    async def test_stops_what_does_not_run(self):
        await self.daemon.stop(0)
        self.assertIsNone(self.daemon.last_exit)

    async def test_starts_again_with_nothing_of_the_last_run(self):
        await self.daemon.start()
        await self.written("loaded first")
        await self.daemon.stop(PATIENCE)
        self.file.write_text("tag second\n")
        await self.daemon.start()
        await self.written("loaded second")
        self.assertNotIn("loaded first", self.daemon.output.lines())
        self.assertEqual(self.daemon.starts, 2)

    async def test_reads_its_configuration_again_as_the_same_process(self):
        await self.daemon.start()
        await self.written("loaded first")
        pid = self.daemon.process.pid
        self.file.write_text("tag second\n")
        self.daemon.reload()
        await self.written("loaded second")
        self.assertEqual(self.daemon.process.pid, pid)
        self.assertEqual(self.daemon.reloads, 1)

    async def test_tells_an_exit_that_nobody_asked_for(self):
        await self.daemon.start()
        await self.written("loaded first")
        self.file.write_text("tag second\nexit 7\n")
        self.daemon.reload()
        await until(lambda: not self.daemon.running, lambda: "the daemon still runs")
        self.assertEqual(self.daemon.last_exit.code, 7)
        self.assertEqual(self.daemon.output.lines()[-1], "loaded second")

    async def test_kills_what_does_not_stop(self):
        self.file.write_text("tag first\ndeaf\n")
        await self.daemon.start()
        await self.written("loaded first")
        await self.daemon.stop(0.1)
        self.assertEqual(self.daemon.last_exit.signal, "SIGKILL")
        self.assertIsNone(self.daemon.last_exit.code)

    async def test_leaves_no_worker_behind(self):
        await self.expect_no_worker_after(lambda: self.daemon.stop(PATIENCE))

    async def test_leaves_no_worker_behind_a_crash(self):
        async def crash():
            self.daemon.process.kill()

        await self.expect_no_worker_after(crash)

    async def expect_no_worker_after(self, end):
        self.file.write_text("tag first\nworker\n")
        await self.daemon.start()
        await until(lambda: len(self.daemon.output.lines()) == 2, self.daemon.output.lines)
        worker = int(self.daemon.output.lines()[1].removeprefix("worker "))
        self.end_with_test(worker)
        self.assertTrue(alive(worker))
        await end()
        await until(lambda: not alive(worker), lambda: f"worker {worker} still runs")

    async def test_keeps_the_end_of_a_long_output(self):
        self.daemon.command = ["seq", "100000"]
        await self.daemon.start()
        await self.daemon.watcher
        lines = self.daemon.output.lines()
        self.assertEqual(lines, [str(number) for number in range(100001 - OUTPUT_LINES, 100001)])


class NotRunning(WithDaemon):
    async def test_a_command_that_is_not_there(self):
        daemon = Daemon(["no-such-fluentd"])
        with self.assertRaisesRegex(NotStarted, "no command `no-such-fluentd`"):
            await daemon.start()
        self.assertFalse(daemon.running)

    async def test_one_that_ends_at_once_says_why(self):
        self.file.write_text("tga first\n")
        daemon = Daemon([*STAND_IN, str(self.file)], settle=PATIENCE)
        with self.assertRaisesRegex(NotStarted, "ended at once, with exit code 1; it wrote: .*unknown .'tga'"):
            await daemon.start()
        self.assertFalse(daemon.running)
        self.assertEqual(daemon.starts, 1)

    async def test_one_that_lasts_has_started(self):
        daemon = Daemon([*STAND_IN, str(self.file)], settle=0.2)
        self.addAsyncCleanup(daemon.stop, 0)
        await daemon.start()
        self.assertGreaterEqual(daemon.uptime, 0.2)
        self.assertTrue(daemon.running)


class Orphans(WithDaemon):
    async def test_it_ends_with_a_service_that_is_killed(self):
        if not ending_with_us():
            self.skipTest("no setpriv on this machine")
        # A process that starts the daemon and tells its pid, as the service would.
        program = (
            "import asyncio, sys; from daemon import Daemon\n"
            "async def main():\n"
            "    daemon = Daemon(sys.argv[1:], settle=0); await daemon.start()\n"
            "    while 'loaded first' not in daemon.output.lines(): await asyncio.sleep(0.01)\n"
            "    print(daemon.process.pid, flush=True); await daemon.watcher\n"
            "asyncio.run(main())"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, *STAND_IN, str(self.file)],
            cwd=os.path.dirname(os.path.dirname(__file__)), stdout=subprocess.PIPE, text=True,
        ) as service:  # fmt: skip
            try:
                pid = int(await asyncio.to_thread(service.stdout.readline))
                self.end_with_test(pid)
                self.assertTrue(alive(pid))
            finally:
                with contextlib.suppress(ProcessLookupError):
                    service.send_signal(signal.SIGKILL)
        await until(lambda: not alive(pid), lambda: f"{pid} still runs")
