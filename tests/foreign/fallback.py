#!/usr/bin/env python3
"""A network that stops passing UDP while calls run, and passes it again; and raw TCP through a NAT that forgets.

One site is a network namespace behind a NAT (router.py), 40 ms from the hub: hub, agent, the service and a TCP server beside
the agent are real processes.

    python tests/foreign/fallback.py [--bin-dir target/debug]

Needs what networks.py needs, and says so where it is not there.
"""

import json
import random
import socket
import sys
import threading
import time

import grpc
import namespaces
import nat
import numbered
from programs import wait_until
from tunnel import START_TIMEOUT, Failure, check, free_ports
from watched import CALL_TIMEOUT, told

ROUND_TRIP = 0.040
SITE = "site"
# A TCP server in the site's namespace that sends back what it is sent.
ECHO = """
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)
socketserver.ThreadingTCPServer.allow_reuse_address = True
server = socketserver.ThreadingTCPServer(("127.0.0.1", 7007), Echo)
print("listening on 127.0.0.1:7007", flush=True)
server.serve_forever()
"""
TARGET = "127.0.0.1:7007"
# Bytes of a raw connection, each way, and how often the NAT forgets meanwhile.
RAW, FORGETS = 4 << 20, 3
# Seconds: an agent that no call has reached just then finds a silent link dead within 17, one with calls within 5; TLS is
# dialled next. QUIC is tried again after 10 to 20.
GONE, BACK = 17 + 3, 20 + 5
# Calls at once while a silent link is found out.
CALLERS = 8


def main():
    reason = namespaces.enter() or nat.missing()
    if reason:
        print(f"skipped: no networks can be made here: {reason}")
        return
    check(__doc__.partition("\n")[0], lambda tunnel, arguments: Suite(tunnel, arguments).checks())


class Callers:
    """Threads that call one after the other, each as soon as its last call has ended, until they are stopped."""

    def __init__(self, target):
        self.stopping = threading.Event()
        self.succeeded, self.failures, self.longest = 0, [], 0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(target,), daemon=True) for _ in range(CALLERS)]
        for thread in self.threads:
            thread.start()

    def run(self, target):
        client = numbered.Client(target, SITE)
        while not self.stopping.is_set():
            begun, error = time.monotonic(), None
            try:
                client.down(1, 0, timeout=CALL_TIMEOUT)
            except grpc.RpcError as failed:
                error = failed
            took = time.monotonic() - begun
            with self.lock:
                self.longest = max(self.longest, took)
                if error:
                    self.failures.append(error)
                else:
                    self.succeeded += 1
            # Five hundred a second in all at the most.
            time.sleep(CALLERS / 500)
        client.close()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(CALL_TIMEOUT)
        return self


class Suite:
    def __init__(self, tunnel, _arguments):
        self.tunnel = tunnel
        self.network = None
        (self.tcp_port,) = free_ports(1)

    def checks(self):
        yield self.start
        yield self.raw
        yield self.falls_back
        yield self.returns

    def start(self):
        """A hub, a NAT before a site 40 ms away, and an agent there that chooses its carrier: QUIC."""
        tunnel = self.tunnel
        self.network = nat.Network(tunnel, [SITE], ROUND_TRIP)
        tunnel.spawn("echo", *self.network.sites[SITE].inside, sys.executable, "-c", ECHO).listening_on()
        self.network.start_hub("--tcp", f"127.0.0.1:{self.tcp_port}")
        self.network.start_agent(SITE, self.network.start_service(), "--tcp", TARGET)
        tunnel.wait_until_attached(SITE)
        self.expect_carrier("quic", START_TIMEOUT)

    def raw(self):
        """A raw TCP connection to a server at the site loses no byte while the NAT forgets the agent, and ends in order."""
        sent = random.Random(7).randbytes(RAW)
        with socket.create_connection(("127.0.0.1", self.tcp_port), START_TIMEOUT) as connection:
            connection.settimeout(CALL_TIMEOUT)
            connection.sendall(json.dumps({"agent": SITE, "target": TARGET}).encode() + b"\n")
            came = connection.makefile("rb")
            answer = json.loads(came.readline())
            if "error" in answer or answer.get("ok") is False:
                raise Failure(f"the hub answers {answer}")
            sender = threading.Thread(target=self.send, args=(connection, sent), daemon=True)
            sender.start()
            begun = time.monotonic()
            for piece in range(FORGETS):
                if came.read(RAW // (FORGETS + 1)) != sent[piece * (RAW // (FORGETS + 1)) :][: RAW // (FORGETS + 1)]:
                    raise Failure("other bytes came back than were sent")
                self.network.forget(SITE)
            rest = came.read()
            sender.join(CALL_TIMEOUT)
        if rest != sent[FORGETS * (RAW // (FORGETS + 1)) :]:
            raise Failure(f"{len(rest)} other bytes came at the end")
        print(f"    {RAW / 1e6:.1f} MB there and back in {told(time.monotonic() - begun)}, forgotten {FORGETS} times")

    @staticmethod
    def send(connection, data):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    def falls_back(self):
        """When UDP passes no more, the calls under way fail once, each told so, and the next ones go over TLS."""
        callers = Callers(self.tunnel.target)
        time.sleep(1)
        at = self.network.block(SITE, "udp")
        link = self.expect_carrier("tls", GONE)
        after = time.monotonic() - at
        reason = link["carrier_reason"]
        time.sleep(1)
        callers.stop()
        wrong = [error for error in callers.failures if error.code() != grpc.StatusCode.UNAVAILABLE]
        if wrong or len(callers.failures) > 2 * CALLERS or not reason:
            raise Failure(f"{len(callers.failures)} calls failed, {len(wrong)} of them otherwise: {wrong[:1]}; {reason!r}")
        print(
            f"    over tls after {told(after)} ({reason}); {callers.succeeded} calls succeeded, {len(callers.failures)} "
            f"failed, the longest took {told(callers.longest)}"
        )

    def returns(self):
        """When UDP passes again, the link is back on QUIC, and of the calls that are made all the time none fails."""
        callers = Callers(self.tunnel.target)
        at = self.network.block(SITE)
        link = self.expect_carrier("quic", BACK)
        after = time.monotonic() - at
        time.sleep(1)
        callers.stop()
        if callers.failures:
            raise Failure(f"{len(callers.failures)} calls failed: {callers.failures[0]}")
        if link["carrier_moves"] != 2:
            raise Failure(f"the link has moved twice, and {link['carrier_moves']} moves are told")
        print(
            f"    over quic after {told(after)} ({link['carrier_reason']}); {callers.succeeded} calls, none failed, the "
            f"longest took {told(callers.longest)}"
        )

    def expect_carrier(self, carrier, within):
        """The link, once it runs over this carrier and no other is left."""

        def there():
            links = [link for link in self.tunnel.links() if link["agent"] == SITE and link["state"] == "ready"]
            return links and all(link["carrier"] == carrier for link in links) and links

        begun = time.monotonic()
        links = wait_until(f"a link over {carrier}", there)
        if time.monotonic() - begun > within:
            raise Failure(f"it took {told(time.monotonic() - begun)} until a link over {carrier}, and may take {within} s")
        return links[-1]


if __name__ == "__main__":
    main()
