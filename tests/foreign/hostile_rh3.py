#!/usr/bin/env python3
"""Hostile peers on the agents' port, with no certificate and with an agent's, beside a client that behaves.

    python tests/foreign/hostile_rh3.py [--bin-dir target/release] [--seconds 0.5]

Needs the packages of tests/foreign/hostile-requirements.txt. As hostile_h2.py does, it makes each attack in turns with
none, and prints what each cost.
"""

import asyncio
import sys
import time

import tunnel as fixture
from h2_client import Client, call
from hostile import Bystander, named
from rh3_attacks import EVIL, all_of, has_link
from rh3_cases import RESPONSES, STAYS, STREAMS
from rh3_peer import NotFound, RawHttp, RawLink, dialled
from tunnel import ROOT, Failure

GOOD = "good"
METHOD = "/evil.Service/Method"
# Seconds until a link that stays is taken to stay, and until one that doesn't has to be closed.
STAYS_FOR, CLOSED_IN = 0.3, 15
# Bytes that the hub may log about all of it.
LOG = 4 << 20


def main():
    fixture.check(__doc__.partition("\n")[0], checks_of, extend)


def extend(parser):
    parser.add_argument("--seconds", type=float, default=0.5, help="of each turn with an attack, and without")


def checks_of(tunnel, arguments):
    suite = Suite(tunnel, arguments)
    yield suite.start
    yield suite.bad_streams
    yield suite.bad_responses
    for attack in all_of(tunnel):
        yield named(lambda attack=attack: suite.bystander.suffer(attack), f"{attack.name}, bounded by: {attack.limit}")
    yield suite.odd_values
    yield suite.hub_is_well
    yield suite.bystander.table


class Suite:
    """The hub, its neighbours, and what is done to them."""

    def __init__(self, tunnel, arguments):
        self.tunnel, self.bin_dir = tunnel, arguments.bin_dir
        self.bystander = Bystander(tunnel, GOOD, arguments.seconds)

    def start(self):
        """A hub starts, an agent, and a client that behaves."""
        self.tunnel.start_hub("--reconnect-grace", "0s", "--link-memory", "64MiB")
        server = fixture.executable(self.bin_dir, "route-guide-server")
        upstream = self.tunnel.spawn("server", server, "--listen", "127.0.0.1:0")
        self.tunnel.start_agent(GOOD, f"http://{upstream.listening_on()}")
        self.tunnel.run("certs", "agent", EVIL, "--dir", self.tunnel.certs)
        self.tunnel.wait_until_attached(GOOD)
        self.bystander.start()

    def bad_streams(self):
        """What an agent says wrongly on its own streams ends its link, by the code that HTTP/3 has for it."""

        async def said(streams, expected):
            link = type("Link", (RawLink,), {"http_class": type("Http", (RawHttp,), streams)})
            async with dialled(self.tunnel, EVIL, link=link) as link:
                return await link.ending(patience(expected))

        self.expect_ends(STREAMS, said)

    def bad_responses(self):
        """A response that is wrong fails its call, and ends the link where HTTP/3 says so."""

        async def answered(response, expected):
            class Answer(NotFound):
                def __init__(self, link, stream, headers):
                    super().__init__(link, stream, headers)
                    if dict(headers)[b":path"] == METHOD.encode():
                        link.write(stream, response, end=True)

            async with dialled(self.tunnel, EVIL, answer=Answer) as link:
                while not await asyncio.to_thread(has_link, self.tunnel):
                    self.tunnel.expect_all_alive()
                told = await asyncio.to_thread(self.call_evil)
                return told, await link.ending(patience(expected[1]))

        self.expect_ends(RESPONSES, answered)

    def odd_values(self):
        """A client can't have a strict agent close its link: values are passed on as HTTP/3 permits them."""
        agent = (
            sys.executable, ROOT / "examples/foreign_agents/python/agent.py",
            "--hub", f"127.0.0.1:{self.tunnel.agents_port}", "--certs", self.tunnel.certs, "--id", EVIL,
        )  # fmt: skip
        self.tunnel.spawn("agent-strict", *agent)
        self.tunnel.wait_until_attached(EVIL, services=False)
        before = self.evil_links()
        path = "/grpc.testing.TestService/EmptyCall"
        for value in (" a", "a ", "\ta\t", " ", "", "é", b"\xff\xfe", "a\tb", "x" * 10_000):
            with Client(self.tunnel.target) as client:
                told = client.request(call(path, ("adit-agent", EVIL), ("x-value", value))).summary()
            if told != "0" or self.evil_links() != before:
                raise Failure(
                    f"metadata {value!r:.40} was answered {told}; links before and now: {before}, {self.evil_links()}"
                )

    def hub_is_well(self):
        """The hub has not panicked, nor flooded its log."""
        self.tunnel.expect_all_alive()
        log = self.tunnel.hub.output()
        if "panicked" in log:
            raise Failure("the hub panicked")
        if len(log) > LOG:
            raise Failure(f"the hub's log has {len(log)} bytes; the end: {log[-500:]}")
        print(f"    the hub's log has {len(log)} bytes")

    # ---

    def expect_ends(self, cases, made):
        wrong = {}
        for name, (case, expected) in cases.items():
            found = asyncio.run(made(case, expected))
            if found != expected:
                wrong[name] = f"{found} in place of {expected}"
        if wrong:
            raise Failure("; ".join(f"{name}: {found}" for name, found in wrong.items()))
        print(f"    {len(cases)} cases")

    def call_evil(self):
        with Client(self.tunnel.target) as client:
            return client.request(call(METHOD, ("adit-agent", EVIL))).summary()

    def evil_links(self):
        return [link["link"] for link in self.tunnel.links() if link["agent"] == EVIL]


def patience(expected):
    return time.monotonic() + (STAYS_FOR if expected is STAYS else CLOSED_IN)


if __name__ == "__main__":
    main()
