#!/usr/bin/env python3
"""What networks do to links: addresses that change in mid-stream, and packets that vanish.

Every site is a network namespace behind a NAT of its own (router.py), 40 ms from the hub: hub, agents and the service behind
them are real processes, and what they say to each other real packets. Streams are numbered and checksummed (numbered.py).

    python tests/foreign/networks.py [--bin-dir target/debug]

Needs Linux with TUN, network namespaces to be had, the packages of examples/route_guide/python/requirements.txt, and the
commands. Where there are none it says so, and checks nothing.
"""

import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import time

import grpc
import namespaces
import numbered
from namespaces import run
from programs import Log, wait_until
from tunnel import POLL, START_TIMEOUT, Failure, check

# Seconds.
ROUND_TRIP = 0.040
# Between two messages of a stream, and of a slow one: its packets are all acknowledged before the next.
PACE, SLOW_PACE = 0.005, 0.6
# What a machine may add to each of the times that are promised, and how often it may be busier than that.
SLACK, TRIES = 0.030, 3
# What it may add to those that are seconds.
BUSY = 0.5
# The least silence after which an agent that only receives asks, and how much later it may look.
LISTEN_FOR, LOOK = 0.200, 0.050
# For one stream: none takes it.
CALL_TIMEOUT = 60

CARRIERS = ("quic", "tls", "websocket")
# What is lost, as router.py takes it.
LOSSES = {"both ways": ["hub", "agent"], "agent → hub": ["hub"], "hub → agent": ["agent"]}
# Bounds on finding a dead link, with calls and without: an interval, give or take a fifth, and 5 s.
DEAD_WITH_CALLS, DEAD_WHEN_IDLE = 5, 15 * 1.2 + 5

HUB = "198.51.100.1"
# The NATs' public addresses.
PUBLIC = "203.0.113.{}"
IDLE_STREAMS = 1000


def main():
    reason = namespaces.enter() or no_tun()
    if reason:
        print(f"skipped: no networks can be made here: {reason}")
        return
    check(__doc__.partition("\n")[0], lambda tunnel, arguments: Suite(tunnel, arguments).checks())


def no_tun():
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return f"/dev/net/tun: {error.strerror}"
    return None


class Network:
    """The router, and the sites behind it."""

    def __init__(self, tunnel, names):
        self.router = None
        self.numbers = {name: number for number, name in enumerate(names, start=1)}
        public = (f"{name}:{PUBLIC.format(number)}" for name, number in self.numbers.items())
        script = str(namespaces.pathlib.Path(__file__).with_name("router.py"))
        self.router = subprocess.Popen(
            [sys.executable, script, "--outside", "outside", *public],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        tunnel.stack.callback(self.close)
        self.answer()
        run("ip", "address", "add", f"{HUB}/24", "dev", "outside")
        run("ip", "link", "set", "outside", "up")
        run("ip", "route", "add", "203.0.113.0/24", "dev", "outside")
        self.sites = {name: Site(tunnel, name) for name in names}
        self.tell(do="delay", seconds=ROUND_TRIP / 2)

    def tell(self, **request):
        """The router's answer, once it has done what it is told."""
        self.router.stdin.write(json.dumps(request) + "\n")
        self.router.stdin.flush()
        return self.answer()

    def answer(self):
        line = self.router.stdout.readline()
        if not line:
            raise Failure("the router has ended")
        return json.loads(line)

    def forget(self, site, public=None):
        """Has a NAT forget what it knows, and take another public address: when it did."""
        return self.tell(do="forget", site=site, public=public)["at"]

    def lose(self, site, towards):
        return self.tell(do="lose", site=site, towards=towards)["at"]

    def first_packet(self, site):
        """When the first packet of a site came to its NAT that had forgotten the site."""
        begun = wait_until(f"a packet from {site}", lambda: self.tell(do="begun", site=site)["begun"])
        return begun[0]

    def close(self):
        self.router.stdin.close()
        self.router.wait(START_TIMEOUT)


class Site:
    """A namespace with one interface, to its NAT."""

    def __init__(self, tunnel, name):
        self.interface = name
        self.address, self.other = "10.0.0.2", "10.0.0.3"
        holder, self.inside = namespaces.namespace(tunnel, name)
        run("ip", "link", "set", name, "netns", str(holder.pid))
        self.ip("link set lo up", f"link set {name} up", *self.arrival())

    def arrival(self):
        """An address, and with it the way out."""
        return [
            f"address add {self.address}/32 dev {self.interface}",
            f"route add default dev {self.interface} src {self.address}",
        ]

    def departure(self):
        return ["route del default", f"address del {self.address}/32 dev {self.interface}"]

    def ip(self, *commands):
        """Changes that follow each other at once: when the last was done."""
        told = "".join(f"{command}\n" for command in commands)
        done = subprocess.run(
            [*self.inside, "ip", "-batch", "-"], input=told, capture_output=True, text=True,
            timeout=START_TIMEOUT, check=False,
        )  # fmt: skip
        at = time.monotonic()
        if done.returncode != 0:
            raise Failure(f"`{told}` at {self.interface}: {done.stderr.strip()}")
        return at

    def arrive(self):
        return self.ip(*self.arrival())

    def leave(self):
        return self.ip(*self.departure())

    def move(self):
        """Takes the other address in place of the one that it has: when."""
        departure = self.departure()
        self.address, self.other = self.other, self.address
        return self.ip(*departure, *self.arrival())


class Suite:
    """A hub, agents at sites by each carrier, and one service, which they reach by a socket in a folder."""

    def __init__(self, tunnel, _arguments):
        self.tunnel = tunnel
        self.network = None
        self.upstream = f"unix:{tunnel.folder}/numbered.sock"
        # The last bytes of further public addresses.
        self.others = itertools.count(100)
        # Of what happens beside each other: one site each.
        self.dead = {
            (carrier, loss, busy): f"dead-{number}"
            for number, (carrier, loss, busy) in enumerate(itertools.product(CARRIERS, LOSSES, (True, False)))
        }

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
        yield self.dead_links

    def start(self):
        """A hub, a NAT before each of 21 sites 40 ms away, and an agent with a link at each."""
        self.network = Network(self.tunnel, [*CARRIERS, *self.dead.values()])
        script = str(namespaces.pathlib.Path(__file__).with_name("numbered.py"))
        self.tunnel.spawn("numbered", sys.executable, script, "--listen", self.upstream).listening_on()
        hub = f"{HUB}:{self.tunnel.agents_port}"
        self.tunnel.run("certs", "hub", "--san", HUB, "--dir", self.tunnel.certs, "--force")
        self.tunnel.hub = self.tunnel.spawn(
            "hub", self.tunnel.adit, "hub", "--certs", self.tunnel.certs, "--agents", hub,
            "--clients", self.tunnel.target, "--admin", f"127.0.0.1:{self.tunnel.admin_port}", "--reconnect-grace", "100ms",
        )  # fmt: skip
        carriers = {name: name for name in CARRIERS}
        carriers |= {name: carrier for (carrier, _, _), name in self.dead.items()}
        for name, carrier in carriers.items():
            self.tunnel.run("certs", "agent", name, "--dir", self.tunnel.certs)
            self.tunnel.agents[name] = self.tunnel.spawn(
                f"agent-{name}", *self.network.sites[name].inside, self.tunnel.adit, "agent", "--id", name,
                "--certs", self.tunnel.certs, "--hub", hub, "--upstream", self.upstream, "--service", numbered.SERVICE,
                "--carrier", carrier,
            )  # fmt: skip
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
        self.while_sending(self.forget_address)
        self.while_receiving(self.forget_address)

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
            self.network.forget("quic", PUBLIC.format(next(self.others)))
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
        self.wait_for_another_link(before)
        took = time.monotonic() - back
        print(f"    the agent is back {told(took)} after there is a way again")
        expect_within("coming back", took, 2)
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
            expect_within("coming back", back, 2)

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

    def dead_links(self):
        """A link whose packets vanish, either way or both, is found out in time by each carrier, with calls and without."""
        held = {}
        for (_, _, busy), name in self.dead.items():
            if busy:
                held[name] = Held(self.client(name))
        links = {link["agent"]: link for link in self.tunnel.links()}
        begun = {name: self.network.lose(name, LOSSES[loss]) for (_, loss, _), name in self.dead.items()}
        gone, failed = {}, {}
        deadline = time.monotonic() + DEAD_WHEN_IDLE + START_TIMEOUT
        while len(gone) < len(begun):
            there = {link["link"] for link in self.tunnel.links()}
            now = time.monotonic()
            for name, since in begun.items():
                if links[name]["link"] not in there:
                    gone.setdefault(name, now - since)
            if now > deadline:
                raise Failure(f"links that nothing comes from are still there: {sorted(set(begun) - set(gone))}")
            time.sleep(POLL)
        for name, call in held.items():
            failed[name] = call.failed() - begun[name]
        late = []
        print(f"    {'carrier':10} {'what is lost':12} {'call failed':>12} {'hub gave up':>12} {'idle: hub gave up':>18}")
        for carrier, loss in itertools.product(CARRIERS, LOSSES):
            busy, idle = self.dead[carrier, loss, True], self.dead[carrier, loss, False]
            print(f"    {carrier:10} {loss:12} {told(failed[busy]):>12} {told(gone[busy]):>12} {told(gone[idle]):>18}")
            late += [name for name in (busy,) if max(failed[name], gone[name]) > DEAD_WITH_CALLS + BUSY]
            late += [name for name in (idle,) if gone[name] > DEAD_WHEN_IDLE + BUSY]
        if late:
            raise Failure(f"found out late: {late}")
        for name in begun:
            self.network.lose(name, [])
        begun = time.monotonic()
        self.tunnel.wait_until_attached(*self.dead.values())
        print(f"    all are back {told(time.monotonic() - begun)} after packets arrive again")

    def forget(self):
        return self.network.forget("quic")

    def forget_address(self):
        return self.network.forget("quic", PUBLIC.format(next(self.others)))

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
            silence, begun, _ = longest([arrival for arrival in stream.result() if arrival > at - ROUND_TRIP])
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
            silence, _, resumed = longest([arrival for arrival in arrivals if arrival > at - ROUND_TRIP])
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


class Background:
    """What a call gives, which runs beside us."""

    def __init__(self, call):
        self.outcome = queue.Queue(1)
        self.ended_at = None
        self.thread = threading.Thread(target=self.run, args=(call,), daemon=True)
        self.thread.start()

    def run(self, call):
        try:
            outcome = call(), None
        except (grpc.RpcError, numbered.Wrong) as error:
            outcome = None, error
        self.ended_at = time.monotonic()
        self.outcome.put(outcome)

    def wait(self):
        try:
            return self.outcome.get(timeout=CALL_TIMEOUT + START_TIMEOUT)
        except queue.Empty:
            raise Failure("a stream has not ended") from None

    def result(self):
        result, error = self.wait()
        if error:
            raise Failure(f"a stream failed: {error!r}")
        return result


class Held:
    """A call that waits for more, and notes when it fails."""

    def __init__(self, client):
        requests = queue.Queue()
        requests.put(numbered.message(0))
        self.call = client.held(iter(requests.get, None), timeout=CALL_TIMEOUT)
        self.requests = requests
        numbered.check(next(self.call), 0)
        self.ended = Background(lambda: next(self.call, None))
        self.at = None
        self.call.add_callback(self.note)

    def note(self):
        self.at = time.monotonic()

    def failed(self):
        expect_lost(self.ended)
        self.requests.put(None)
        return wait_until("the call's end is noted", lambda: self.at)


def expect_lost(stream):
    result, error = stream.wait()
    if not isinstance(error, grpc.RpcError):
        raise Failure(f"a call went on without its link: {result!r} {error!r}")
    metadata = dict(error.trailing_metadata() or ())
    found = (error.code().name, metadata.get("adit-error"), metadata.get("adit-delivered"))
    if found != ("UNAVAILABLE", "link-lost", "maybe"):
        raise Failure(f"a call whose link was lost ended with {found}: {error.details()}")


def longest(arrivals):
    """The longest silence between two messages, its begin and its end."""
    return max((after - before, before, after) for before, after in itertools.pairwise(arrivals))


def expect_within(what, seconds, limit):
    if seconds > limit:
        raise Failure(f"{what} took {told(seconds)}, and may take {told(limit)}")


def told(seconds):
    return f"{seconds:.2f} s" if abs(seconds) >= 1 else f"{seconds * 1000:.0f} ms"


def cpu_of(process):
    """Seconds of processor time that a process has used."""
    fields = namespaces.pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:13]) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
