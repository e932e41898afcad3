#!/usr/bin/env python3
"""Agents without a line of adit's code, in Python (aioquic) and in Go (quic-go): the wire format, held against others.

Starts a hub and both agents of examples/foreign_agents, calls them with an unchanged Python gRPC client, and then
drains them, takes their hub away, and has them come with certificates that are not theirs.

    python tests/foreign/foreign_agents.py [--bin-dir target/debug] [--interop-client PATH]

Needs Go, and the packages of examples/foreign_agents/python/requirements.txt. With grpc-go's official interop client
(google.golang.org/grpc/interop/client), that one calls both agents too.
"""

import concurrent.futures
import itertools
import pathlib
import shutil
import subprocess
import sys
import threading
import time

import grpc

import tunnel as fixture
from service_calls import (
    CALL_TIMEOUT,
    INITIAL,
    SAMPLE,
    TRAILING,
    Caller,
    Held,
    adit,
    at,
    echoes,
    endless,
    expect,
    failure_of,
    pb,
    ping_pong,
    services,
    sized,
    wanting,
)
from tunnel import POLL, Failure

PYTHON, GO = "python-1", "go-1"
AGENTS = (PYTHON, GO)
# An id that has a replica in each language.
SHARED = "shared"

# Seconds; each is only ever waited out by a failure.
BUILD_TIMEOUT = 300
# A new hub is found at an agent's next keep-alive (10 s) or try.
RETURN_TIMEOUT = 60

MIB = 1 << 20
# aioquic moves about 8 MB a second.
LARGE = {PYTHON: 16 * MIB, GO: 64 * MIB}
AT_ONCE = 200

SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t%\n"

# Those of the official client's cases that ask for nothing but a way from client to server.
INTEROP_CASES = (
    "empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
    "timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response", "custom_metadata",
    "status_code_and_message", "special_status_message", "unimplemented_method", "unimplemented_service",
)  # fmt: skip


def main():
    fixture.check(__doc__.partition("\n")[0], checks_of, extend)


def extend(parser):
    parser.add_argument("--interop-client", type=pathlib.Path, help="grpc-go's interop client, to call both agents")


def checks_of(tunnel, arguments):
    world = World(tunnel, arguments.interop_client)
    yield world.start
    yield world.four_kinds
    yield world.metadata_there_and_back
    yield world.statuses
    yield world.what_is_not_there
    yield world.cancelled
    yield world.cancelled_while_it_sends
    yield world.deadline
    yield world.large_messages
    yield world.many_at_once
    if arguments.interop_client:
        yield world.official_client
    yield world.drained_by_an_operator
    yield world.replicas_drain
    yield world.kicked
    yield world.hub_killed
    yield world.other_certificates
    yield world.stopped


class World:
    """The hub, both agents, and what the checks do with them."""

    def __init__(self, tunnel, interop_client):
        self.tunnel = tunnel
        self.interop_client = interop_client
        self.go_agent = tunnel.folder / "go-agent"
        self.agents = {}

    def start(self):
        """The hub takes an agent in Python and one in Go for bare agents, by the ids in their certificates."""
        command = ["go", "build", "-o", self.go_agent, "."]
        built = subprocess.run(
            command, cwd=SAMPLE / "go", capture_output=True, text=True, timeout=BUILD_TIMEOUT, check=False
        )
        if built.returncode != 0:
            raise Failure(f"go build exited {built.returncode}: {built.stderr}")
        self.tunnel.start_hub("--reconnect-grace", "1s")
        for agent in AGENTS:
            self.agents[agent] = self.spawn(agent)
        self.tunnel.wait_until_attached(*AGENTS, services=False)
        for link in self.tunnel.links():
            # No hello: no version, no instance, no list of services.
            if any(link[key] is not None for key in ("version", "instance", "services")):
                raise Failure(f"not a bare agent: {link}")

    def four_kinds(self):
        """All four kinds of call reach the agent that is named, and come back."""
        for agent in AGENTS:
            before = self.calls_of(agent)
            with self.channel() as channel:
                stub, to = services.TestServiceStub(channel), {"metadata": at(agent), "timeout": CALL_TIMEOUT}
                expect(stub.EmptyCall(pb.Empty(), **to), pb.Empty())
                body = stub.UnaryCall(pb.SimpleRequest(response_size=314159, payload=sized(271828)), **to).payload.body
                expect(body, bytes(314159))
                sizes = [31415, 9, 2653, 58979]
                answers = stub.StreamingOutputCall(wanting(*sizes), **to)
                expect([len(answer.payload.body) for answer in answers], sizes)
                parts = (pb.StreamingInputCallRequest(payload=sized(size)) for size in (27182, 8, 1828, 45904))
                expect(stub.StreamingInputCall(parts, **to).aggregated_payload_size, 74922)
                ping_pong(stub, sizes, **to)
                expect(list(stub.FullDuplexCall(iter(()), **to)), [])
            expect(self.calls_of(agent) - before, 6)

    def metadata_there_and_back(self):
        """Metadata goes there and back byte by byte and in order, in front of the messages and behind them."""
        sent = [(INITIAL, "one"), (INITIAL, "two words, and a comma"), (TRAILING, bytes(range(256))), (TRAILING, b"")]
        for agent in AGENTS:
            with self.channel() as channel:
                stub = services.TestServiceStub(channel)
                _, unary = stub.UnaryCall.with_call(pb.SimpleRequest(), metadata=at(agent, *sent), timeout=CALL_TIMEOUT)
                streamed = stub.FullDuplexCall(iter([wanting(1)]), metadata=at(agent, *sent), timeout=CALL_TIMEOUT)
                # The head comes before there is a message.
                streamed.initial_metadata()
                expect(len(list(streamed)), 1)
                for call in (unary, streamed):
                    expect(echoes(call.initial_metadata()), sent[:2])
                    expect(echoes(call.trailing_metadata()), sent[2:])

    def statuses(self):
        """Every code and any message come as the agent's service sent them; trailers alone stay trailers alone."""
        for agent, code in itertools.product(AGENTS, list(grpc.StatusCode)[1:]):
            number = code.value[0]
            status = pb.EchoStatus(code=number, message=f"{number}: {SPECIAL}")
            with self.channel() as channel:
                call = services.TestServiceStub(channel).UnaryCall
                error = failure_of(call, pb.SimpleRequest(response_status=status), agent, (INITIAL, "echo"))
            expect((error.code(), error.details()), (code, status.message))
            expect(adit(error), {})
            # The agent in Python sends no head of its own before such a status; grpc-go, as a handler, always does.
            where = error.trailing_metadata() if agent == PYTHON else error.initial_metadata()
            expect(echoes(where), [(INITIAL, "echo")])

    def what_is_not_there(self):
        """What an agent has not is UNIMPLEMENTED, whether it says so or answers 404; its control is nobody's to call."""
        cases = {
            "/grpc.testing.TestService/UnimplementedCall": (grpc.StatusCode.UNIMPLEMENTED, None, None),
            "/grpc.testing.Nothing/Call": (grpc.StatusCode.UNIMPLEMENTED, "upstream-protocol", None),
            "/adit.tunnel.v1.Agent/Attach": (grpc.StatusCode.PERMISSION_DENIED, "denied", "denied"),
        }
        for (path, (code, python, go)), agent in itertools.product(cases.items(), AGENTS):
            with self.channel() as channel:
                error = failure_of(channel.unary_unary(path), b"", agent)
            expect((error.code(), adit(error).get("adit-error")), (code, python if agent == PYTHON else go))

    def cancelled(self):
        """A call that the client cancels is cancelled at the agent."""
        for agent in AGENTS:
            with endless() as requests:
                self.cancel(agent, "FullDuplexCall", requests)

    def cancelled_while_it_sends(self):
        """So is one whose client does not read what the agent has to send."""
        for agent in AGENTS:
            request = wanting(*[MIB] * 64)
            self.cancel(agent, "StreamingOutputCall", request)

    def deadline(self):
        """A deadline ends a call at the client and at the agent."""
        for agent in AGENTS:
            request = wanting(1)
            request.response_parameters[0].interval_us = CALL_TIMEOUT * 1_000_000
            with self.channel() as channel:
                call = services.TestServiceStub(channel).StreamingOutputCall
                error = failure_of(call, request, agent, timeout=0.3)
            expect(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
            self.until(f"{agent} has no calls", self.is_idle, agent)

    def large_messages(self):
        """Messages of many megabytes pass in both directions."""
        for agent, size in LARGE.items():
            with self.channel() as channel:
                stub, to = services.TestServiceStub(channel), {"metadata": at(agent), "timeout": CALL_TIMEOUT}
                begun = time.monotonic()
                expect(len(stub.UnaryCall(pb.SimpleRequest(response_size=size), **to).payload.body), size)
                down = time.monotonic() - begun
                expect(stub.UnaryCall(pb.SimpleRequest(payload=sized(size)), **to), pb.SimpleResponse(payload=sized(0)))
                up = time.monotonic() - begun - down
            print(
                f"    {agent}: {size // MIB} MiB from it {size / down / 1e6:.0f} MB/s, to it {size / up / 1e6:.0f} MB/s"
            )

    def many_at_once(self):
        """Hundreds of calls at once end well, all of them open on one link before the first ends."""
        for agent in AGENTS:
            with self.channel() as channel, concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
                stub, together = services.TestServiceStub(channel), threading.Barrier(AT_ONCE, timeout=CALL_TIMEOUT)
                to = {"metadata": at(agent), "timeout": CALL_TIMEOUT}
                futures = [pool.submit(ping_pong, stub, [1, 1000 + one], together.wait, **to) for one in range(AT_ONCE)]
                for future in futures:
                    future.result()

    def official_client(self):
        """grpc-go's official interop client passes its cases against both."""
        for agent, case in itertools.product(AGENTS, INTEROP_CASES):
            command = [
                self.interop_client, "-server_host", "127.0.0.1", "-server_port", str(self.tunnel.clients_port),
                "-test_case", case, "-additional_metadata", f"adit-agent:{agent}",
            ]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, timeout=CALL_TIMEOUT, check=False)
            if done.returncode != 0:
                raise Failure(f"{case} at {agent} exited {done.returncode}: {done.stderr}")

    def drained_by_an_operator(self):
        """An agent that an operator drains gets no calls until it is resumed."""
        for agent in AGENTS:
            self.operate("drain", agent)
            error = self.try_call(agent)
            expect((error.code(), adit(error)["adit-error"]), (grpc.StatusCode.UNAVAILABLE, "draining"))
            self.operate("resume", agent)
            expect(self.try_call(agent), None)

    def replicas_drain(self):
        """Of two replicas, one in each language, one after the other is stopped and started, and no call fails."""
        replicas = {language: self.spawn(SHARED, language) for language in AGENTS}
        self.until("both replicas are there", self.has_ready, SHARED, 2)
        # Calls that have begun when one of the two stops, at either of them.
        held = [Held(self.channel(), SHARED) for _ in range(8)]
        with Caller(self.tunnel.target, SHARED) as caller:
            for language in AGENTS:
                caller.answers(20)
                stopping = threading.Thread(target=replicas[language].stop)
                stopping.start()
                self.until("one replica takes no calls", self.has_ready, SHARED, 1)
                caller.answers(20)
                if language == AGENTS[0]:
                    for one in held:
                        one.end()
                stopping.join()
                expect(replicas[language].process.returncode, 0)
                replicas[language] = self.spawn(SHARED, language)
                self.until("both replicas are back", self.has_ready, SHARED, 2)
        expect(caller.failures, [])
        print(f"    {caller.answered} calls meanwhile")
        for replica in replicas.values():
            replica.stop()

    def kicked(self):
        """A link that an operator closes comes again by itself."""
        for agent in AGENTS:
            old = self.links_of(agent)[0]["link"]
            self.operate("kick", agent)
            self.until(f"{agent} is back", self.is_renewed, agent, old)
            expect(self.try_call(agent), None)

    def hub_killed(self):
        """The hub is killed and started again: both agents come back by themselves."""
        self.tunnel.hub.kill()
        self.tunnel.start_hub("--reconnect-grace", "1s")
        begun = time.monotonic()
        for agent in AGENTS:
            self.until(f"{agent} is back", self.links_of, agent)
            print(f"    {agent}: back {time.monotonic() - begun:.1f} s after the hub's new start")
            expect(self.try_call(agent), None)

    def other_certificates(self):
        """A certificate of a client, or of another CA, makes nobody an agent; who comes with it is told so."""
        theirs = self.tunnel.folder / "theirs"
        self.tunnel.run("certs", "init", "--dir", theirs)
        self.tunnel.run("certs", "agent", "stranger", "--dir", theirs)
        shutil.copy(self.tunnel.certs / "ca.pem", theirs)
        self.tunnel.run("certs", "client", "caller", "--dir", self.tunnel.certs)
        for ending in ("pem", "key"):
            shutil.copy(self.tunnel.certs / f"client-caller.{ending}", theirs / f"agent-caller.{ending}")
        for who, language in itertools.product(("stranger", "caller"), AGENTS):
            agent = self.spawn(who, language, theirs)
            agent.wait_for("connected to the hub")
            # What the hub says when it closes the connection.
            agent.wait_for("certificate")
            agent.stop()
            expect(self.links_of(who), [])
            error = self.try_call(who)
            expect((error.code(), adit(error)["adit-error"]), (grpc.StatusCode.UNAVAILABLE, "agent-offline"))
        log = self.tunnel.hub.output()
        expect(log.count("refused a link") >= 4, True)

    def stopped(self):
        """An agent that is stopped lets a call that runs end, and leaves in order: later ones are told it is offline."""
        for agent in AGENTS:
            held = Held(self.channel(), agent)
            stopping = threading.Thread(target=self.agents[agent].stop)
            stopping.start()
            self.until(f"{agent} takes no calls", self.has_ready, agent, 0)
            error = self.try_call(agent)
            expect(adit(error), {"adit-error": "draining", "adit-delivered": "no"})
            held.end()
            stopping.join()
            expect(self.agents[agent].process.returncode, 0)
            self.until(f"{agent} is gone", self.is_gone, agent)
            error = self.try_call(agent)
            expect(adit(error), {"adit-error": "agent-offline", "adit-delivered": "no"})

    # --- what the checks are made of

    def spawn(self, agent, language=None, certs=None):
        """A foreign agent by this id; `language` is that of PYTHON or GO, by default the id's own."""
        certs = certs or self.tunnel.certs
        if not (certs / f"agent-{agent}.pem").exists():
            self.tunnel.run("certs", "agent", agent, "--dir", certs)
        hub = f"127.0.0.1:{self.tunnel.agents_port}"
        if (language or agent) == PYTHON:
            command = (sys.executable, SAMPLE / "python/agent.py", "--hub", hub, "--certs", certs, "--id", agent)
        else:
            command = (self.go_agent, "-hub", hub, "-certs", certs, "-id", agent)
        return self.tunnel.spawn(f"agent-{agent}-{language or agent}", *command)

    def channel(self):
        most = LARGE[GO] + MIB
        options = [("grpc.max_receive_message_length", most), ("grpc.max_send_message_length", most)]
        return grpc.insecure_channel(self.tunnel.target, options=options)

    def try_call(self, agent):
        """The error of a call, or None."""
        with self.channel() as channel:
            return failure_of(services.TestServiceStub(channel).EmptyCall, pb.Empty(), agent, may_succeed=True)

    def cancel(self, agent, method, request):
        """Cancels a call that is under way at the agent, and waits for the agent to say so."""
        said = f"call cancelled path=/grpc.testing.TestService/{method}"
        expect(said in self.agents[agent].output(), False)
        with self.channel() as channel:
            call = getattr(services.TestServiceStub(channel), method)(request, metadata=at(agent), timeout=CALL_TIMEOUT)
            # The agent has answered the head of the call.
            call.initial_metadata()
            call.cancel()
            self.agents[agent].wait_for(said)

    def operate(self, what, agent):
        self.tunnel.run("agents", what, agent, "--admin", f"http://127.0.0.1:{self.tunnel.admin_port}")

    def links_of(self, agent):
        return [link for link in self.tunnel.links() if link["agent"] == agent]

    def has_ready(self, agent, count):
        return sum(link["state"] == "ready" for link in self.links_of(agent)) == count

    def is_idle(self, agent):
        return all(link["calls_in_flight"] == 0 for link in self.links_of(agent))

    def is_renewed(self, agent, old):
        return any(link["link"] != old for link in self.links_of(agent))

    def is_gone(self, agent):
        return not self.links_of(agent)

    def calls_of(self, agent):
        return sum(link["calls"] for link in self.links_of(agent))

    def until(self, what, holds, *arguments):
        deadline = time.monotonic() + RETURN_TIMEOUT
        while not holds(*arguments):
            self.tunnel.expect_all_alive()
            if time.monotonic() > deadline:
                raise Failure(f"not within {RETURN_TIMEOUT} s: {what}; the hub has {self.tunnel.links()}")
            time.sleep(POLL)


if __name__ == "__main__":
    main()
