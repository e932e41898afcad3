#!/usr/bin/env python3
"""Hostile HTTP/2 on the clients' port: floods, bombs, silence and nonsense, beside a client that behaves.

    python tests/foreign/hostile_h2.py [--bin-dir target/release] [--seconds 0.5]

Needs the packages of tests/foreign/hostile-requirements.txt. Each attack is made in turns with none, and has to end as
its limit says, with no call of the good client failed and the hub's memory bounded. Then comes what is no attack but
wrong, and at last those that said nothing all the while. The table at the end is what each attack cost; latencies mean
something with a release build on a machine that does nothing else.
"""

import contextlib
import socket
import ssl
import sys
import time

import tunnel as fixture
from bad_requests import BODIES, HEADS, PASSED_ON
from h2_attacks import LARGEST_WINDOW, all_of, endless_call
from h2_client import Client, call
from h2_peer import HEADERS, INITIAL_WINDOW_SIZE, PREFACE, SETTINGS, Peer, block, frame
from hostile import HERE, Bystander, named
from tunnel import Failure

GOOD, TARGET, OTHER = "good", "target", "other"
GET_FEATURE = "/routeguide.RouteGuide/GetFeature"
ECHO = "/hostile.Test/Echo"

# The hub's own limits, in seconds (docs/limits.md), and what a busy machine may add to each.
FIRST_BYTES, SILENCE = 10, 60 + 20
SLACK = 20
# Connections that say nothing, of each kind.
MUTE = 50
ANSWER_TIMEOUT = 10
# Bytes that the hub may log about all of it: a line for each of hundreds, not for each of millions.
LOG = 1 << 20


def main():
    fixture.check(__doc__.partition("\n")[0], checks_of, extend)


def extend(parser):
    parser.add_argument("--seconds", type=float, default=0.5, help="of each turn with an attack, and without")


def checks_of(tunnel, arguments):
    suite = Suite(tunnel, arguments)
    yield suite.start
    yield suite.silent_ones_begin
    for attack in all_of(tunnel.target):
        yield named(lambda attack=attack: suite.bystander.suffer(attack), f"{attack.name}, bounded by: {attack.limit}")
    yield suite.bad_heads
    yield suite.bad_bodies
    yield suite.passed_on
    yield suite.not_http2
    yield suite.silent_ones_ended
    yield suite.hub_is_well
    yield suite.bystander.table


class Suite:
    """The hub, its neighbours, and what is done to them."""

    def __init__(self, tunnel, arguments):
        self.tunnel, self.bin_dir = tunnel, arguments.bin_dir
        self.bystander = Bystander(tunnel, GOOD, arguments.seconds)
        self.silent = []
        self.upstream = None

    def start(self):
        """A hub starts, three agents, and a client that behaves."""
        # So little that a few calls which stand still come to it.
        self.tunnel.start_hub("--reconnect-grace", "0s", "--link-memory", "64MiB")
        server = fixture.executable(self.bin_dir, "route-guide-server")
        for agent in (GOOD, OTHER):
            upstream = self.tunnel.spawn(f"server-{agent}", server, "--listen", "127.0.0.1:0")
            self.tunnel.start_agent(agent, f"http://{upstream.listening_on()}")
        upstream = self.tunnel.spawn("server-target", sys.executable, HERE / "hostile_upstream.py")
        self.upstream = upstream.listening_on()
        self.tunnel.start_agent(TARGET, f"http://{self.upstream}", "--service", "hostile.Test")
        self.tunnel.wait_until_attached(GOOD, OTHER, TARGET)
        self.bystander.start()

    def silent_ones_begin(self):
        """Connections are opened that say nothing, or half of it, or read no answers."""
        for begin in (b"", PREFACE[:1], PREFACE[:-1]):
            for _ in range(MUTE):
                self.silent.append((f"only said {begin!r}", FIRST_BYTES, self.open(begin)))
        # Those that have begun, and go silent, may do so for longer.
        self.silent.append(("said no more", SILENCE, self.open(PREFACE + frame(SETTINGS, 0, 0))))
        unended = PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 0, 1, block(GET_FEATURE, GOOD))
        self.silent.append(("did not end a head", SILENCE, self.open(unended)))
        peer = Peer(self.tunnel.target, [(INITIAL_WINDOW_SIZE, LARGEST_WINDOW)])
        peer.send(endless_call(peer.stream()), time.monotonic() + ANSWER_TIMEOUT, read=False)
        self.silent.append(("read no answers", SILENCE, (peer.socket, time.monotonic())))

    def bad_heads(self):
        """A head that is wrong has a clear answer, and the next call works."""
        self.expect_answers(HEADS, lambda client, fields: client.request(fields))

    def bad_bodies(self):
        """So has a body that is wrong."""
        self.expect_answers(BODIES, lambda client, body: client.request(call(GET_FEATURE, ("adit-agent", GOOD)), body))

    def passed_on(self):
        """What the hub has no opinion of is answered as the service answers it without a hub."""
        for name, fields in PASSED_ON.items():
            head = call(ECHO, ("adit-agent", TARGET), **fields)
            answers = []
            for target in (self.upstream, self.tunnel.target):
                with Client(target) as client:
                    answers.append(client.request(head).summary())
            if len(set(answers)) > 1:
                raise Failure(f"{name}: {answers[1]} in place of {answers[0]}")
            print(f"    {name}: {answers[0]}")

    def not_http2(self):
        """What is not HTTP/2 is told so if it is HTTP/1.1, and closed at once in any case."""
        hello = ssl_hello()
        cases = {
            b"GET / HTTP/1.1\r\nhost: hub\r\n\r\n": b"HTTP/1.1 505 ",
            b"POST /a.B/C HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc": b"HTTP/1.1 505 ",
            hello: b"",
            b"\0" * 4096: b"",
            b"SSH-2.0-OpenSSH\r\n": b"HTTP/1.1 505 ",
            b"\x80\x9e\x01\x03\x01": b"",
            PREFACE.replace(b"SM", b"sm"): b"HTTP/1.1 505 ",
        }
        for said, answer in cases.items():
            stream, _ = self.open(said)
            with stream:
                heard = b""
                # A reset is an end, too: not all that was said has been read.
                with contextlib.suppress(ConnectionResetError):
                    while data := stream.recv(1 << 16):
                        heard += data
            if not heard.startswith(answer) or (not answer and heard):
                raise Failure(f"{said[:40]!r} was answered with {heard!r}")

    def silent_ones_ended(self):
        """Those that said nothing have been closed in their time."""
        for what, limit, (stream, opened) in self.silent:
            stream.settimeout(max(0.1, opened + limit + SLACK - time.monotonic()))
            try:
                while stream.recv(1 << 16):
                    pass
            except TimeoutError:
                raise Failure(f"{limit + SLACK} s after its beginning, one that {what} is still there") from None
            except ConnectionResetError:
                pass
            stream.close()

    def hub_is_well(self):
        """The hub has not panicked, nor flooded its log, and no call is left over."""
        self.tunnel.expect_all_alive()
        log = self.tunnel.hub.output()
        if "panicked" in log:
            raise Failure("the hub panicked")
        if len(log) > LOG:
            raise Failure(f"the hub's log has {len(log)} bytes; the end: {log[-500:]}")
        self.bystander.until("no call is left over", self.is_idle)
        print(f"    the hub's log has {len(log)} bytes")

    # ---

    def is_idle(self):
        return all(link["calls_in_flight"] == 0 for link in self.tunnel.links() if link["agent"] == TARGET)

    def open(self, said):
        """A connection that has said this much, and when that was."""
        host, _, port = self.tunnel.target.rpartition(":")
        stream = socket.create_connection((host, int(port)), ANSWER_TIMEOUT, source_address=("127.0.0.3", 0))
        stream.sendall(said)
        return stream, time.monotonic()

    def expect_answers(self, cases, made):
        wrong = {}
        for name, (case, expected) in cases.items():
            with Client(self.tunnel.target) as client:
                answer = made(client, case).summary()
                if answer != expected:
                    wrong[name] = f"{answer} in place of {expected}"
                if not answer.startswith("connection"):
                    after = client.request(call(GET_FEATURE, ("adit-agent", GOOD))).summary()
                    if after != "0":
                        wrong[f"the call after {name}"] = after
        if wrong:
            raise Failure("; ".join(f"{name}: {answer}" for name, answer in wrong.items()))
        print(f"    {len(cases)} cases")


def ssl_hello():
    """The first bytes of a TLS client."""
    outgoing = ssl.MemoryBIO()
    stream = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="hub.example")
    try:
        stream.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()


if __name__ == "__main__":
    main()
