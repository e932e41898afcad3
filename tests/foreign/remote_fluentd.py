#!/usr/bin/env python3
"""The remote fluentd sample, at two sites in network namespaces of their own, driven by `adit call`.

Each site has the service, a stand-in for fluentd as its daemon, and an agent that dials the hub; nothing at the hub's
end can dial into a site. Requests come from files and from standard input. Above all, no site is ever stopped that was
not named.

    python tests/foreign/remote_fluentd.py [--bin-dir target/debug]

Needs the packages of examples/remote_fluentd/requirements.txt and the built command. The namespaces need Linux, the
commands unshare, nsenter and ip, and root or unprivileged user namespaces; without them both sites are on this machine
itself, and what only namespaces can show is skipped, with the reason.
"""

import json
import os
import pathlib
import shlex
import socket
import subprocess
import sys
import time
import xml.etree.ElementTree

import grpc
import namespaces
from tunnel import POLL, ROOT, START_TIMEOUT, STOP_TIMEOUT, Failure, check, environment

SAMPLE = ROOT / "examples/remote_fluentd"
STAND_IN = shlex.join([sys.executable, str(SAMPLE / "tests/stand_in.py")])
sys.path.insert(0, str(SAMPLE / "proto"))
pb, services = grpc.protos_and_services("fluentd.proto")

SERVICE = "fluentd.v1.Fluentd"
NAMES = ("site-1", "site-2")
# The same at both sites: nobody else is there.
ADDRESS = "127.0.0.1:50061"


def main():
    reason = namespaces.enter()
    check("Runs daemons at two sites from afar.", lambda tunnel, _: Sites(tunnel, reason).checks())


class Sites:
    def __init__(self, tunnel, without_namespaces):
        self.tunnel = tunnel
        self.without_namespaces = without_namespaces
        self.sites = {}
        self.servers = {}
        self.pids = {}

    def checks(self):
        return (
            self.start,
            *([] if self.without_namespaces else [self.nobody_dials_in]),
            self.every_form,
            self.all_sites_at_once,
            self.configured_and_started,
            self.told_to_read_again,
            self.bad_configuration,
            self.no_site_named,
            self.one_site_stopped,
            self.crash,
            self.offline,
            self.service_stopped,
        )

    def start(self):
        """Two sites start, each with its service and its agent, and are known to the hub."""
        # A certificate for a hub that is dialled by address, a different one from each site.
        more = []
        if self.without_namespaces:
            print(f"    skipped: namespaces, and that nobody dials into them: {self.without_namespaces}")
        else:
            self.sites = {name: namespaces.Site(self.tunnel, name, n) for n, name in enumerate(NAMES, 1)}
            addresses = [site.hub_address for site in self.sites.values()]
            sans = [part for address in addresses for part in ("--san", address)]
            self.tunnel.run("certs", "hub", *sans, "--san", "localhost", "--force", "--dir", self.tunnel.certs)
            more = [part for address in addresses for part in ("--agents", f"{address}:{self.tunnel.agents_port}")]
        self.tunnel.start_hub(*more)
        for name in NAMES:
            listen = "127.0.0.1:0" if self.without_namespaces else ADDRESS
            self.servers[name] = self.tunnel.spawn(
                f"server-{name}", *self.inside(name), sys.executable, SAMPLE / "server.py", "--listen", listen,
                "--file", self.file(name), "--command", f"{STAND_IN} {{file}}", "--check", f"{STAND_IN} --check {{file}}",
            )  # fmt: skip
        for name in NAMES:
            self.start_agent(name, self.servers[name].listening_on())
        self.tunnel.wait_until_attached(*NAMES)
        for name in NAMES:
            expect(f"whether {name}'s daemon runs", self.status(name).get("running", False), False)

    def start_agent(self, name, address):
        if self.without_namespaces:
            self.tunnel.start_agent(name, f"http://{address}")
            return
        certs = self.tunnel.certs
        if not (certs / f"agent-{name}.pem").exists():
            self.tunnel.run("certs", "agent", name, "--dir", certs)
        hub = f"{self.sites[name].hub_address}:{self.tunnel.agents_port}"
        self.tunnel.agents[name] = self.tunnel.spawn(
            f"agent-{name}", *self.inside(name), self.tunnel.adit, "agent", "--certs", certs, "--id", name,
            "--hub", hub, "--upstream", f"http://{address}",
        )  # fmt: skip

    def nobody_dials_in(self):
        """The sites' services, both on the same loopback address, cannot be dialled from the hub's side."""
        port = int(ADDRESS.rpartition(":")[2])
        for host in ("127.0.0.1", *(site.address for site in self.sites.values())):
            try:
                socket.create_connection((host, port), timeout=START_TIMEOUT).close()
            except ConnectionRefusedError:
                continue
            raise Failure(f"{host}:{port} took a connection from outside of the site")

    def every_form(self):
        """The sample's payloads, in JSON, YAML and XML, arrive from files and from standard input, and answers in each."""
        comment = "# What the tests' stand-in for fluentd reads.\n"
        for form, begin in (("json", ""), ("yaml", comment), ("xml", comment)):
            payload = SAMPLE / f"payloads/stand-in.{form}"
            self.call("site-1", "Configure", "-d", f"@{payload}")
            expect(f"site-1's file from {form}", self.file("site-1").read_text(), f"{begin}tag north\n")
            # The form of standard input is found out, or said.
            for more in ((), ("--format", form, "-o", "json")):
                self.file("site-2").write_text("tag nothing\n")
                self.call("site-2", "Configure", "-d", "@-", *more, stdin=payload.read_text())
                expect(f"site-2's file from {form}", self.file("site-2").read_text(), f"{begin}tag north\n")
            wrong = self.adit_call("site-2", "Configure", "-d", "@-", "--format", form, stdin="<configuration: [")
            expect(f"what is printed of wrong {form}", (wrong.returncode, wrong.stdout), (1, ""))
        known = self.status("site-1")["configurationSha256"]
        for form, read in (("yaml", yaml_answer), ("xml", xml_answer)):
            done = self.adit_call("site-1", "Status", "-o", form)
            expect(f"the file's digest in {form}", read(done.stdout), known)

    def all_sites_at_once(self):
        """One request from standard input configures every site that has the service, each named in what is printed."""
        request = "configuration: |\n  tag everywhere\n"
        admin = f"http://127.0.0.1:{self.tunnel.admin_port}"
        done = self.adit_call(None, "Configure", "--all", "--admin", admin, "-d", "@-", stdin=request)
        expect("the exit code", done.returncode, 0)
        expect("who answers", sorted(line.partition(": ")[0] for line in done.stdout.splitlines()), list(NAMES))
        for name in NAMES:
            expect(f"{name}'s file", self.file(name).read_text(), "tag everywhere\n")

    def configured_and_started(self):
        """Requests from a file and from standard input configure and start each site's own daemon."""
        payload = self.tunnel.folder / "payload.json"
        payload.write_text(json.dumps({"configuration": "tag north\n"}))
        self.call("site-1", "Configure", "-d", f"@{payload}")
        self.call("site-2", "Configure", "-d", "@-", stdin=json.dumps({"configuration": "tag south\n"}))
        for name, tag in zip(NAMES, ("north", "south"), strict=True):
            expect(f"{name}'s file", self.file(name).read_text(), f"tag {tag}\n")
            state = self.call(name, "Start")
            self.pids[name] = state["pid"]
            self.wait_for_output(name, f"loaded {tag}")
            self.expect_runs_at(name)
        if self.pids["site-1"] == self.pids["site-2"]:
            raise Failure(f"both sites have the same process: {self.pids}")

    def told_to_read_again(self):
        """A new configuration is read by the running process, which stays the same one."""
        state = self.call("site-2", "Configure", "-d", "@-", stdin='{"configuration": "tag south-pole\\n"}')
        expect("the process", state["pid"], self.pids["site-2"])
        expect("how often it was told", state["reloads"], 1)
        self.wait_for_output("site-2", "loaded south-pole")
        if "loaded south-pole" in self.status("site-1")["output"]:
            raise Failure("the other site has read it, too")
        self.expect_all_run()

    def bad_configuration(self):
        """A configuration that the daemon would not take is refused by name, and the old one stays."""
        before = self.status("site-1")["configurationSha256"]
        told = self.refused("INVALID_ARGUMENT", "site-1", "Configure", "-d", '{"configuration": "tga north"}')
        if "unknown ['tga']" not in told:
            raise Failure(f"the reason is not in what was told: {told}")
        expect("the file", self.status("site-1")["configurationSha256"], before)
        self.expect_all_run()

    def no_site_named(self):
        """Without a site, every method is ambiguous-route, reaches nobody and stops nothing."""
        told = self.refused("FAILED_PRECONDITION", None, "Stop")
        if "ambiguous-route" not in told:
            raise Failure(f"`adit call` does not say why: {told}")
        # `adit call` asks for the schema first, and may have been refused that. So here is a client that has it.
        requests = {
            "Start": pb.StartRequest(),
            "Stop": pb.StopRequest(),
            "Status": pb.StatusRequest(),
            "Configure": pb.ConfigureRequest(configuration="tag wrong\n"),
        }
        with grpc.insecure_channel(self.tunnel.target) as channel:
            stub = services.FluentdStub(channel)
            for method, request in requests.items():
                try:
                    getattr(stub, method)(request, timeout=START_TIMEOUT)
                except grpc.RpcError as error:
                    metadata = dict(error.trailing_metadata())
                    found = (error.code().name, metadata.get("adit-error"), metadata.get("adit-delivered"))
                    expect(f"the answer to {method}", found, ("FAILED_PRECONDITION", "ambiguous-route", "no"))
                else:
                    raise Failure(f"{method} went to some site")
        self.expect_all_run()

    def one_site_stopped(self):
        """Stop stops the site that is named, tells its exit code, and leaves the other alone."""
        state = self.call("site-2", "Stop", "-d", '{"grace": "20s"}')
        expect("whether it runs", state.get("running", False), False)
        expect("its exit", state["lastExit"].get("code"), 0)
        expect_gone(self.pids.pop("site-2"))
        self.expect_all_run()
        self.pids["site-2"] = self.call("site-2", "Start")["pid"]
        self.expect_all_run()

    def crash(self):
        """A daemon that ends by itself is told of with its exit code, and only that site's."""
        self.wait_for_output("site-2", "loaded south-pole")
        self.call("site-2", "Configure", "-d", '{"configuration": "tag falling\\nexit 7\\n"}')
        state = self.wait_for_state("site-2", lambda state: not state.get("running"))
        expect("its exit", state["lastExit"].get("code"), 7)
        del self.pids["site-2"]
        told = self.refused("FAILED_PRECONDITION", "site-2", "Start")
        if "exit code 7" not in told:
            raise Failure(f"a start that fails does not say why: {told}")
        self.call("site-2", "Configure", "-d", '{"configuration": "tag south\\n"}')
        self.pids["site-2"] = self.call("site-2", "Start")["pid"]
        self.expect_all_run()

    def offline(self):
        """While a site is cut off its daemon runs on, and a stop meant for it stops nobody else's."""
        before = seconds(self.status("site-1")["uptime"])
        self.tunnel.agents["site-1"].kill()
        self.refused("UNAVAILABLE", "site-1", "Stop")
        self.expect_all_alive()
        self.start_agent("site-1", self.servers["site-1"].listening_on())
        # The hub may know the old link still.
        deadline = time.monotonic() + START_TIMEOUT
        while self.adit_call("site-1", "Status").returncode:
            if time.monotonic() > deadline:
                raise Failure(f"site-1 is not back in {START_TIMEOUT} s")
        after = seconds(self.status("site-1")["uptime"])
        if after <= before:
            raise Failure(f"site-1's daemon was started anew: up for {before} s before, and {after} s now")
        self.expect_all_run()

    def service_stopped(self):
        """A site's service takes its daemon with it when it is stopped, and when it is killed."""
        expect("the service's exit code", self.servers["site-1"].stop(), 0)
        expect_gone(self.pids["site-1"])
        self.servers["site-2"].kill()
        expect_gone(self.pids["site-2"])

    def inside(self, name):
        return self.sites[name].inside if self.sites else []

    def file(self, name):
        return self.tunnel.folder / f"{name}.conf"

    def status(self, name):
        return self.call(name, "Status")

    def call(self, name, method, *more, stdin=None):
        """What a good call answers."""
        done = self.adit_call(name, method, *more, stdin=stdin)
        if done.returncode != 0:
            raise Failure(f"{method} at {name} exited {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)

    def refused(self, code, name, method, *more):
        """What `adit call` writes about a call that has to end with this status."""
        done = self.adit_call(name, method, *more)
        expected = 64 + grpc.StatusCode[code].value[0]
        if done.returncode != expected:
            raise Failure(f"{method} at {name} exited {done.returncode}, not {expected} ({code}): {done.stderr}")
        return done.stderr

    def adit_call(self, name, method, *more, stdin=None):
        where = ["--agent", name] if name else []
        return subprocess.run(
            [self.tunnel.adit, "call", "--hub", f"http://{self.tunnel.target}", *where, f"{SERVICE}/{method}", *more],
            env=environment(), input=stdin or "", capture_output=True, text=True, timeout=START_TIMEOUT, check=False,
        )  # fmt: skip

    def wait_for_output(self, name, line):
        return self.wait_for_state(name, lambda state: line in state.get("output", []))

    def wait_for_state(self, name, holds):
        deadline = time.monotonic() + START_TIMEOUT
        while not holds(state := self.status(name)):
            if time.monotonic() > deadline:
                raise Failure(f"{name} does not come to the expected state in {START_TIMEOUT} s: {state}")
            time.sleep(POLL)
        return state

    def expect_all_run(self):
        """That each site's daemon is the process that we know."""
        for name, pid in self.pids.items():
            state = self.status(name)
            expect(f"{name}'s process", (state.get("running"), state.get("pid")), (True, pid))
        self.expect_all_alive()

    def expect_all_alive(self):
        for name, pid in self.pids.items():
            if not alive(pid):
                raise Failure(f"{name}'s daemon, process {pid}, is gone")

    def expect_runs_at(self, name):
        """That the daemon is in its site's namespace, and with its site's file."""
        pid = self.pids[name]
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        expect(f"the file of {name}'s daemon", command[-2], str(self.file(name)))
        if self.sites:
            spaces = {os.readlink(f"/proc/{of}/ns/net") for of in (pid, self.tunnel.agents[name].pid)}
            if len(spaces) != 1 or os.readlink("/proc/self/ns/net") in spaces:
                raise Failure(f"{name}'s daemon and agent are not in one namespace of their own: {spaces}")


def yaml_answer(text):
    lines = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    return lines["configurationSha256"].strip('"')


def xml_answer(text):
    return xml.etree.ElementTree.fromstring(text).findtext("configuration_sha256")


def expect(what, found, expected):
    if found != expected:
        raise Failure(f"{what} should be {expected!r} and is {found!r}")


def alive(pid):
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def expect_gone(pid):
    deadline = time.monotonic() + STOP_TIMEOUT
    while alive(pid):
        if time.monotonic() > deadline:
            raise Failure(f"process {pid} still runs after {STOP_TIMEOUT} s")
        time.sleep(POLL)


def seconds(duration):
    return float(duration.removesuffix("s"))


if __name__ == "__main__":
    main()
