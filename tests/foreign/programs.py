"""Programs that a suite runs to their end, and what their logs come to say."""

import subprocess
import time

from tunnel import POLL, START_TIMEOUT, Failure, environment

# Seconds. Only ever waited out by a failure.
END_TIMEOUT = 60


def run(*command, code=0, cwd=None, timeout=END_TIMEOUT, **variables):
    """What a program prints on both its outputs until it ends, which has to be with this exit code."""
    told = " ".join(str(word) for word in command)
    try:
        done = subprocess.run(
            command, env=environment() | variables, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise Failure(f"{told}: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{told} has not ended in {timeout} s, and printed {error.output}") from error
    if done.returncode != code:
        raise Failure(f"{told} exited {done.returncode}, not {code}: {done.stdout}")
    return done.stdout


def expect_in(what, output, *texts):
    for text in texts:
        if text not in output:
            raise Failure(f"{what} does not say “{text}”: {output}")


def expect_not_in(what, output, *texts):
    for text in texts:
        if text in output:
            raise Failure(f"{what} says “{text}”: {output}")


def wait_until(what, condition, timeout=START_TIMEOUT):
    """What `condition()` gives, once that is something."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise Failure(f"not within {timeout} s: {what}")
        time.sleep(POLL)
    return found


class Log:
    """What a process writes from now on."""

    def __init__(self, process):
        self.process = process
        self.read = len(process.output())

    def text(self):
        return self.process.output()[self.read :]

    def wait_for(self, text):
        """The rest of the line, once it is there."""

        def rest():
            self.process.expect_alive()
            _, found, after = self.text().partition(text)
            line, ended, _ = after.partition("\n")
            return found and ended and [line]

        return wait_until(f"{self.process.name} writes “{text}”", rest)[0]
