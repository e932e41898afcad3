"""A daemon as a child process: started, stopped, told to read its configuration again, and watched until its end."""

import asyncio
import contextlib
import os
import shutil
import signal
import time

# Seconds that a new process is watched before it counts as started: a bad configuration ends it within these.
SETTLE = 0.5
# Of what the daemon writes, the end is kept: this much of it, and of that so many lines.
OUTPUT_BYTES = 4096
OUTPUT_LINES = 20


class NotStarted(Exception):
    """The daemon could not be started, or ended at once."""


class Daemon:
    """One daemon, which runs or does not. Its methods are called one at a time, on one event loop."""

    def __init__(self, command, settle=SETTLE):
        self.command = command
        self.settle = settle
        self.process = None
        self.watcher = None
        self.began = None
        self.last_exit = None
        self.starts = 0
        self.reloads = 0
        self.output = Output()

    @property
    def running(self):
        return self.watcher is not None and not self.watcher.done()

    @property
    def uptime(self):
        return time.monotonic() - self.began

    async def start(self):
        """Starts the daemon unless it runs. Raises NotStarted if it does not last for the first moments."""
        if self.running:
            return
        program = shutil.which(self.command[0])
        if program is None:
            raise NotStarted(f"there is no command `{self.command[0]}` in the PATH of this service")
        self.output.close()
        self.output = Output()
        # A session of its own: its workers are stopped with it, and a Ctrl-C in our terminal is ours alone.
        with self.output.written_through() as pipe:
            try:
                self.process = await asyncio.create_subprocess_exec(
                    *ending_with_us(), program, *self.command[1:],
                    stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise NotStarted(f"cannot start `{program}`: {error}") from error
        self.began = time.monotonic()
        self.starts += 1
        self.reloads = 0
        self.watcher = asyncio.create_task(self._watch(self.process))
        await asyncio.wait([self.watcher], timeout=self.settle)
        if not self.running:
            told = " / ".join(self.output.lines()) or "nothing"
            raise NotStarted(f"`{' '.join(self.command)}` ended at once, {self.last_exit}; it wrote: {told}")

    async def stop(self, grace):
        """Stops the daemon if it runs: SIGTERM, and SIGKILL after so many seconds."""
        if not self.running:
            return
        self._signal(signal.SIGTERM)
        await asyncio.wait([self.watcher], timeout=grace)
        self._signal(signal.SIGKILL)
        await self.watcher

    def reload(self):
        """Makes the daemon read its configuration again, if it runs."""
        if self.running:
            self.process.send_signal(signal.SIGHUP)
            self.reloads += 1

    async def _watch(self, process):
        await process.wait()
        # Workers that outlived their supervisor would fight with those of the next run.
        self._signal(signal.SIGKILL)
        self.output.drain()
        self.last_exit = Exit(process.returncode, self.uptime)

    def _signal(self, number):
        """To all processes of the daemon; it is right that there may be none left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


class Exit:
    """How a run ended."""

    def __init__(self, returncode, uptime):
        self.code = returncode if returncode >= 0 else None
        self.signal = signal.Signals(-returncode).name if returncode < 0 else None
        self.uptime = uptime

    def __str__(self):
        return f"by {self.signal}" if self.signal else f"with exit code {self.code}"


class Output:
    """The end of what the daemon and its workers write.

    The pipe is ours and not asyncio's: that one would hold back the news of the daemon's end for as long as any of its
    workers had the pipe open.
    """

    def __init__(self):
        self.kept = b""
        self.source = None

    @contextlib.contextmanager
    def written_through(self):
        """The end of a pipe to give to a child; the other one is read until all its writers have gone."""
        self.source, sink = os.pipe()
        os.set_blocking(self.source, False)
        asyncio.get_running_loop().add_reader(self.source, self._read)
        try:
            yield sink
        finally:
            os.close(sink)

    def lines(self):
        return self.kept.decode(errors="replace").splitlines()[-OUTPUT_LINES:]

    def drain(self):
        """Reads what is there."""
        while self._read():
            pass

    def close(self):
        if self.source is not None:
            asyncio.get_running_loop().remove_reader(self.source)
            os.close(self.source)
            self.source = None

    def _read(self):
        """Reads a piece. False if there is none now."""
        if self.source is None:
            return False
        try:
            piece = os.read(self.source, OUTPUT_BYTES)
        except BlockingIOError:
            return False
        if not piece:
            self.close()
            return False
        self.kept = (self.kept + piece)[-OUTPUT_BYTES:]
        return True


def ending_with_us():
    """What makes a command end when this process does, however that happens (Linux)."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
