"""The interop cases, from every language to every other one: without a tunnel, and through one."""

import contextlib
import json
import socket
import subprocess
import time

import matrix
import tunnel
from tap import Tap
from tools import FOLDER

AGENT = "interop"
# Seconds for a client with its cases: each case has a limit of its own, so only a client that hangs takes so long.
CLIENT_TIMEOUT = 600
START_TIMEOUT = tunnel.START_TIMEOUT
# For what passed a tap to be noted.
TAP_TIMEOUT = 5

# Limits for grpc-go's client, as generous as ours.
SOAK = ("--soak_per_iteration_max_acceptable_latency_ms=10000", "--soak_overall_timeout_seconds=90")
# The load balancing policy with which grpc-go's client looks at load reports.
ORCA_POLICY = '{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}'


class Interop:
    """Runs the cases. `results` has, for (case, client, server, way), None or what went wrong."""

    def __init__(self, tools, bin_dir, ways, pairs=matrix.PAIRS, cases=matrix.CASES):
        self.tools, self.bin_dir, self.ways, self.pairs, self.cases = tools, bin_dir, ways, pairs, cases
        self.results = {}

    def run(self):
        for server in matrix.LANGUAGES:
            clients = [client for client, its_server in self.pairs if its_server == server]
            official = [case for case in self.cases if case not in matrix.MORE_SERVER]
            for cases in (official, [case for case in self.cases if case in matrix.MORE_SERVER]):
                if clients and cases:
                    for way in self.ways:
                        self.run_behind(way, server, clients, cases)
        return self.results

    def run_behind(self, way, server, clients, cases):
        """All clients of one server, on one way to it."""
        more = cases[0] in matrix.MORE_SERVER
        with Stand(self.tools, self.bin_dir, server, more, way) as stand:
            for client in clients:
                possible = [case for case in cases if not matrix.why_not(case, client, server)]
                begun = time.monotonic()
                if more:
                    # One by one: what passes the taps has to be told apart.
                    outcomes = {case: stand.run_tapped(client, case) for case in possible}
                else:
                    outcomes = stand.run_client(client, possible)
                for case, outcome in outcomes.items():
                    self.results[case, client, server, way] = outcome
                took = time.monotonic() - begun
                print(f"{client} → {server}, {way}: {len(possible)} cases in {took:.1f} s", flush=True)
            if any(self.results.get((case, client, server, way)) for case in cases for client in clients):
                stand.world.show_logs()


class Stand:
    """A server, and the way to it: an address for clients."""

    def __init__(self, tools, bin_dir, server, more, way):
        self.tools, self.bin_dir, self.server, self.more, self.way = tools, bin_dir, server, more, way

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.world = stack.enter_context(tunnel.opened(self.bin_dir))
            (port,) = tunnel.free_ports(1)
            self.world.spawn(f"server-{self.server}", *self.server_command(port))
            self.target = f"127.0.0.1:{port}"
            wait_until_listening(self.world, port)
            if self.more:
                self.far = Tap(self.target)
                stack.callback(self.far.close)
            if self.way != matrix.DIRECT:
                self.world.start_hub()
                upstream = self.far.address if self.more else self.target
                self.world.start_agent(AGENT, f"http://{upstream}", *matrix.CARRIERS[self.way])
                self.world.wait_until_attached(AGENT, services=False)
                self.target = self.world.target
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *exception):
        return self.stack.__exit__(*exception)

    def server_command(self, port):
        if self.server == "go":
            return [self.tools.go / ("peerserver" if self.more else "interop-server"), f"--port={port}"]
        return [*self.program(self.server, "server"), f"--port={port}"]

    def program(self, language, role):
        if language == "python":
            return [self.tools.python, FOLDER / f"python/{role}.py"]
        return ["node", FOLDER / f"node/{role}.js"]

    def run_client(self, client, cases, target=None):
        """The outcome of each case: None, or what went wrong."""
        target = target or self.target
        if client == "go":
            official = [case for case in cases if case in matrix.OFFICIAL]
            outcomes = {case: self.run_official(case, target) for case in official}
            rest = [case for case in cases if case not in matrix.OFFICIAL]
            return {**outcomes, **self.run_peer([self.tools.go / "peerclient"], rest, target)}
        return self.run_peer(self.program(client, "client"), cases, target)

    def run_official(self, case, target):
        host, _, port = target.rpartition(":")
        flags = [f"--service_config_json={ORCA_POLICY}"] if case.startswith("orca") else []
        command = [self.tools.go / "interop-client", f"--server_host={host}", f"--server_port={port}"]
        code, _, errors = self.run_command([*command, f"--test_case={case}", *SOAK, *flags])
        return None if code == 0 else f"exit code {code}: {last_line(errors)}"

    def run_peer(self, program, cases, target):
        """One of our clients, with many cases: a line of JSON for each."""
        if not cases:
            return {}
        probe = ["--probe"] if matrix.checks_compression(self.server) else []
        command = [*program, f"--target={target}", f"--cases={','.join(cases)}", *probe]
        code, output, errors = self.run_command(command)
        outcomes = {result["case"]: result.get("error") for result in map(json.loads, output.splitlines())}
        ended = f"the client ended before it, with exit code {code}: {last_line(errors)}"
        return {case: outcomes.get(case, ended) for case in cases}

    def run_command(self, command):
        """Exit code (None after a timeout), output and errors."""
        try:
            done = subprocess.run(
                command, env=tunnel.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=CLIENT_TIMEOUT, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as expired:
            whole_lines = (expired.stdout or b"").decode().rpartition("\n")[0]
            return None, whole_lines, f"it was given up after {CLIENT_TIMEOUT} s"
        return done.returncode, done.stdout, done.stderr

    def run_tapped(self, client, case):
        """A case, with a look at what passes on the wire at both ends of the tunnel."""
        near = Tap(self.target)
        before = len(self.far.exchanges())
        try:
            wrong = self.run_client(client, [case], target=near.address)[case]
            return wrong or self.look_at_wire(case, near, before)
        finally:
            near.close()

    def look_at_wire(self, case, near, before):
        calls = near.exchanges()
        if wanted := matrix.REQUEST_FLAGS.get(case):
            expected = (wanted["probe"] if matrix.checks_compression(self.server) else []) + wanted["calls"]
            got = [[flag for flag, _ in requests] for requests, _ in calls]
            # A client may have several connections.
            if sorted(got) != sorted(expected):
                return f"the requests' flags are {got} in place of {expected}"
        if expected := matrix.RESPONSE_FLAGS.get(case):
            got = [[flag for flag, _ in responses] for _, responses in calls]
            if sorted(got) != sorted(expected):
                return f"the responses' flags are {got} in place of {expected}"
        if self.way == matrix.DIRECT:
            return None
        until = time.monotonic() + TAP_TIMEOUT
        while any(call not in self.far.exchanges()[before:] for call in calls):
            if time.monotonic() > until:
                return (
                    f"the server saw other messages than the client sent, or the client others than it: {calls!r:.300}"
                )
            time.sleep(tunnel.POLL)
        return None


def last_line(text):
    return text.strip().rpartition("\n")[2]


def wait_until_listening(world, port):
    until = time.monotonic() + START_TIMEOUT
    while True:
        world.expect_all_alive()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if time.monotonic() > until:
            raise tunnel.Failure(f"nobody listens on port {port} after {START_TIMEOUT} s")
        time.sleep(tunnel.POLL)
