"""A program on a terminal of its own, and what it shows there."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

import pyte

from programs import END_TIMEOUT
from tunnel import STOP_TIMEOUT, Failure, environment


class Terminal:
    """Runs a program to its end on a terminal of this size; then `lines` are what it shows, and `code` how it ended."""

    def __init__(self, *command, columns, lines):
        self.screen = pyte.Screen(columns, lines)
        shown = pyte.ByteStream(self.screen)
        ours, theirs = pty.openpty()
        try:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
            program = subprocess.Popen(
                command, env=environment() | {"TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs,
                start_new_session=True,
            )  # fmt: skip
            os.close(theirs)
            for part in parts(ours, command, program):
                shown.feed(part)
            self.code = program.wait(STOP_TIMEOUT)
        finally:
            os.close(ours)
        self.lines = [line.rstrip() for line in self.screen.display]


def parts(terminal, command, program):
    """What comes out, until the program has gone."""
    deadline = time.monotonic() + END_TIMEOUT
    while True:
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            program.send_signal(signal.SIGKILL)
            program.wait(STOP_TIMEOUT)
            raise Failure(f"{' '.join(str(word) for word in command)} has not ended in {END_TIMEOUT} s")
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:
            # Linux says so when nobody has the other end any more.
            return
        if not part:
            return
        yield part
