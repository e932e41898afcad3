"""A tunnel of real processes for suites in Python: a throwaway CA, a hub and agents, on ports that were free.

    with tunnel.opened(bin_dir) as world:
        world.start_hub()
        world.start_agent("site-1", "http://127.0.0.1:50051")
        world.wait_until_attached("site-1")

Every process ends with the block, and the ends of their logs are printed if it ends with a Failure.
"""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

# Seconds. Generous for a busy machine: each is only ever waited out by a failure.
START_TIMEOUT = 30
STOP_TIMEOUT = 15
# Between two tries of a condition that is polled.
POLL = 0.05
# Lines of each log that are shown when a check fails.
LOG_TAIL = 30


class Failure(Exception):
    """A check that does not hold."""


@contextlib.contextmanager
def opened(bin_dir):
    """A tunnel with certificates, and no process yet."""
    with tempfile.TemporaryDirectory(prefix="adit-foreign-") as folder, contextlib.ExitStack() as stack:
        tunnel = Tunnel(pathlib.Path(folder), bin_dir, stack)
        try:
            yield tunnel
        except Failure:
            tunnel.show_logs()
            raise


def check(description, checks_of, extend=None):
    """A suite's main: parses the arguments, opens a tunnel, runs the checks that `checks_of(tunnel, arguments)` gives.

    Each check is a function without arguments whose docstring says what holds if it returns; a Failure says that it
    does not, and ends the suite with exit code 1. `extend(parser)` may add arguments.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--bin-dir", type=pathlib.Path, default=ROOT / "target/debug", help="where the commands are")
    if extend:
        extend(parser)
    # What is started in the background ignores it, and so would all that is started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    arguments = parser.parse_args()
    # As an interrupt is: the processes end with the suite, whoever ends it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    passed = 0
    try:
        with opened(arguments.bin_dir) as tunnel:
            for one in checks_of(tunnel, arguments):
                begun = time.monotonic()
                claim = one.__doc__.rstrip(".")
                try:
                    one()
                except Failure as failure:
                    print(f"FAILED: {claim}: {failure}", flush=True)
                    raise
                passed += 1
                print(f"ok: {claim} ({time.monotonic() - begun:.1f} s)", flush=True)
    except Failure:
        print(f"{passed} passed, 1 failed")
        sys.exit(1)
    print(f"{passed} passed, 0 failed")


class Tunnel:
    """A CA, a hub, agents, and whatever else is spawned beside them."""

    def __init__(self, folder, bin_dir, stack):
        self.folder = folder
        self.certs = folder / "certs"
        self.adit = executable(bin_dir, "adit")
        self.stack = stack
        self.processes = []
        self.agents = {}
        self.hub = None
        self.agents_port, self.clients_port, self.admin_port = free_ports(3)
        self.run("certs", "init", "--dir", self.certs)
        self.run("certs", "hub", "--san", "127.0.0.1", "--san", "localhost", "--dir", self.certs)

    @property
    def target(self):
        """The clients' port, as gRPC clients take it."""
        return f"127.0.0.1:{self.clients_port}"

    def start_hub(self, *more):
        """A hub on the ports of this tunnel: again after a kill, if need be."""
        self.hub = self.spawn(
            "hub", self.adit, "hub", "--certs", self.certs, "--agents", f"127.0.0.1:{self.agents_port}",
            "--clients", self.target, "--admin", f"127.0.0.1:{self.admin_port}", *more,
        )  # fmt: skip
        return self.hub

    def start_agent(self, agent_id, upstream, *more):
        """An agent before an upstream, as `http://HOST:PORT`. It makes the agent's certificate if there is none."""
        if not (self.certs / f"agent-{agent_id}.pem").exists():
            self.run("certs", "agent", agent_id, "--dir", self.certs)
        self.agents[agent_id] = self.spawn(
            f"agent-{agent_id}", self.adit, "agent", "--certs", self.certs, "--id", agent_id,
            "--hub", f"localhost:{self.agents_port}", "--upstream", upstream, *more,
        )  # fmt: skip
        return self.agents[agent_id]

    def wait_until_attached(self, *agent_ids, services=True):
        """Until calls can be routed to these agents; by the services that they have, too, unless told otherwise."""
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            self.expect_all_alive()
            links = self.links()
            ready = {link["agent"] for link in links if not services or link.get("services")}
            if ready.issuperset(agent_ids):
                return
            if time.monotonic() > deadline:
                raise Failure(f"{agent_ids} are not attached in {START_TIMEOUT} s; the hub has {links}")
            time.sleep(POLL)

    def links(self, admin_port=None):
        """The links of the hub, as `adit agents` tells of them; none while the hub is still starting."""
        port = admin_port or self.admin_port
        command = [self.adit, "agents", "--admin", f"http://127.0.0.1:{port}", "-o", "json"]
        told = subprocess.run(
            command, env=environment(), capture_output=True, text=True, timeout=START_TIMEOUT, check=False
        )
        return json.loads(told.stdout or "[]") if told.returncode == 0 else []

    def run(self, *arguments):
        """Runs the command to its end, which has to be a good one, and gives what it printed."""
        done = subprocess.run(
            [self.adit, *arguments], env=environment(), capture_output=True, text=True,
            timeout=START_TIMEOUT, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            told = " ".join(str(argument) for argument in arguments)
            raise Failure(f"adit {told} exited {done.returncode}: {done.stderr}")
        return done.stdout

    def spawn(self, name, *command, cwd=None):
        """Starts a process that ends with the tunnel, and whose early end is a failure."""
        process = Process(name, command, self.folder, cwd)
        self.stack.callback(process.stop)
        self.processes.append(process)
        return process

    def expect_all_alive(self):
        for process in self.processes:
            process.expect_alive()

    def show_logs(self):
        for process in self.processes:
            print(f"--- the end of {process.name}'s log")
            print("\n".join(process.output().splitlines()[-LOG_TAIL:]), flush=True)


class Process:
    """A process that we started, its output in a file."""

    def __init__(self, name, command, folder, cwd=None):
        self.name = name
        self.ended_by_us = False
        self.log = folder / f"{name}-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=environment(), cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    @property
    def pid(self):
        return self.process.pid

    def output(self):
        return self.log.read_text(errors="replace")

    def wait_for(self, text, timeout=START_TIMEOUT):
        """What the process has written after `text`, once it has written that and ended the line."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self.expect_alive()
            _, found, rest = self.output().partition(text)
            if found and "\n" in rest:
                return rest
            time.sleep(POLL)
        raise Failure(f"{self.name} has not written “{text}” in {timeout} s")

    def listening_on(self):
        """The address that a server says it listens on: `listening on HOST:PORT`."""
        return self.wait_for("listening on ").partition("\n")[0].strip()

    def expect_alive(self):
        if not self.ended_by_us and self.process.poll() is not None:
            raise Failure(f"{self.name} exited {self.process.returncode} by itself")

    def kill(self):
        """SIGKILL, and its end."""
        self.ended_by_us = True
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(STOP_TIMEOUT)

    def stop(self, by=signal.SIGTERM):
        """A signal, and the exit code that it ends with; SIGKILL if it does not end in time."""
        self.ended_by_us = True
        if self.process.poll() is None:
            self.process.send_signal(by)
            try:
                self.process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def resident_kib(self):
        """Memory that the process has resident now, in KiB (Linux)."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise Failure(f"{self.name} has no VmRSS")


def executable(bin_dir, name):
    path = pathlib.Path(bin_dir).resolve() / name
    if not path.is_file():
        sys.exit(f"{path} is not there; build it first: cargo build --workspace --bins")
    return path


def environment():
    """Ours, without settings that would stand in for the flags, nor what earlier calls have learnt of other servers."""
    nowhere = "/nonexistent"
    ours = {key: value for key, value in os.environ.items() if not key.startswith("ADIT_")}
    return {**ours, "ADIT_CALL_NO_CACHE": "true", "XDG_CONFIG_HOME": nowhere}


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
