#!/usr/bin/env python3
"""The sample satellite_map through the tunnel: a Go server, a Python client, and mutual TLS on each leg.

Twice: with certificates that `adit certs` made, and with RSA certificates of 4096 bits that
examples/satellite_map/openssl.sh made. Each time server, hub and agent are started as the sample's README has it, and
the client looks at the map, off the map, without the token, as somebody else, and at a server that is slow.

    python tests/foreign/satellite_map.py [--bin-dir target/debug]

Needs the packages of examples/satellite_map/client/requirements-test.txt, Go, openssl, and the built command.
"""

import re
import signal
import sys

from programs import Log, expect_in, expect_not_in, run, wait_until
from terminal import Terminal
from tunnel import ROOT, STOP_TIMEOUT, Failure, check, free_ports

SAMPLE = ROOT / "examples/satellite_map"
CLIENT = SAMPLE / "client/client.py"
SERVER = SAMPLE / "server"
OPENSSL = SAMPLE / "openssl.sh"
EARTH = (SERVER / "map.txt").read_text().splitlines()
COLUMNS, ROWS = 80, 32
IMAGES = COLUMNS * ROWS

AGENT = "orbit"
DOMAIN = "maps.example"
SERVICE = "satellitemap.SatelliteMap"
TOKEN = "the-moon-is-up"

# Between two images of a slow server, as its flag takes it, and the deadline of a stream of them, in seconds.
SLOWLY, PATIENCE = "200ms", 4
# Seven keys of 4096 bits take from ten seconds to a minute on a busy machine. In seconds.
RSA_TIMEOUT = 300
# The first build fetches and compiles gRPC.
GO_TIMEOUT = 600
# What the server logs of a call that was over before its last image.
EARLY = "a call ended early"
# How far off a deadline is, in seconds, when it has ended a call, and when the client has ended it long before.
NOW, LATER = (-2, 2), (20, 60)


def main():
    check("The sample satellite_map through the tunnel.", checks_of)


def checks_of(tunnel, _):
    build = Build(tunnel)
    yield build.server
    yield build.server_tests
    yield build.client_tests
    for made_by in (made_by_adit, made_by_openssl):
        world = World(tunnel, build, made_by)
        yield world.made
        yield world.started
        yield world.single_locations
        yield world.whole_map
        yield world.map_on_a_terminal
        yield world.bad_coordinates
        yield world.token_is_missing
        yield world.token_is_wrong
        yield world.client_without_a_certificate
        yield world.client_of_another_ca
        yield world.server_demands_certificates
        yield world.agent_without_a_certificate
        yield world.agent_of_another_ca
        yield world.slow_server_in_time
        yield world.deadline_of_a_slow_stream
        yield world.deadline_of_a_slow_image
        yield world.interrupted_client
        yield world.stopped


def made_by_adit(tunnel, tunnel_certs, map_certs):
    """With certificates of adit certs."""
    for folder, *command in (
        (tunnel_certs, "init", "--trust-domain", DOMAIN),
        (tunnel_certs, "hub", "--san", "localhost", "--san", "127.0.0.1"),
        (tunnel_certs, "agent", AGENT),
        (tunnel_certs, "client", "viewer"),
        (map_certs, "init"),
        (map_certs, "server", "map", "--san", "localhost", "--san", "127.0.0.1"),
        (map_certs, "client", "orbit"),
    ):
        tunnel.run("certs", *command, "--dir", folder)


def made_by_openssl(_, tunnel_certs, map_certs):
    """With certificates of openssl, RSA 4096."""
    run(OPENSSL, tunnel_certs, map_certs, timeout=RSA_TIMEOUT)


class Build:
    """The server, and what is tried without a network."""

    def __init__(self, tunnel):
        self.binary = tunnel.folder / "satellite-map-server"

    def server(self):
        """The server's stubs are generated, and it is built."""
        run("go", "generate", "./...", cwd=SERVER, timeout=GO_TIMEOUT, PROTOC=f"{sys.executable} -m grpc_tools.protoc")
        run("go", "build", "-o", self.binary, ".", cwd=SERVER, timeout=GO_TIMEOUT)

    def server_tests(self):
        """The server's unit tests pass."""
        expect_in("the report", run("go", "test", "-timeout", "60s", "./...", cwd=SERVER, timeout=GO_TIMEOUT), "ok")

    def client_tests(self):
        """The client's unit tests pass."""
        report = run(sys.executable, "-m", "unittest", "discover", SAMPLE / "client")
        expect_in("the report", report, "OK")
        expect_not_in("the report", report, "Ran 0 tests")


class World:
    """One set of certificates, the processes that use it, and what is tried on them."""

    def __init__(self, tunnel, build, make):
        self.tunnel, self.build, self.make = tunnel, build, make
        self.certs = tunnel.folder / make.__name__ / "tunnel"
        self.map_certs = tunnel.folder / make.__name__ / "map"
        # Other CAs, and certificates for the same names.
        self.strange_certs = tunnel.folder / make.__name__ / "strange-tunnel"
        self.strange_map_certs = tunnel.folder / make.__name__ / "strange-map"
        self.token = tunnel.folder / "token"
        # The slow server has the address of the fast one.
        [self.port] = free_ports(1)
        self.server = self.hub = self.agent = None

    @property
    def made(self):
        def make():
            self.make(self.tunnel, self.certs, self.map_certs)
            made_by_adit(self.tunnel, self.strange_certs, self.strange_map_certs)
            self.tunnel.certs = self.certs
            self.token.write_text(f"{TOKEN}\n")

        make.__doc__ = self.make.__doc__
        return make

    def started(self):
        """Server, hub and agent start, and the hub is told of the service, by reflection over mutual TLS."""
        self.start_server()
        self.hub = self.tunnel.start_hub("--client-tls", "mutual", "--trust-domain", DOMAIN)
        self.start_agent()
        services = [service for link in self.tunnel.links() for service in link["services"]]
        expect_in("the hub", str(services), SERVICE)

    def single_locations(self):
        """Single locations are as they are on the map, each with a call of its own."""
        seen = self.client("image", "--at", "42", "12", "--at", "2", "10", "--at", "31", "3", "--at", "79", "31")
        told = ["(2, 10): sea", "(31, 3): ice", "(42, 12): land", "(79, 31): ice"]
        if sorted(seen.splitlines()) != told:
            raise Failure(f"the client saw {seen}")

    def whole_map(self):
        """The whole map comes as a stream, every image in its place."""
        expect_map(self.client("map").splitlines(), f"{IMAGES} images in ")

    def map_on_a_terminal(self):
        """On a terminal the same map is drawn where it belongs, and words follow below."""
        drawn = self.on_terminal("map", columns=COLUMNS, lines=ROWS + 2)
        if drawn.code != 0:
            raise Failure(f"the client exited {drawn.code} and showed {drawn.lines}")
        expect_map(drawn.lines, f"{IMAGES} images in ")

    def bad_coordinates(self):
        """Coordinates off the map are OUT_OF_RANGE and say why, and spoil nothing beside them."""
        seen = self.client("image", "--at", "80", "0", "--at", "-1", "5", "--at", "0", "32", "--at", "42", "12", code=1)
        expect_in(
            "the client", seen, "(42, 12): land",
            "(80, 0): OUT_OF_RANGE “x is 80, and the map has the columns 0 to 79”",
            "(-1, 5): OUT_OF_RANGE “x is -1, and the map has the columns 0 to 79”",
            "(0, 32): OUT_OF_RANGE “y is 32, and the map has the rows 0 to 31”",
        )  # fmt: skip
        expect_not_in("the client", seen, "adit-")
        seen = self.client("map", "--from", "70", "-3", code=1)
        expect_in("the client", seen, "0 of 350 images came: OUT_OF_RANGE “y is -3, and the map has the rows 0 to 31”")

    def token_is_missing(self):
        """Without the token every call is UNAUTHENTICATED, by the service."""
        self.refuse_token("the call has 0 tokens: send one, in the metadata token", token=None)

    def token_is_wrong(self):
        """With another token, too."""
        other = self.tunnel.folder / "other-token"
        other.write_text(TOKEN[:-1])
        self.refuse_token("the token in the metadata is not the one of this server", token=other)

    def client_without_a_certificate(self):
        """A client without a certificate is refused by the hub."""
        self.refused_by_hub("peer sent no certificates", certs=None)

    def client_of_another_ca(self):
        """A client with a certificate of another CA is refused by the hub."""
        self.refused_by_hub("UnknownIssuer", certs=self.strange_certs)

    def server_demands_certificates(self):
        """The server demands certificates of its own CA: the tunnel's are not enough to call it beside the tunnel."""
        beside = {"target": f"localhost:{self.port}", "ca": self.map_certs / "ca.pem"}
        for certs in (None, self.certs):
            seen = self.client("image", "--at", "42", "12", certs=certs, code=1, **beside)
            expect_in("the client", seen, "UNAVAILABLE")
        seen = self.client("image", "--at", "42", "12", certs=self.map_certs, name="client-orbit", **beside)
        expect_in("the client", seen, "(42, 12): land")

    def agent_without_a_certificate(self):
        """An agent without a certificate for the server is refused, and the client is told what to set."""
        self.refused_by_server(certs=None)

    def agent_of_another_ca(self):
        """An agent whose certificate for the server is of another CA is refused, and the client is told."""
        self.refused_by_server(certs=self.strange_map_certs)
        self.restart_agent()

    def slow_server_in_time(self):
        """A server that is slow for each image is waited for."""
        self.restart_server(SLOWLY)
        seen = self.client("map", "--from", "30", "2", "--to", "33", "3").splitlines()
        # Eight images at 200 ms, within this many seconds and tenths.
        took = re.fullmatch(r"8 images in (\d+\.\d) s", seen[-1])
        if seen[:-1] != [row[30:34] for row in EARTH[2:4]] or not took or float(took[1]) < 1.6:
            raise Failure(f"the client saw {seen}")

    def deadline_of_a_slow_stream(self):
        """A deadline cancels a slow stream: what came until then has been drawn, and the server stops."""
        log = Log(self.server)
        drawn = self.on_terminal("map", "--timeout", str(PATIENCE), columns=COLUMNS, lines=ROWS + 2)
        told = next((line for line in drawn.lines if "images came" in line), "")
        came = re.match(rf"(\d+) of {IMAGES} images came: DEADLINE_EXCEEDED", told)
        # The stream has not ended, so whatever came was not held back until its end.
        if drawn.code != 1 or not came or not 1 <= int(came[1]) <= PATIENCE / 0.2:
            raise Failure(f"the client exited {drawn.code} and showed {drawn.lines}")
        if drawn.lines[0] != EARTH[0][: int(came[1])]:
            raise Failure(f"{came[1]} images came, and were drawn as {drawn.lines[0]}")
        expect_ended_early(log, "GetImages", at_least=int(came[1]), left=NOW)

    def deadline_of_a_slow_image(self):
        """A deadline cancels a single image, too."""
        self.restart_server("1h")
        log = Log(self.server)
        seen = self.client("image", "--at", "42", "12", "--timeout", "2", code=1)
        expect_in("the client", seen, "(42, 12): DEADLINE_EXCEEDED")
        expect_ended_early(log, "GetImage", at_least=0, left=NOW)

    def interrupted_client(self):
        """A client that is interrupted cancels its call, and the server stops."""
        self.restart_server(SLOWLY)
        log = Log(self.server)
        # A column, so that each image is a line.
        client = self.tunnel.spawn("client", *self.command("map", "--from", "31", "0", "--to", "31", "31"))
        wait_until("the client has shown two images", lambda: client.output().count("\n") >= 2)
        client.ended_by_us = True
        client.process.send_signal(signal.SIGINT)
        code = client.process.wait(STOP_TIMEOUT)
        if code != 130:
            raise Failure(f"the client exited {code}")
        if "canceled" not in (why := expect_ended_early(log, "GetImages", at_least=2, left=LATER)):
            raise Failure(f"the server says that the call ended early because of {why}")

    def stopped(self):
        """All of them stop when they are told to."""
        for process in (self.agent, self.hub, self.server):
            if (code := process.stop()) != 0:
                raise Failure(f"{process.name} exited {code}")

    def client(self, *arguments, code=0, **told):
        """What the client prints, which ends with this code."""
        return run(*self.command(*arguments, **told), code=code)

    def on_terminal(self, *arguments, columns, lines):
        return Terminal(*self.command(*arguments), columns=columns, lines=lines)

    def command(self, *arguments, certs="own", name="client-viewer", token="own", target=None, ca=None):
        """The client's command line: the hub as its target, its own certificate and the right token, unless told."""
        certs = self.certs if certs == "own" else certs
        token = self.token if token == "own" else token
        return [
            sys.executable, CLIENT, *arguments, "--target", target or f"localhost:{self.tunnel.clients_port}",
            "--ca", ca or self.certs / "ca.pem", "--metadata", f"adit-agent={AGENT}",
            *(["--cert", certs / f"{name}.pem", "--key", certs / f"{name}.key"] if certs else []),
            *(["--token-file", token] if token else []),
        ]  # fmt: skip

    def refuse_token(self, why, token):
        for seen in (
            self.client("image", "--at", "42", "12", token=token, code=1),
            self.client("map", token=token, code=1),
        ):
            expect_in("the client", seen, f"UNAUTHENTICATED “{why}”")
            expect_not_in("the client", seen, "adit-")

    def refused_by_hub(self, why, certs):
        """A client with these certificates is closed out, and the hub's log says why."""
        log = Log(self.hub)
        seen = self.client("image", "--at", "42", "12", certs=certs, code=1)
        expect_in("the client", seen, "UNAVAILABLE")
        expect_not_in("the client", seen, "adit-")
        log.wait_for(why)

    def refused_by_server(self, certs):
        """An agent with these certificates gets no connection to the server, and says so to the client."""
        self.restart_agent(certs=certs, services=False)
        seen = self.client("image", "--at", "42", "12", code=1)
        expect_in(
            "the client", seen, "UNAVAILABLE", "adit-error=upstream-refused", "adit-delivered=no", "--upstream-cert"
        )

    def restart_agent(self, **told):
        self.agent.stop()
        self.start_agent(**told)

    def start_agent(self, certs="own", services=True):
        identity = []
        if certs:
            certs = self.map_certs if certs == "own" else certs
            identity = ["--upstream-cert", certs / "client-orbit.pem", "--upstream-key", certs / "client-orbit.key"]
        self.agent = self.tunnel.start_agent(
            AGENT, f"https://localhost:{self.port}", "--upstream-ca", self.map_certs / "ca.pem", *identity
        )
        self.tunnel.wait_until_attached(AGENT, services=services)

    def restart_server(self, delay):
        self.server.stop()
        self.start_server("-delay", delay)

    def start_server(self, *more):
        self.server = self.tunnel.spawn(
            "satellite-map", self.build.binary, "-listen", f"localhost:{self.port}", "-token-file", self.token,
            "-ca", self.map_certs / "ca.pem", "-cert", self.map_certs / "server-map.pem",
            "-key", self.map_certs / "server-map.key", *more,
        )  # fmt: skip
        self.server.listening_on()


def expect_map(lines, told):
    """The whole Earth, and below it these words."""
    if lines[:ROWS] != EARTH or not lines[ROWS].startswith(told):
        shown = "\n".join(lines)
        raise Failure(f"the map is another one:\n{shown}")


def expect_ended_early(log, method, at_least, left):
    """The server has noticed the end of a call, when so many seconds of its deadline were left."""
    line = log.wait_for(f"{EARLY} method={method} ")
    told = re.fullmatch(r'sent=(\d+) of=(\d+) left=(-?)(?:(\d+)m)?([\d.]+)(m?)s why="(.*)"', line)
    if not told or not at_least <= int(told[1]) < int(told[2]):
        raise Failure(f"the server says: {line}")
    seconds = 60 * int(told[4] or 0) + float(told[5]) / (1000 if told[6] else 1)
    if not left[0] <= (-seconds if told[3] else seconds) <= left[1]:
        raise Failure(f"the deadline is not from {left[0]} to {left[1]} seconds away: {line}")
    print(f"    the server says: {line}")
    return told[7]


if __name__ == "__main__":
    main()
