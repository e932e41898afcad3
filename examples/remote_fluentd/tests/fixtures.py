"""What the tests share: a folder of their own, the stand-in as the daemon, and waiting for what it writes."""

import asyncio
import os
import pathlib
import signal
import sys
import tempfile
import unittest

from configuration import Configuration
from daemon import Daemon

STAND_IN = [sys.executable, str(pathlib.Path(__file__).parent / "stand_in.py")]
# Seconds. Generous for a busy machine: only a failure waits them out.
PATIENCE = 30


class WithDaemon(unittest.IsolatedAsyncioTestCase):
    """A daemon that is stopped when the test ends, and its file, which holds `tag first`."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="remote-fluentd-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.file = self.folder / "stand-in.conf"
        self.file.write_text("tag first\n")

    async def asyncSetUp(self):
        # Which unittest switches on, and which reports every pause of a busy machine.
        asyncio.get_running_loop().set_debug(False)
        self.daemon = Daemon([*STAND_IN, str(self.file)], settle=0)
        self.configuration = Configuration(self.file, lambda path: [*STAND_IN, "--check", path])
        self.addAsyncCleanup(self.daemon.stop, 0)

    def end_with_test(self, pid):
        """For a process that ought to end by itself: if it does not, nothing but the test shall fail."""
        self.addCleanup(lambda: alive(pid) and os.kill(pid, signal.SIGKILL))

    async def written(self, line):
        """Waits until the daemon has written this line."""
        await until(lambda: line in self.daemon.output.lines(), lambda: f"{line!r} in {self.daemon.output.lines()}")


async def until(holds, told):
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not holds():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not in {PATIENCE} s: {told()}")
        await asyncio.sleep(0.01)


def alive(pid):
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
