#!/usr/bin/env python3
"""Foreign clients through the tunnel: separate processes, an unchanged Python gRPC client, failures included.

Starts two RouteGuide servers, a hub and an agent before each server, and then
  - runs examples/route_guide/python/client.py at each agent's id,
  - cancels a call, and looks for the cancellation in the log of the server behind that agent,
  - kills the hub (SIGKILL), starts it again on the same ports, and runs the client again,
  - kills one agent (SIGKILL): calls to it fail UNAVAILABLE and say why, calls to the other never notice,
  - starts that agent again, and runs the client once more.

    python tests/foreign/run.py [--bin-dir target/debug]

Needs the packages of examples/route_guide/python/requirements.txt and the two built commands.
Exits 0 if all of it holds; else it says what does not and prints the end of every process's log.
"""

import argparse
import contextlib
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import grpc

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CLIENT = ROOT / "examples/route_guide/python/client.py"
sys.path.insert(0, str(ROOT / "examples/route_guide/proto"))
pb, services = grpc.protos_and_services("route_guide.proto")

SITES = ("site-1", "site-2")
# Seconds. Generous for a busy machine: each is only ever waited out by a failure.
START_TIMEOUT = 30
# A new hub is found at the agents' next keep-alive (10 s) or try.
RESTART_TIMEOUT = 30
# A dead agent is found at the latest when its link's idle timeout (30 s) runs out.
DEATH_TIMEOUT = 60
STOP_TIMEOUT = 15
CLIENT_TIMEOUT = 120
# Between two tries of a condition that is polled.
POLL = 0.05
# Lines of each log that are shown when a check fails.
LOG_TAIL = 30

# What the server logs when a call is cancelled.
CANCELLED = "call cancelled path=\"/routeguide.RouteGuide/RouteChat\""

# What an agent that has gone is reported as, and whether its upstream may have seen the call.
GONE = {"link-lost": "maybe", "agent-offline": "no"}


class Failure(Exception):
    """A check that does not hold."""


def main():
    arguments = parse_arguments()
    checks = 0
    with tempfile.TemporaryDirectory(prefix="adit-foreign-") as folder, contextlib.ExitStack() as stack:
        world = World(pathlib.Path(folder), arguments.bin_dir, stack)
        try:
            for check in (
                world.make_certificates,
                world.start,
                world.client_calls_every_site,
                world.calls_reach_the_site_that_is_named,
                world.cancellation_reaches_the_service,
                world.hub_killed_and_started_again,
                world.client_calls_every_site,
                world.one_agent_killed,
                world.agent_started_again,
                world.client_calls_every_site,
            ):
                begun = time.monotonic()
                check()
                checks += 1
                print(f"ok: {check.__doc__.rstrip('.')} ({time.monotonic() - begun:.1f} s)", flush=True)
        except Failure as failure:
            print(f"FAILED: {check.__doc__.rstrip('.')}: {failure}", flush=True)
            world.show_logs()
            print(f"{checks} passed, 1 failed")
            sys.exit(1)
    print(f"{checks} passed, 0 failed")


class World:
    """All processes, and what the checks do with them."""

    def __init__(self, folder, bin_dir, stack):
        self.folder = folder
        self.certs = folder / "certs"
        self.adit = executable(bin_dir, "adit")
        self.server = executable(bin_dir, "route-guide-server")
        self.stack = stack
        self.logs = []
        self.servers = {}
        self.upstreams = {}
        self.agents = {}
        self.hub = None
        self.agents_port, self.clients_port, self.admin_port = free_ports(3)

    def make_certificates(self):
        """The command makes a CA and the certificates of hub and agents."""
        for arguments in (
            ["init"],
            ["hub", "--san", "127.0.0.1", "--san", "localhost"],
            *(["agent", site] for site in SITES),
        ):
            command = [self.adit, "certs", *arguments, "--dir", self.certs]
            made = subprocess.run(
                command, env=environment(), capture_output=True, text=True, timeout=START_TIMEOUT, check=False
            )
            if made.returncode != 0:
                raise Failure(f"adit certs {' '.join(arguments)} exited {made.returncode}: {made.stderr}")

    def start(self):
        """Two services, a hub and two agents start, and calls go through."""
        for site in SITES:
            server = self.spawn(f"server-{site}", self.server, "--listen", "127.0.0.1:0")
            self.servers[site] = server
            self.upstreams[site] = server.wait_for("listening on ").partition("\n")[0]
        self.start_hub()
        for site in SITES:
            self.start_agent(site)
        for site in SITES:
            self.wait_for_calls(site, START_TIMEOUT)

    def client_calls_every_site(self):
        """The Python client calls all four kinds at each agent."""
        for site in SITES:
            command = [sys.executable, CLIENT, "--target", self.hub_target(), "--metadata", f"adit-agent={site}"]
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
            with grpc.insecure_channel(self.hub_target()) as channel:
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
            with grpc.insecure_channel(self.hub_target()) as channel:
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
        self.hub.kill()
        self.start_hub()
        begun = time.monotonic()
        for site in SITES:
            self.wait_for_calls(site, RESTART_TIMEOUT)
            print(f"    {site}: callable {time.monotonic() - begun:.1f} s after the hub's new start")

    def one_agent_killed(self):
        """An agent is killed: calls to it fail UNAVAILABLE and say why, the other's never notice."""
        with Neighbour(self.hub_target(), SITES[0]) as neighbour:
            self.agents[SITES[1]].kill()
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

    def start_hub(self):
        self.hub = self.spawn(
            "hub", self.adit, "hub", "--certs", self.certs, "--agents", f"127.0.0.1:{self.agents_port}",
            "--clients", self.hub_target(), "--admin", f"127.0.0.1:{self.admin_port}",
        )  # fmt: skip

    def start_agent(self, site):
        self.agents[site] = self.spawn(
            f"agent-{site}", self.adit, "agent", "--certs", self.certs, "--id", site,
            "--hub", f"localhost:{self.agents_port}", "--upstream", f"http://{self.upstreams[site]}",
        )  # fmt: skip

    def hub_target(self):
        return f"127.0.0.1:{self.clients_port}"

    def wait_for_calls(self, site, limit):
        """Tries a call until one succeeds; only UNAVAILABLE is worth another try."""
        deadline = time.monotonic() + limit
        while True:
            self.expect_all_alive()
            # A channel of its own for each try: a shared one would back off between connections.
            with grpc.insecure_channel(self.hub_target()) as channel:
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
        with grpc.insecure_channel(self.hub_target()) as channel:
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

    def spawn(self, name, *command):
        process = Process(name, command, self.folder)
        self.stack.callback(process.stop)
        self.logs.append(process)
        return process

    def expect_all_alive(self):
        for process in self.logs:
            process.expect_alive()

    def show_logs(self):
        for process in self.logs:
            print(f"--- the end of {process.name}'s log")
            print("\n".join(process.output().splitlines()[-LOG_TAIL:]))


class Process:
    """A process that we started, its output in a file."""

    def __init__(self, name, command, folder):
        self.name = name
        self.killed = False
        self.log = folder / f"{name}-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def output(self):
        return self.log.read_text(errors="replace")

    def wait_for(self, text):
        """What the process has written after `text`, once it has written that and ended the line."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            self.expect_alive()
            _, found, rest = self.output().partition(text)
            if found and "\n" in rest:
                return rest
            time.sleep(POLL)
        raise Failure(f"{self.name} has not written “{text}” in {START_TIMEOUT} s")

    def expect_alive(self):
        if not self.killed and self.process.poll() is not None:
            raise Failure(f"{self.name} exited {self.process.returncode} by itself")

    def kill(self):
        self.killed = True
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(STOP_TIMEOUT)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self.kill()


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


def executable(bin_dir, name):
    path = bin_dir / name
    if not path.is_file():
        sys.exit(f"{path} is not there; build it first: cargo build --workspace --bins")
    return path


def environment():
    """Ours, without settings that would stand in for the flags."""
    return {key: value for key, value in os.environ.items() if not key.startswith("ADIT_")}


def free_ports(count):
    """Ports that are free for TCP and UDP now: all are held until each has been found."""
    ports = []
    with contextlib.ExitStack() as held:
        while len(ports) < count:
            tcp = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            tcp.bind(("127.0.0.1", 0))
            port = tcp.getsockname()[1]
            udp = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            with contextlib.suppress(OSError):
                udp.bind(("127.0.0.1", port))
                ports.append(port)
    return ports


def parse_arguments():
    parser = argparse.ArgumentParser(description="Calls through the tunnel with a foreign client.")
    parser.add_argument(
        "--bin-dir", type=pathlib.Path, default=ROOT / "target/debug", help="where adit and route-guide-server are"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
