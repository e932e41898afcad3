"""What an attack costs: a hub, a well-behaved client beside it, and the hub's memory.

The client's latency is measured in turns, without the attack and with it, so that what else the machine does is in
both. A row of the table is one attack; the first is no attack but a process as busy as an attacker, on the same
machine.
"""

import dataclasses
import pathlib
import sys
import threading
import time
from collections.abc import Callable

from tunnel import POLL, ROOT, START_TIMEOUT, Failure

HERE = ROOT / "tests/foreign"

# Turns without and with each attack.
TURNS = 3
# A call of the good client that takes longer than this has hung: seconds, generous for a busy machine.
HUNG = 2.0
# What an attack may have the hub hold at the most, in MiB beside what it held before; most hold next to nothing.
MEMORY = 256
# How long the hub may take to give memory and calls back, in seconds.
RECOVERY = 20

# How long a limit may take to be met, in seconds: attackers can be slower than it allows.
LIMIT_MET = 40

SAMPLING = 0.02


# How an attack ends that no limit ended before its time was over: the other side still took what it sent, or had stopped
# reading, or was waited for.
GOES_ON, HELD_BACK, WAITS = "goes on", "is held back", "waits"
UNENDED = {GOES_ON, HELD_BACK, WAITS}


@dataclasses.dataclass
class Attack:
    """One kind of hostile peer.

    `run(until)` attacks until that moment, and gives what came of it, counted: how often each ending was seen. One of
    `ends` has to be among them, and none but those and, for an attempt whose time was over, the UNENDED.
    `limit` is what bounds it, in the words of docs/limits.md where it is there.
    """

    name: str
    limit: str
    run: Callable
    ends: tuple
    memory: int = MEMORY


@dataclasses.dataclass
class Row:
    attack: Attack
    outcome: dict
    quiet: list
    under: list
    before: int
    peak: int
    after: int


class Bystander:
    """The good client, the hub's memory, and the table."""

    def __init__(self, tunnel, agent, seconds):
        self.tunnel, self.agent, self.seconds = tunnel, agent, seconds
        self.client = None
        self.rows = []

    def start(self):
        command = (sys.executable, HERE / "good_client.py", "--target", self.tunnel.target, "--agent", self.agent)
        self.client = self.tunnel.spawn("good-client", *command)
        self.until("the good client's calls are answered", lambda: " ok\n" in self.client.output())

    def suffer(self, attack):
        """One attack: measured, and held against its limits."""
        before, outcome, quiet, under, peaks = self.resident(), {}, [], [], []
        for _ in range(TURNS):
            quiet += self.calls_during(lambda until: time.sleep(until - time.monotonic()))
            with Peak(self.tunnel.hub) as peak:
                under += self.calls_during(lambda until: count(outcome, attack.run(until)))
            peaks.append(peak.kib)
        # Where a limit takes longer than a turn to be met, it is met behind the last one, with nothing measured.
        deadline = time.monotonic() + LIMIT_MET
        while not ends_of(outcome) & set(attack.ends) and time.monotonic() < deadline:
            count(outcome, attack.run(time.monotonic() + LIMIT_MET / 4))
        row = Row(attack, outcome, quiet, under, before, max(peaks), self.settled(before))
        self.rows.append(row)
        self.tunnel.expect_all_alive()
        print(f"    {', '.join(f'{times}× {end}' for end, times in outcome.items())}")
        bad = [call for call in quiet + under if call[1] != "ok"]
        if bad:
            raise Failure(f"{len(bad)} calls of the good client failed: {bad[0]}")
        if p99(under) > HUNG:
            raise Failure(f"the good client's calls took {p99(under):.1f} s")
        if ends_of(outcome) - set(attack.ends) - UNENDED or not ends_of(outcome) & set(attack.ends):
            raise Failure(f"ended by {outcome} in place of {attack.ends}")
        if row.peak - row.before > attack.memory << 10:
            raise Failure(f"the hub grew from {row.before} to {row.peak} KiB; {attack.memory} MiB are allowed")

    def calls_during(self, work):
        """The calls of the good client that began while `work` was at it: seconds and outcome of each."""
        begun = time.monotonic()
        work(begun + self.seconds)
        ended = time.monotonic()
        # Until the calls that began in that time have ended.
        self.until("the good client goes on", lambda: self.last_call() > ended)
        return [(latency, outcome) for at, latency, outcome in self.calls() if begun <= at < ended]

    def calls(self):
        """All calls so far. The last line may be half written."""
        lines = self.client.output().splitlines(keepends=True)
        parts = (line.rstrip("\n").split(" ", 2) for line in lines if line.endswith("\n"))
        return [(float(at), float(latency), outcome) for at, latency, outcome in parts]

    def last_call(self):
        return self.calls()[-1][0]

    def resident(self):
        return self.tunnel.hub.resident_kib()

    def settled(self, before):
        """The hub's memory once it has given back what it gives back soon."""
        deadline = time.monotonic() + min(RECOVERY, self.seconds)
        while self.resident() > before * 1.1 and time.monotonic() < deadline:
            time.sleep(POLL)
        return self.resident()

    def until(self, what, holds):
        deadline = time.monotonic() + START_TIMEOUT
        while not holds():
            self.tunnel.expect_all_alive()
            if time.monotonic() > deadline:
                raise Failure(f"not within {START_TIMEOUT} s: {what}")
            time.sleep(POLL)

    def table(self):
        """What each attack cost."""
        print(f"    {'attack':40} {'calls':>11} {'p99 ms':>15} {'ratio':>6} {'hub MiB':>17}  ended by")
        for row in self.rows:
            ratio = p99(row.under) / p99(row.quiet)
            memory = " ".join(f"{kib / 1024:5.0f}" for kib in (row.before, row.peak, row.after))
            ends = ", ".join(f"{count}× {end}" for end, count in row.outcome.items())
            print(
                f"    {row.attack.name:40} {len(row.quiet):5} {len(row.under):5} {p99(row.quiet) * 1e3:7.1f}"
                f" {p99(row.under) * 1e3:7.1f} {ratio:6.1f} {memory}  {ends}"
            )


class Peak:
    """The most memory that a process has while the block runs."""

    def __init__(self, process):
        self.process, self.kib = process, process.resident_kib()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        while not self.over.wait(SAMPLING):
            self.kib = max(self.kib, self.process.resident_kib())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def p99(calls):
    ordered = sorted(latency for latency, _ in calls)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def ends_of(outcome):
    """The ways in which an attack was ended, without what was said about it."""
    return {end.partition(" (")[0] for end in outcome}


def count(into, outcome):
    for end, times in outcome.items():
        into[end] = into.get(end, 0) + times


def named(function, claim):
    """A check of this claim."""

    def check():
        function()

    check.__doc__ = claim
    return check


def log_size(process):
    return pathlib.Path(process.log).stat().st_size
