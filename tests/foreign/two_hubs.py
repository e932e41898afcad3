#!/usr/bin/env python3
"""Two hubs with the same agent behind them: each is drained under load and started again, and no call is lost.

The client is gRPC's own for Python, unchanged: it is given both addresses, shares its calls between them (round_robin),
and goes by what a hub says of its end.

    python tests/foreign/two_hubs.py [--bin-dir target/debug]

Needs the packages of examples/route_guide/python/requirements.txt and the two built commands.
"""

import collections
import sys
import threading
import time

import grpc
from tunnel import ROOT, START_TIMEOUT, Failure, check, executable, free_ports

sys.path.insert(0, str(ROOT / "examples/route_guide/proto"))
pb, services = grpc.protos_and_services("route_guide.proto")

SITE = "site-1"
# Calls each second, and seconds of load around each event.
RATE, AROUND = 200, 1.5
# Seconds for one call. None takes it; a call that hangs must not hold the suite up.
CALL_TIMEOUT = 30


def main():
    check("Drains one hub of two under load.", lambda tunnel, arguments: Hubs(tunnel, arguments).checks())


class Hubs:
    """Two hubs, an agent with a link to each, and a service behind it."""

    def __init__(self, tunnel, arguments):
        self.tunnel = tunnel
        self.server = executable(arguments.bin_dir, "route-guide-server")
        self.ports = [free_ports(3) for _ in range(2)]
        self.hubs = [None, None]
        self.load = None

    def checks(self):
        return [self.start, self.load_begins, self.drain_first, self.drain_second, self.no_call_failed]

    def start(self):
        """Two hubs start, and an agent has a link to each."""
        upstream = self.tunnel.spawn("server", self.server, "--listen", "127.0.0.1:0").listening_on()
        for hub in range(2):
            self.start_hub(hub)
        self.tunnel.run("certs", "agent", SITE, "--dir", self.tunnel.certs)
        self.tunnel.spawn(
            "agent", self.tunnel.adit, "agent", "--certs", self.tunnel.certs, "--id", SITE,
            *(word for agents, _, _ in self.ports for word in ("--hub", f"127.0.0.1:{agents}")),
            "--upstream", f"http://{upstream}",
        )  # fmt: skip
        for hub in range(2):
            self.wait_for_agent(hub)

    def load_begins(self):
        """Calls are shared between the hubs."""
        self.load = Load([clients for _, clients, _ in self.ports])
        self.tunnel.stack.callback(self.load.stop)
        time.sleep(AROUND)
        self.expect_calls_at_both()

    def drain_first(self):
        """A hub is told to stop under load, ends well, and has its share again when it is back."""
        self.drain(0)

    def drain_second(self):
        """So is the other."""
        self.drain(1)

    def drain(self, hub):
        code = self.hubs[hub].stop()
        if code != 0:
            raise Failure(f"hub {hub} exited {code}")
        # The other hub alone has the calls now.
        time.sleep(AROUND)
        self.start_hub(hub)
        self.wait_for_agent(hub)
        self.expect_calls_at_both()

    def no_call_failed(self):
        """Not one call of the whole time has failed."""
        made, failures = self.load.stop()
        if failures:
            told = collections.Counter(failures)
            raise Failure(f"{len(failures)} of {made} calls failed: {told.most_common(5)}")
        print(f"    {made} calls, the slowest {self.load.slowest * 1000:.0f} ms")

    def start_hub(self, hub):
        agents, clients, admin = self.ports[hub]
        self.hubs[hub] = self.tunnel.spawn(
            f"hub-{hub}", self.tunnel.adit, "hub", "--certs", self.tunnel.certs, "--agents", f"127.0.0.1:{agents}",
            "--clients", f"127.0.0.1:{clients}", "--admin", f"127.0.0.1:{admin}",
        )  # fmt: skip

    def wait_for_agent(self, hub):
        self.wait(lambda: self.links(hub) and self.links(hub)[0].get("services"), f"an agent at hub {hub}")

    def expect_calls_at_both(self):
        before = [self.calls(hub) for hub in range(2)]
        for hub in range(2):
            self.wait(lambda: self.calls(hub) > before[hub] + RATE // 10, f"a share of the calls at hub {hub}")

    def calls(self, hub):
        return sum(link["calls"] for link in self.links(hub))

    def links(self, hub):
        return self.tunnel.links(self.ports[hub][2])

    def wait(self, such, what):
        deadline = time.monotonic() + START_TIMEOUT
        while not such():
            self.tunnel.expect_all_alive()
            if time.monotonic() > deadline:
                raise Failure(f"{what} has not come in {START_TIMEOUT} s")
            time.sleep(0.1)


class Load:
    """Calls at a steady rate, each begun at its time whatever became of the others."""

    def __init__(self, ports):
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
        policy = '{"loadBalancingConfig": [{"round_robin": {}}]}'
        options = [
            ("grpc.service_config", policy),
            # Of several addresses gRPC makes an authority that is none, and the hub's HTTP/2 resets such calls.
            ("grpc.default_authority", "hub"),
            # A hub that is back is looked for soon.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 500),
        ]
        self.channel = grpc.insecure_channel(f"ipv4:{addresses}", options)
        self.stub = services.RouteGuideStub(self.channel)
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.made, self.ended, self.failures, self.slowest = 0, 0, [], 0.0
        self.thread = threading.Thread(target=self.call, daemon=True)
        self.thread.start()

    def call(self):
        due = time.monotonic()
        while not self.over.is_set():
            begun = time.monotonic()
            future = self.stub.GetFeature.future(pb.Point(), metadata=[("adit-agent", SITE)], timeout=CALL_TIMEOUT)
            self.made += 1
            future.add_done_callback(lambda done, begun=begun: self.done(done, begun))
            due += 1 / RATE
            self.over.wait(max(0, due - time.monotonic()))

    def done(self, future, begun):
        error = future.exception()
        with self.lock:
            self.ended += 1
            self.slowest = max(self.slowest, time.monotonic() - begun)
            if error is not None:
                told = {key: value for key, value in error.trailing_metadata() or () if key.startswith("adit-")}
                self.failures.append(f"{error.code().name} {told} {error.details()}")

    def stop(self):
        """Ends the load, waits for the calls that run, and gives how many there were and how some failed."""
        self.over.set()
        self.thread.join()
        deadline = time.monotonic() + CALL_TIMEOUT
        while self.ended < self.made and time.monotonic() < deadline:
            time.sleep(0.05)
        self.channel.close()
        missing = ["no answer at all"] * (self.made - self.ended)
        return self.made, self.failures + missing


if __name__ == "__main__":
    main()
