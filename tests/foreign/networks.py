#!/usr/bin/env python3
"""What networks do to links: addresses that change in mid-stream, and packets that vanish.

Every site is a network namespace behind a NAT of its own (router.py), 40 ms from the hub: hub, agents and the service behind
them are real processes, and what they say to each other real packets. Streams are numbered and checksummed (numbered.py).

    python tests/foreign/networks.py [--bin-dir target/debug]

Needs Linux with TUN, network namespaces to be had, the packages of examples/route_guide/python/requirements.txt, and the
commands. Where there are none it says so, and checks nothing.
"""

import itertools
import os
import pathlib
import signal
import sys
import threading
import time

import namespaces
import nat
import numbered
from programs import Log, wait_until
from tunnel import POLL, START_TIMEOUT, Failure, check
from watched import CALL_TIMEOUT, Background, Held, expect_lost, expect_within, longest, told

# Seconds.
ROUND_TRIP = 0.040
# Between two messages of a stream, and of a slow one: its packets are all acknowledged before the next.
PACE, SLOW_PACE = 0.005, 0.6
# What a machine may add to each of the times that are promised, and how often it may be busier than that.
SLACK, TRIES = 0.060, 5
# What it may add to those that are seconds.
BUSY = 2
# To be back where there is a way again, or another one: a dial is a few round trips.
BACK = 4
# The least silence after which an agent that only receives asks, and how much later it may look.
LISTEN_FOR, LOOK = 0.200, 0.050
CARRIERS = ("quic", "tls", "websocket")
# What is lost, as router.py takes it.
LOSSES = {"both ways": ["hub", "agent"], "agent → hub": ["hub"], "hub → agent": ["agent"]}
# Bounds on finding a dead link, with calls and without: an interval, give or take a fifth, and 5 s. A peer whose packets
# arrive and who answers nothing has longer: it may only be busy.
DEAD_WITH_CALLS, DEAD_WHEN_IDLE, DEAD_THOUGH_HEARD = 5, 15 * 1.2 + 5, 2.5 + 30 + 1
# The same of an idle agent that hears nothing and is heard: its keep-alive finds it out, and it says so.
DEAD_WHEN_DEAF = 10 + 2 + 5
# Each may take longer by as much as this many round trips, as they were measured, exceed 5 s.
DEAD_ROUND_TRIPS = 12
MUTE = "mute"

IDLE_STREAMS = 1000

# The agent whose calls are compressed, a link that is worth it in bytes a second, and how many readings it takes.
CODED, SLOW_LINK, READINGS = "coded", 125_000, 60
# What the codec gives for these readings at the least.
GAIN = 3


def main():
    reason = namespaces.enter() or nat.missing()
    if reason:
        print(f"skipped: no networks can be made here: {reason}")
        return
    check(__doc__.partition("\n")[0], lambda tunnel, arguments: Suite(tunnel, arguments).checks())


class Suite:
    """A hub, agents at sites by each carrier, and one service, which they reach by a socket in a folder."""

    def __init__(self, tunnel, _arguments):
        self.tunnel = tunnel
        self.network = None
        # The last bytes of further public addresses.
        self.others = itertools.count(100)
        # Of what happens beside each other: one site each.
        self.dead = {
            (carrier, loss, busy): f"dead-{number}"
            for number, (carrier, loss, busy) in enumerate(itertools.product(CARRIERS, LOSSES, (True, False)))
        }
        self.stopped = {carrier: f"stop-{carrier}" for carrier in CARRIERS}

    def checks(self):
        yield self.start
        yield self.nat_while_sending
        yield self.nat_while_receiving
        yield self.nat_while_nothing_is_sent
        yield self.nat_with_another_address
        yield self.nat_under_load
        yield self.address_while_sending
        yield self.address_while_receiving
        yield self.short_gap
        yield self.long_gap
        yield self.tcp_behind_a_nat
        yield self.tcp_with_another_address
        yield self.idle_streams
        yield self.slow_link
        yield self.dead_links

    def start(self):
        """A hub, a NAT before each of 25 sites 40 ms away, and an agent with a link at each."""
        names = [*CARRIERS, *self.dead.values(), *self.stopped.values(), CODED]
        self.network = nat.Network(self.tunnel, names, ROUND_TRIP)
        self.network.start_hub("--reconnect-grace", "100ms")
        upstream = self.network.start_service()
        # As agents are, unless told otherwise.
        carriers = {"quic": "auto", "tls": "tls", "websocket": "websocket"}
        carriers |= {CODED: "quic"}
        carriers |= {name: carrier for (carrier, _, _), name in self.dead.items()}
        carriers |= {name: carrier for carrier, name in self.stopped.items()}
        for name, carrier in carriers.items():
            coding = "zstd" if name == CODED else "identity"
            self.network.start_agent(name, upstream, "--carrier", carrier, "--coding", coding)
        self.tunnel.wait_until_attached(*carriers)

    def nat_while_sending(self):
        """A NAT that forgets an agent in mid-stream costs a stream agent → hub at most 2 round trips, and not a byte."""
        self.while_sending(self.forget)

    def nat_while_receiving(self):
        """One hub → agent goes on at most 2 round trips after the agent's next packet, with every byte."""
        self.while_receiving(self.forget)

    def nat_while_nothing_is_sent(self):
        """The agent sends that packet soon even where it has nothing to send, and the hub's messages are hardly late."""
        self.until_within(LISTEN_FOR + 2 * LOOK + 2 * ROUND_TRIP, self.slowly)

    def nat_with_another_address(self):
        """So it is where the NAT gets another public address, too."""
        log = Log(self.tunnel.hub)
        self.while_sending(self.forget_address)
        self.while_receiving(self.forget_address)
        last = self.network.sites["quic"].public
        if not self.link("quic")["remote_address"].startswith(f"{last}:"):
            raise Failure(f"the hub does not show the agent at {last}: {self.link('quic')['remote_address']}")
        log.wait_for("an agent's address has changed, and its link goes on")

    def nat_under_load(self):
        """Bulk both ways at once loses and changes nothing while a NAT forgets the agent five times."""
        before = self.link("quic")
        size, count = 16 << 10, 400
        client = self.client("quic")
        streams = [
            Background(lambda: client.down(count, 0.005, size, CALL_TIMEOUT)),
            Background(lambda: client.up(count, 0.005, size, CALL_TIMEOUT)),
        ]
        for _ in range(5):
            time.sleep(0.3)
            self.network.forget("quic", nat.PUBLIC.format(next(self.others)))
        gaps = [longest(stream.result())[0] for stream in streams]
        self.expect_same_link(before)
        megabytes = 2 * count * size / 1e6
        print(f"    {megabytes:.1f} MB; the longest silences: down {told(gaps[0])}, up {told(gaps[1])}")

    def address_while_sending(self):
        """An agent whose own address changes goes on sending, at most 2 round trips later, with every byte."""
        self.while_sending(self.move)

    def address_while_receiving(self):
        """It goes on receiving, too: it notices at once, and its next packet says so to the hub."""
        self.while_receiving(self.move, at_once=True)

    def short_gap(self):
        """An address that is gone for 2 s costs both directions no byte, and the link is the same."""
        before = self.link("quic")
        client = self.client("quic")
        count = round(5 / PACE)
        streams = [
            Background(lambda: client.down(count, PACE, timeout=CALL_TIMEOUT)),
            Background(lambda: client.up(count, PACE, timeout=CALL_TIMEOUT)),
        ]
        time.sleep(1)
        site = self.network.sites["quic"]
        site.leave()
        time.sleep(2)
        back = site.arrive()
        for stream, way in zip(streams, ("agent → hub", "hub → agent"), strict=True):
            _, _, resumed = longest(stream.result())
            print(f"    {way}: goes on {told(resumed - back)} after there is a way again")
        self.expect_same_link(before)

    def long_gap(self):
        """One that is gone for 8 s costs the calls, each told so once, and the agent is back with the address."""
        client = self.client("quic")
        before = self.link("quic")
        stream = Background(lambda: client.down(10_000, PACE, timeout=CALL_TIMEOUT))
        time.sleep(1)
        site = self.network.sites["quic"]
        begun = site.leave()
        expect_lost(stream)
        print(f"    the call failed after {told(time.monotonic() - begun)}")
        time.sleep(max(0, begun + 8 - time.monotonic()))
        back = site.arrive()
        link = self.wait_for_another_link(before)
        took = time.monotonic() - back
        if link["carrier"] != "quic":
            raise Failure(f"it took the carrier for the culprit: {link['carrier_reason']}")
        print(f"    the agent is back {told(took)} after there is a way again")
        expect_within("coming back", took, BACK)
        client.down(10, 0, timeout=CALL_TIMEOUT)

    def tcp_behind_a_nat(self):
        """Over TCP a NAT that forgets the agent costs the calls, each told so once within 5 s, and the agent comes back."""
        for carrier in CARRIERS[1:]:
            for direction in (numbered.Client.down, numbered.Client.up):
                self.lose_tcp(carrier, direction, lambda carrier=carrier: self.network.forget(carrier))

    def tcp_with_another_address(self):
        """So does an address of the agent's own that changes, and the agent is back at once."""
        for carrier in CARRIERS[1:]:
            back = self.lose_tcp(carrier, numbered.Client.down, self.network.sites[carrier].move)
            expect_within("coming back", back, BACK)

    def lose_tcp(self, carrier, direction, event):
        before = self.link(carrier)
        client = self.client(carrier)
        stream = Background(lambda: direction(client, 10_000, PACE, timeout=CALL_TIMEOUT))
        time.sleep(0.5)
        begun = event()
        link = self.wait_for_another_link(before)
        back = time.monotonic() - begun
        expect_lost(stream)
        failed = stream.ended_at - begun
        expect_within("the call's failure", failed, DEAD_WITH_CALLS + BUSY)
        way = {numbered.Client.down: "agent → hub", numbered.Client.up: "hub → agent"}[direction]
        print(f"    {carrier}, {way}: the call failed after {told(failed)}, the agent is back after {told(back)}")
        if len(client.down(10, 0, timeout=CALL_TIMEOUT)) != 10 or self.link(carrier)["link"] != link["link"]:
            raise Failure("the new link carries nothing")
        return back

    def idle_streams(self):
        """A thousand idle streams cost an agent no more than one heartbeat now and then."""
        agent = self.tunnel.agents["quic"]
        client = self.client("quic")
        over = threading.Event()
        before = cpu_of(agent), cpu_of(self.tunnel.hub), time.monotonic()
        self.rest(5)
        idle = [spent - since for spent, since in zip((cpu_of(agent), cpu_of(self.tunnel.hub)), before, strict=False)]
        calls = [client.held(iter(lambda: over.wait(CALL_TIMEOUT) and None, None)) for _ in range(IDLE_STREAMS)]
        try:
            wait_until("the calls run", lambda: self.link("quic")["calls_in_flight"] >= IDLE_STREAMS)
            time.sleep(3)
            since = cpu_of(agent), cpu_of(self.tunnel.hub), time.monotonic()
            self.rest(10)
            seconds = time.monotonic() - since[2]
            spent = [(now - then) / seconds for now, then in zip((cpu_of(agent), cpu_of(self.tunnel.hub)), since, strict=False)]
            if self.link("quic")["calls_in_flight"] < IDLE_STREAMS:
                raise Failure("some of the streams have ended")
        finally:
            over.set()
            for call in calls:
                call.cancel()
        told_of = [f"{name} {1000 * with_calls:.1f} ms of CPU a second ({1000 * without / 5:.1f} without)"
                   for name, with_calls, without in zip(("agent", "hub"), spent, idle, strict=True)]  # fmt: skip
        print(f"    {IDLE_STREAMS} idle streams: {', '.join(told_of)}")

    def rest(self, seconds):
        time.sleep(seconds)
        self.tunnel.expect_all_alive()

    def slow_link(self):
        """On a link of 1 Mbit/s readings that are compressed take as much less time as the codec gives."""
        self.network.tell(do="rate", bytes=SLOW_LINK)
        took = {}
        for agent in ("quic", CODED):
            begun = time.monotonic()
            size = self.client(agent).readings(READINGS, timeout=CALL_TIMEOUT)
            took[agent] = time.monotonic() - begun
            print(f"    {agent}: {size / 1e3:.0f} KB of JSON in {took[agent]:.2f} s")
        self.network.tell(do="rate", bytes=None)
        gain = took["quic"] / took[CODED]
        print(f"    {gain:.1f} times as fast")
        if gain < GAIN:
            raise Failure(f"compressing gains {gain:.1f}, and {GAIN} is the least")

    def dead_links(self):
        """A link whose packets vanish, or whose peer stands still, is found out in time by each carrier, with calls or not."""
        self.start_mute_agent()
        busy = [name for (_, _, is_busy), name in self.dead.items() if is_busy]
        held = {name: Held(self.client(name)) for name in (*busy, *self.stopped.values())}
        held[MUTE] = Held(self.client(MUTE), answered=False)
        before = self.tunnel.links()
        links = {link["agent"]: link["link"] for link in before}
        # A machine that was busy when a link was made has measured a long one.
        longer = {link["agent"]: max(0, DEAD_ROUND_TRIPS * link["round_trip_ms"] / 1000 - DEAD_WITH_CALLS) for link in before}
        begun = {name: self.network.lose(name, LOSSES[loss]) for (_, loss, _), name in self.dead.items()}
        for name in self.stopped.values():
            self.tunnel.agents[name].process.send_signal(signal.SIGSTOP)
            begun[name] = time.monotonic()
        begun[MUTE] = held[MUTE].begun
        gone = self.wait_until_gone(begun, links)
        failed = {name: call.failed() - begun[name] for name, call in held.items()}
        rows = [
            (carrier, loss, *(self.dead[carrier, loss, is_busy] for is_busy in (True, False)))
            for carrier, loss in itertools.product(CARRIERS, LOSSES)
        ]
        rows += [(carrier, "all: stopped", name, None) for carrier, name in self.stopped.items()]
        rows += [("quic", "all answers", MUTE, None)]
        print(f"    {'carrier':10} {'what is lost':12} {'call failed':>12} {'hub gave up':>12} {'idle: hub gave up':>18}")
        late = []
        for carrier, loss, name, idle in rows:
            last = told(gone[idle]) if idle else ""
            print(f"    {carrier:10} {loss:12} {told(failed[name]):>12} {told(gone[name]):>12} {last:>18}")
            limit = DEAD_THOUGH_HEARD if name == MUTE else DEAD_WITH_CALLS
            late += [name] if max(failed[name], gone[name]) > limit + longer[name] + BUSY else []
            limit = DEAD_WHEN_DEAF if LOSSES.get(loss) == ["agent"] else DEAD_WHEN_IDLE
            late += [idle] if idle and gone[idle] > limit + longer[idle] + BUSY else []
        if late:
            raise Failure(f"found out late: {late}")
        for name in self.stopped.values():
            self.tunnel.agents[name].process.send_signal(signal.SIGCONT)
        for name in self.dead.values():
            self.network.lose(name, [])
        begun = time.monotonic()
        self.tunnel.wait_until_attached(*self.dead.values(), *self.stopped.values())
        print(f"    all are back {told(time.monotonic() - begun)} after packets arrive again")

    def start_mute_agent(self):
        self.tunnel.run("certs", "agent", MUTE, "--dir", self.tunnel.certs)
        script = str(pathlib.Path(__file__).with_name("mute_agent.py"))
        agent = self.tunnel.spawn(
            MUTE, sys.executable, script, "--hub", self.network.hub_address, "--certs", self.tunnel.certs, "--id", MUTE,
        )  # fmt: skip
        self.tunnel.wait_until_attached(MUTE, services=False)
        # It ends with its link.
        agent.ended_by_us = True

    def wait_until_gone(self, begun, links):
        """How long each of these links was there still."""
        gone = {}
        deadline = time.monotonic() + DEAD_THOUGH_HEARD + START_TIMEOUT
        while len(gone) < len(begun):
            there = {link["link"] for link in self.tunnel.links()}
            now = time.monotonic()
            for name in set(begun) - set(gone):
                if links[name] not in there:
                    gone[name] = now - begun[name]
            if now > deadline:
                raise Failure(f"links that nothing comes from are still there: {sorted(set(begun) - set(gone))}")
            time.sleep(POLL)
        return gone

    def forget(self):
        return self.network.forget("quic")

    def forget_address(self):
        public = self.network.sites["quic"].public = nat.PUBLIC.format(next(self.others))
        return self.network.forget("quic", public)

    def move(self):
        self.network.tell(do="fresh", site="quic")
        return self.network.sites["quic"].move()

    def while_sending(self, change):
        """A stream agent → hub during which that happens is silent for 2 round trips at most."""

        def attempt():
            before = self.link("quic")
            client = self.client("quic")
            stream = Background(lambda: client.down(round(2 / PACE), PACE, timeout=CALL_TIMEOUT))
            time.sleep(1)
            at = change()
            silence, begun, _ = longest(stream.result(), at, at + 4 * ROUND_TRIP)
            self.expect_same_link(before)
            print(f"    agent → hub: silent for {told(silence)} at the longest, {told(begun - at)} after the change")
            return silence

        self.until_within(2 * ROUND_TRIP, attempt)

    def while_receiving(self, change, at_once=False):
        """A stream hub → agent goes on 2 round trips after the agent's next packet at the latest."""

        def attempt():
            before = self.link("quic")
            client = self.client("quic")
            stream = Background(lambda: client.up(round(2 / PACE), PACE, timeout=CALL_TIMEOUT))
            time.sleep(1)
            at = change()
            first = self.network.first_packet("quic")
            arrivals = stream.result()
            self.expect_same_link(before)
            silence, _, resumed = longest(arrivals, at, first + 2 * ROUND_TRIP)
            print(
                f"    hub → agent: silent for {told(silence)}; the agent's next packet {told(first - at)} after the "
                f"change, and the stream goes on {told(resumed - first)} after that"
            )
            return resumed - min(first, at) if at_once else resumed - first

        self.until_within(2 * ROUND_TRIP, attempt)

    def slowly(self):
        """How late a message hub → agent is at most where a NAT forgets the agent between two."""
        before = self.link("quic")
        client = self.client("quic")
        begun = time.monotonic()
        stream = Background(lambda: client.up(6, SLOW_PACE, timeout=CALL_TIMEOUT))
        time.sleep(max(0, begun + 2.4 * SLOW_PACE - time.monotonic()))
        at = self.forget()
        first = self.network.first_packet("quic")
        arrivals = stream.result()
        self.expect_same_link(before)
        late = max(arrival - arrivals[0] - number * SLOW_PACE for number, arrival in enumerate(arrivals))
        print(f"    the agent's next packet {told(first - at)} after the change; the latest message was {told(late)} late")
        return max(late, first - at)

    def until_within(self, limit, attempt):
        """Tries it until it takes no longer than that, because other work of the machine's may make it."""
        taken = []
        while not taken or taken[-1] > limit + SLACK:
            if len(taken) == TRIES:
                raise Failure(f"it took {', '.join(map(told, taken))}, and may take {told(limit + SLACK)}")
            taken.append(attempt())

    def client(self, agent):
        client = numbered.Client(self.tunnel.target, agent)
        self.tunnel.stack.callback(client.close)
        return client

    def link(self, agent):
        links = [link for link in self.tunnel.links() if link["agent"] == agent]
        if len(links) != 1:
            raise Failure(f"{agent} has {len(links)} links")
        return links[0]

    def wait_for_another_link(self, before):
        def another():
            links = [link for link in self.tunnel.links() if link["agent"] == before["agent"]]
            return [link for link in links if link["link"] != before["link"] and link["state"] == "ready"]

        return wait_until(f"another link of {before['agent']}", another)[0]

    def expect_same_link(self, before):
        now = self.link(before["agent"])
        if now["link"] != before["link"]:
            raise Failure(f"{before['agent']} has another link now")


def cpu_of(process):
    """Seconds of processor time that a process has used."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:13]) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
