#!/usr/bin/env python3
"""h2spec against the clients' port: every case of its suite, strict ones included.

    python tests/foreign/h2spec.py --h2spec PATH [--bin-dir target/debug]

Needs h2spec (go install github.com/summerwind/h2spec/cmd/h2spec@latest) and the packages of
examples/foreign_agents/python/requirements.txt. Behind the hub is a service that answers a GET with data, as h2spec
wants it. What does not pass is in DEVIATIONS, with the reason; a case that passes in spite of that fails the suite too.
"""

import pathlib
import subprocess
import sys
import xml.etree.ElementTree

import tunnel as fixture
from tunnel import ROOT, Failure

WEB_AGENT = ROOT / "tests/foreign/web_agent.py"
# A path whose calls end, and one whose calls stay open.
ENDS, STAYS = "/web.Server/Get", "/web.Server/Held"

# Seconds that h2spec waits for an answer, and that the whole of it may take.
CASE_TIMEOUT, SUITE_TIMEOUT = 10, 300

# That as many calls as are allowed are open at a time asks for calls that stay.
CONCURRENCY = "http2/5.1.2"

# Cases that do not pass: package and title, and why not.
DEVIATIONS = {
    ("http2/3.5", "Sends invalid connection preface"): (
        "what looks like HTTP/1.1 is told so in HTTP/1.1 (505) before the connection is closed; h2spec reads that as a "
        "frame. RFC 9113 §3.4 lets the GOAWAY be left out for a peer that doesn't speak HTTP/2"
    ),
}


def main():
    fixture.check(__doc__.partition("\n")[0], checks_of, extend)


def extend(parser):
    parser.add_argument("--h2spec", type=pathlib.Path, required=True, help="the command h2spec")


def checks_of(tunnel, arguments):
    suite = Suite(tunnel, arguments.h2spec)
    yield suite.start
    yield suite.all_cases
    yield suite.concurrency
    yield suite.still_there


class Suite:
    """A hub, a service behind it, and h2spec before it."""

    def __init__(self, tunnel, command):
        self.tunnel, self.command = tunnel, command.resolve()

    def start(self):
        """A hub starts, and an agent that answers what is no gRPC."""
        self.tunnel.start_hub()
        self.tunnel.run("certs", "agent", "web", "--dir", self.tunnel.certs)
        hub = f"127.0.0.1:{self.tunnel.agents_port}"
        agent = (sys.executable, WEB_AGENT, "--hub", hub, "--certs", self.tunnel.certs, "--id", "web")
        self.tunnel.spawn("agent-web", *agent)
        self.tunnel.wait_until_attached("web", services=False)

    def all_cases(self):
        """Every case passes, but for those that are listed with a reason."""
        cases = self.run("-S", "--path", ENDS)
        failed = {case for case, outcome in cases.items() if outcome is not None and case[0] != CONCURRENCY}
        for case in sorted(failed & DEVIATIONS.keys()):
            print(f"    deviates: {case[0]}: {case[1]}: {DEVIATIONS[case]}")
        if failed != DEVIATIONS.keys():
            wrong = {case: cases.get(case, "passes") for case in failed ^ DEVIATIONS.keys()}
            raise Failure(f"not as listed: {wrong}")
        print(f"    {len(cases) - len(failed)} of {len(cases)} cases pass")

    def concurrency(self):
        """A stream more than may be is refused, where all others are still open."""
        cases = self.run(CONCURRENCY, "--path", STAYS)
        if not cases or any(outcome is not None for outcome in cases.values()):
            raise Failure(f"{cases}")

    def still_there(self):
        """The hub is still there, and so is the agent's first link."""
        self.tunnel.expect_all_alive()
        links = self.tunnel.links()
        if len(links) != 1 or links[0]["link"] != 1:
            raise Failure(f"{links}")

    def run(self, *arguments):
        """The outcome of each case: None where it passes."""
        report = self.tunnel.folder / "h2spec.xml"
        command = [
            self.command, "--host", "127.0.0.1", "--port", str(self.tunnel.clients_port),
            "--timeout", str(CASE_TIMEOUT), "--junit-report", report, *arguments,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=SUITE_TIMEOUT, check=False)
        if not report.exists():
            raise Failure(f"h2spec exited {done.returncode} without a report: {done.stdout[-1000:]} {done.stderr}")
        cases = {}
        for case in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
            outcome = "; ".join(f"{part.tag}: {part.text}" for part in case) or None
            cases[case.get("package"), case.get("classname")] = outcome
        return cases


if __name__ == "__main__":
    main()
