#!/usr/bin/env python3
"""RouteGuide's clients in Go and Node through the tunnel, built and tested from a copy of their sources.

Two RouteGuide servers, each behind an agent of its own, are called by both clients: the answers have to be those of a
call without a tunnel, and what the tunnel refuses has to be told with its reason.

    python tests/foreign/route_guide_clients.py [--bin-dir target/debug]

Needs Go 1.26, Node 20 with npm, protoc or the Python package grpcio-tools, and the two built commands.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

from tunnel import POLL, ROOT, START_TIMEOUT, Failure, check, environment, executable

SITES = ("site-1", "site-2")
# Seconds. A first build compiles gRPC.
BUILD_TIMEOUT = 300
# The agents find a new hub at their next keep-alive (10 s) or try.
RESTART_TIMEOUT = 30


def main():
    check("Calls RouteGuide through the tunnel in Go and Node.", lambda *given: Clients(*given).checks())


class Clients:
    def __init__(self, tunnel, arguments):
        self.tunnel = tunnel
        self.route_guide_server = executable(arguments.bin_dir, "route-guide-server")
        for command, how in (("go", "install Go 1.26"), ("npm", "install Node 20")):
            if not shutil.which(command):
                sys.exit(f"no command {command} on this machine: {how}")
        # Nothing that is generated or downloaded gets into the sources.
        self.sources = shutil.copytree(
            ROOT / "examples/route_guide", tunnel.folder / "route_guide",
            ignore=shutil.ignore_patterns("pb", "node_modules"),
        )  # fmt: skip
        go = tunnel.folder / "route-guide-client"
        self.clients = {"Go": [go], "Node": ["node", self.sources / "node/client.js"]}
        self.servers = {}
        self.answers = None

    def checks(self):
        return (
            self.go_builds,
            self.node_installs,
            self.start,
            self.every_site,
            self.no_site,
            self.hub_started_again,
            self.service_stopped,
        )

    def go_builds(self):
        """The Go client is built with stubs made for it, and its unit tests pass."""
        protoc = "protoc" if shutil.which("protoc") else f"{sys.executable} -m grpc_tools.protoc"
        for arguments in (("generate",), ("vet", "./..."), ("test", "."), ("build", "-o", self.clients["Go"][0], ".")):
            self.build("go", *arguments, cwd=self.sources / "go", PROTOC=protoc)

    def node_installs(self):
        """The Node client's packages are those of its lock file, and its unit tests pass."""
        for arguments in (("ci", "--no-audit", "--no-fund"), ("test",)):
            self.build("npm", *arguments, cwd=self.sources / "node")

    def build(self, *command, cwd, **settings):
        """Runs a command to its end, and ends what it has started if it takes too long."""
        with subprocess.Popen(
            command, cwd=cwd, env={**environment(), **settings}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                told, _ = process.communicate(timeout=BUILD_TIMEOUT)
            except subprocess.TimeoutExpired:
                raise Failure(f"{' '.join(map(str, command))} has not ended in {BUILD_TIMEOUT} s") from None
            finally:
                # Whatever ends this suite ends what the command has started, too.
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
        if process.returncode != 0:
            raise Failure(f"{' '.join(map(str, command))} exited {process.returncode}: {told}")

    def start(self):
        """Two services, a hub and two agents start, and each client gets its answers without a tunnel."""
        for site in SITES:
            self.servers[site] = self.tunnel.spawn(f"server-{site}", self.route_guide_server, "--listen", "127.0.0.1:0")
        self.tunnel.start_hub()
        for site in SITES:
            self.tunnel.start_agent(site, f"http://{self.servers[site].listening_on()}")
        self.tunnel.wait_until_attached(*SITES)
        direct = {name: self.good(name, self.servers[SITES[0]].listening_on()) for name in self.clients}
        self.answers = direct["Go"]
        expect("the Node client's answers", direct["Node"], self.answers)
        expect("the calls that were answered", len(self.answers), 5)

    def every_site(self):
        """Each client has the same answers from every site through the hub."""
        for name in self.clients:
            for site in SITES:
                found = self.good(name, self.tunnel.target, "--metadata", f"adit-agent={site}")
                expect(f"the {name} client's answers from {site}", found, self.answers)

    def no_site(self):
        """A site that is not there, and no site at all, are refused with the tunnel's reason."""
        self.expect_refused("agent-offline", "--metadata", "adit-agent=site-3")
        self.expect_refused("ambiguous-route")

    def hub_started_again(self):
        """The hub is killed and started again: each client has its answers."""
        self.tunnel.hub.kill()
        self.tunnel.start_hub()
        deadline = time.monotonic() + RESTART_TIMEOUT
        while {link["agent"] for link in self.tunnel.links()} != set(SITES):
            if time.monotonic() > deadline:
                raise Failure(f"the agents are not back in {RESTART_TIMEOUT} s: {self.tunnel.links()}")
            time.sleep(POLL)
        self.every_site()

    def service_stopped(self):
        """A site whose service has gone is refused as upstream-refused, and the other one never notices."""
        expect("the service's exit code", self.servers[SITES[1]].stop(), 0)
        self.expect_refused("upstream-refused", "--metadata", f"adit-agent={SITES[1]}")
        for name in self.clients:
            found = self.good(name, self.tunnel.target, "--metadata", f"adit-agent={SITES[0]}")
            expect(f"the {name} client's answers", found, self.answers)

    def good(self, name, target, *more):
        """What a client prints of its calls, which have to be answered rightly: without times, and codes as one word."""
        done = self.run(name, "--target", target, *more)
        if done.returncode != 0:
            raise Failure(f"the {name} client exited {done.returncode}: {done.stderr}")
        lines = [re.sub(r" \([\d.]+ ms\)$", "", line) for line in done.stdout.splitlines()]
        return [line.replace("INVALID_ARGUMENT", "InvalidArgument") for line in lines]

    def expect_refused(self, reason, *more):
        """That both clients end with 1 and tell this reason, and that the service has not seen the call."""
        for name in self.clients:
            done = self.run(name, "--target", self.tunnel.target, *more)
            words = ("GetFeature: ", f"adit-error={reason}", "adit-delivered=no")
            if done.returncode != 1 or not all(word in done.stderr for word in words):
                raise Failure(f"the {name} client exited {done.returncode}, not 1 with {words}: {done.stderr}")

    def run(self, name, *arguments):
        return subprocess.run(
            [*self.clients[name], *arguments],
            env=environment(), capture_output=True, text=True, timeout=2 * START_TIMEOUT, check=False,
        )  # fmt: skip


def expect(what, found, expected):
    if found != expected:
        raise Failure(f"{what} should be {expected!r} and is {found!r}")


if __name__ == "__main__":
    main()
