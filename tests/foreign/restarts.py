#!/usr/bin/env python3
"""A Python client through the tunnel, while hub and agents are killed and started again.

Starts two RouteGuide servers, a hub and an agent before each server, and then
  - runs examples/route_guide/python/client.py at each agent's id,
  - cancels a call, and looks for the cancellation in the log of the server behind that agent,
  - kills the hub (SIGKILL), starts it again on the same ports, and runs the client again,
  - kills one agent (SIGKILL): calls to it fail UNAVAILABLE and say why, calls to the other never notice,
  - starts that agent again, and runs the client once more.

    python tests/foreign/restarts.py [--bin-dir target/debug]

Needs the packages of examples/route_guide/python/requirements.txt and the two built commands.
"""

import random
import subprocess
import sys
import threading
import time

import grpc

import tunnel as fixture
from tunnel import POLL, ROOT, START_TIMEOUT, Failure

CLIENT = ROOT / "examples/route_guide/python/client.py"
sys.path.insert(0, str(ROOT / "examples/route_guide/proto"))
pb, services = grpc.protos_and_services("route_guide.proto")

SITES = ("site-1", "site-2")
# Seconds. A new hub is found at the agents' next keep-alive (10 s) or try.
RESTART_TIMEOUT = 30
# A dead agent is found at the latest when its link's idle timeout (30 s) runs out.
DEATH_TIMEOUT = 60
CLIENT_TIMEOUT = 120

# What the server logs when a call is cancelled.
CANCELLED = "call cancelled path=\"/routeguide.RouteGuide/RouteChat\""

# What an agent that has gone is reported as, and whether its upstream may have seen the call.
GONE = {"link-lost": "maybe", "agent-offline": "no"}


def main():
    fixture.check(__doc__.partition("\n")[0], checks_of)


def checks_of(tunnel, arguments):
    suite = Suite(tunnel, arguments.bin_dir)
    yield suite.start
    yield suite.client_calls_every_site
    yield suite.calls_reach_the_site_that_is_named
    yield suite.cancellation_reaches_the_service
    yield suite.hub_killed_and_started_again
    yield suite.client_calls_every_site
    yield suite.one_agent_killed
    yield suite.agent_started_again
    yield suite.client_calls_every_site


class Suite:
    """The servers behind the tunnel, and what the checks do."""

    def __init__(self, tunnel, bin_dir):
        self.tunnel = tunnel
        self.server = fixture.executable(bin_dir, "route-guide-server")
        self.servers, self.upstreams = {}, {}

    def start(self):
        """Two services, a hub and two agents start, and calls go through."""
        for site in SITES:
            self.servers[site] = self.tunnel.spawn(f"server-{site}", self.server, "--listen", "127.0.0.1:0")
            self.upstreams[site] = self.servers[site].listening_on()
        self.tunnel.start_hub()
        for site in SITES:
            self.start_agent(site)
        for site in SITES:
            self.wait_for_calls(site, START_TIMEOUT)

    def client_calls_every_site(self):
        """The Python client calls all four kinds at each agent."""
        for site in SITES:
            command = [sys.executable, CLIENT, "--target", self.tunnel.target, "--metadata", f"adit-agent={site}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=CLIENT_TIMEOUT, check=False)
            for line in done.stdout.splitlines():
                print(f"    {site}: {line}")
            if done.returncode != 0:
                raise Failure(f"the client at {site} exited {done.returncode}: {done.stderr}")

    def calls_reach_the_site_that_is_named(self):
        """A note left through the hub is found at that agent's service, and not at the other's."""
        for site in SITES:
            place = pb.Point(latitude=random.randint(0, 900_000_000), longitude=random.randint(0, 900_000_000))
            left = pb.RouteNote(location=place, message=f"left at {site}")
            with grpc.insecure_channel(self.tunnel.target) as channel:
                chat(channel, left, metadata=[("adit-agent", site)])
            for other in SITES:
                with grpc.insecure_channel(self.upstreams[other]) as channel:
                    found = [note.message for note in chat(channel, left)]
                expected = [left.message] if other == site else []
                if found != expected:
                    raise Failure(f"the service of {other} has {found} of what was left at {site}")

    def cancellation_reaches_the_service(self):
        """A call that the client cancels is cancelled at the service."""
        for site in SITES:
            with grpc.insecure_channel(self.tunnel.target) as channel:
                request = threading.Event()
                # A request stream that goes on until we are done with the call.
                never = iter(lambda: request.wait(CLIENT_TIMEOUT), True)
                metadata = [("adit-agent", site)]
                call = services.RouteGuideStub(channel).RouteChat(never, metadata=metadata, timeout=CLIENT_TIMEOUT)
                # The service has answered the head of the call, so it is under way there.
                call.initial_metadata()
                if CANCELLED in self.servers[site].output():
                    raise Failure(f"the server of {site} speaks of a cancelled call before there was one")
                call.cancel()
                self.servers[site].wait_for(CANCELLED)
                request.set()

    def hub_killed_and_started_again(self):
        """The hub is killed and started again: calls work with no other action."""
        self.tunnel.hub.kill()
        self.tunnel.start_hub()
        begun = time.monotonic()
        for site in SITES:
            self.wait_for_calls(site, RESTART_TIMEOUT)
            print(f"    {site}: callable {time.monotonic() - begun:.1f} s after the hub's new start")

    def one_agent_killed(self):
        """An agent is killed: calls to it fail UNAVAILABLE and say why, the other's never notice."""
        with Neighbour(self.tunnel.target, SITES[0]) as neighbour:
            self.tunnel.agents[SITES[1]].kill()
            self.wait_until_offline(SITES[1])
        if neighbour.failures or not neighbour.answered:
            raise Failure(
                f"{len(neighbour.failures)} calls to {SITES[0]} failed and {neighbour.answered} succeeded "
                f"while {SITES[1]} was dead; the first: {neighbour.failures[:1]}"
            )
        print(f"    {SITES[0]}: {neighbour.answered} calls meanwhile, the slowest {neighbour.slowest * 1000:.0f} ms")

    def agent_started_again(self):
        """The killed agent is started again: calls to it work."""
        self.start_agent(SITES[1])
        self.wait_for_calls(SITES[1], START_TIMEOUT)

    def start_agent(self, site):
        self.tunnel.start_agent(site, f"http://{self.upstreams[site]}")

    def wait_for_calls(self, site, limit):
        """Tries a call until one succeeds; only UNAVAILABLE is worth another try."""
        deadline = time.monotonic() + limit
        while True:
            self.tunnel.expect_all_alive()
            # A channel of its own for each try: a shared one would back off between connections.
            with grpc.insecure_channel(self.tunnel.target) as channel:
                error = get_feature(channel, site, timeout=limit)
            if error is None:
                return
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise Failure(f"a call to {site}: {describe(error)}")
            if time.monotonic() > deadline:
                raise Failure(f"no call to {site} succeeded in {limit} s; the last: {describe(error)}")
            time.sleep(POLL)

    def wait_until_offline(self, site):
        """Calls until the answer is `agent-offline`; each answer on the way must be one of an agent that has gone."""
        begun = time.monotonic()
        seen = []
        with grpc.insecure_channel(self.tunnel.target) as channel:
            while seen[-1:] != ["agent-offline"]:
                if time.monotonic() - begun > DEATH_TIMEOUT:
                    raise Failure(f"{site} is not offline {DEATH_TIMEOUT} s after its death; answers: {seen}")
                error = get_feature(channel, site, timeout=DEATH_TIMEOUT)
                if error is None:
                    raise Failure(f"a call to {site} succeeded after its death")
                reason = adit_metadata(error).get("adit-error")
                delivered = adit_metadata(error).get("adit-delivered")
                if error.code() != grpc.StatusCode.UNAVAILABLE or GONE.get(reason, "") != delivered:
                    raise Failure(f"a call to {site} after its death: {describe(error)}")
                print(f"    {site}: {reason} {time.monotonic() - begun:.1f} s after its death")
                seen.append(reason)


class Neighbour:
    """Calls to one site, one after another, for as long as the block runs."""

    def __init__(self, target, site):
        self.target, self.site = target, site
        self.answered, self.failures, self.slowest = 0, [], 0.0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.call)

    def call(self):
        with grpc.insecure_channel(self.target) as channel:
            while not self.over.wait(POLL):
                begun = time.monotonic()
                error = get_feature(channel, self.site, timeout=5)
                self.slowest = max(self.slowest, time.monotonic() - begun)
                if error is None:
                    self.answered += 1
                else:
                    self.failures.append(describe(error))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def get_feature(channel, site, timeout):
    """The error of a call, or None."""
    try:
        services.RouteGuideStub(channel).GetFeature(pb.Point(), metadata=[("adit-agent", site)], timeout=timeout)
    except grpc.RpcError as error:
        return error
    return None


def chat(channel, note, metadata=()):
    return list(services.RouteGuideStub(channel).RouteChat(iter([note]), metadata=metadata, timeout=START_TIMEOUT))


def adit_metadata(error):
    return {key: value for key, value in error.trailing_metadata() or () if key.startswith("adit-")}


def describe(error):
    return f"{error.code().name} {adit_metadata(error)} “{error.details()}”"


if __name__ == "__main__":
    main()
