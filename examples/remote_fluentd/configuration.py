"""The daemon's configuration file: checked, then replaced as a whole."""

import asyncio
import contextlib
import hashlib
import os
import pathlib
import tempfile

# A configuration is text written by people.
LONGEST = 1024 * 1024
# Seconds that the daemon's own check may take.
CHECK_TIMEOUT = 30


class Refused(Exception):
    """A configuration that the daemon would not take."""


class Configuration:
    """A file of this path. `check(path)` gives the command that exits 0 if the daemon would take the file there."""

    def __init__(self, path, check=None):
        self.path = pathlib.Path(path).absolute()
        self.check = check

    def sha256(self):
        """Of what the file has now, in hex; empty without a file."""
        try:
            return hashlib.sha256(self.path.read_bytes()).hexdigest()
        except FileNotFoundError:
            return ""

    async def replace(self, text):
        """Puts a new file in place of the old one, or raises Refused and changes nothing.

        Whoever opens the path finds all of the old or all of the new, also after a crash in the middle.
        """
        content = text.encode()
        if not text.strip():
            raise Refused("an empty configuration; send all of it")
        if len(content) > LONGEST:
            raise Refused(f"a configuration of {len(content)} bytes; at most {LONGEST} are taken")
        with self._beside(content) as candidate:
            if self.check:
                await self._expect_good(candidate)
            os.replace(candidate, self.path)
        with opened(self.path.parent) as folder:
            os.fsync(folder)

    @contextlib.contextmanager
    def _beside(self, content):
        """The content in a file of its own, in the same folder, so that a rename can move it; removed if none did."""
        descriptor, path = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                # The rename must not reach the disk before the content.
                file.flush()
                os.fsync(file.fileno())
                # Whoever could read the old file can read the new one; a first one is ours alone, as it may have secrets.
                with contextlib.suppress(FileNotFoundError):
                    os.fchmod(file.fileno(), self.path.stat().st_mode & 0o777)
            yield path
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    async def _expect_good(self, path):
        command = self.check(path)
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
        except OSError as error:
            raise Refused(f"cannot check it, as `{command[0]}` does not start: {error}") from error
        try:
            told, _ = await asyncio.wait_for(process.communicate(), CHECK_TIMEOUT)
        except TimeoutError:
            raise Refused(f"`{' '.join(command)}` has not ended within {CHECK_TIMEOUT} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            lines = " / ".join(told.decode(errors="replace").splitlines()[-5:])
            raise Refused(f"`{' '.join(command)}` exited {process.returncode}: {lines}")


@contextlib.contextmanager
def opened(folder):
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
