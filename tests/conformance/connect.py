"""The Connect project's conformance suite, its gRPC cases: without a tunnel, and through one.

Its runner has a client and a server of its own, each on connect-go and on grpc-go. In mode `server` it calls the server
under test with its clients; in mode `client` it has the client under test call its servers, which also say what is not
gRPC. Through the tunnel, connect_wrapper.py takes the place of the program under test.
"""

import collections
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

import matrix
import tunnel
from tools import FOLDER

# Seconds for one run of the runner.
TIMEOUT = 900

Run = collections.namedtuple("Run", "mode program tls")
RUNS = (
    Run("server", "referenceserver", False),
    Run("server", "referenceserver", True),
    Run("server", "grpcserver", False),
    Run("client", "referenceclient", False),
    Run("client", "referenceclient", True),
    Run("client", "grpcclient", False),
)
# The suite's own programs on grpc-go have no TLS, and of codecs and compressions only these.
ON_GRPC_GO = ("grpcserver", "grpcclient")
FEW = {"codecs": ["CODEC_PROTO"], "compressions": ["COMPRESSION_IDENTITY", "COMPRESSION_GZIP"]}
ALL = {
    "codecs": ["CODEC_PROTO", "CODEC_JSON"],
    "compressions": [
        f"COMPRESSION_{name}" for name in ("IDENTITY", "GZIP", "BR", "ZSTD", "DEFLATE", "SNAPPY")
    ],
}  # fmt: skip

# Suites without a case that is gRPC over HTTP/2, and why.
EXCLUDED_SUITES = {
    "Connect Compressed Error and End-Stream": "Connect", "Connect Empty Responses": "Connect",
    "Connect Error and End-Stream": "Connect", "Connect Unexpected Requests": "Connect",
    "Connect Unexpected Responses": "Connect", "Connect to HTTP Code Mapping": "Connect", "Connect with GET": "Connect",
    "gRPC-Web Compressed Trailers": "gRPC-Web", "gRPC-Web Empty Responses": "gRPC-Web",
    "gRPC-Web Proto Sub-Format Requests": "gRPC-Web", "gRPC-Web Proto Sub-Format Responses": "gRPC-Web",
    "gRPC-Web Trailers": "gRPC-Web", "gRPC-Web Unexpected Requests": "gRPC-Web",
    "gRPC-Web Unexpected Responses": "gRPC-Web",
    "TLS Client Certs": "client certificates: they end at the hub, which takes those of its own CA only",
}  # fmt: skip

Rule = collections.namedtuple("Rule", "runs cases complaint reason")
# What fails without a tunnel too, and then fails through it: (which runs, which cases, the complaint, why).
PEERS_OWN = (
    Rule("server/grpcserver", r"gRPC Unexpected Requests/.*/(unary|server-stream)/(no|multiple)-requests?$",
         r"does not match expected code 12|expecting an error but received none",
         "grpc-go's server takes a wrong number of requests for another error, or for none"),
    Rule("client/grpcclient", r"gRPC Unexpected Responses/.*/(unary|client-stream)/(multiple-responses|ok-but-no-response)$",
         r"actual error \{code: 13 .*cardinality violation.* does not match expected code 12",
         "grpc-go's client takes a wrong number of responses for INTERNAL"),
)  # fmt: skip
# What fails through the tunnel only. The suite forbids error details that it did not ask for; the hub says in them,
# and in the metadata adit-error, that a failure is its own.
ONE_DETAIL = r"^actual error contain 1 details; expecting 0$"
HUBS_OWN_WORDS = (
    Rule("server/.*server", r"gRPC Unexpected Requests/.*/unexpected-(codec|uri|verb)$", ONE_DETAIL,
         "the server refuses the request by an HTTP status without gRPC; the hub says so, with the code that it means"),
    Rule("client/.*client", r"(HTTP to RPC Code Mapping/.*|Unexpected Responses/.*-http-status-code"
         r"|gRPC Unexpected Responses/.*/(missing-status|unexpected-content-type))$", ONE_DETAIL,
         "the server's answer is not gRPC, or ends without a status; the hub says so, with the code that it means"),
    Rule(".*/reference(server|client)", r"Timeouts/.*/bidi-stream/full-duplex$", ONE_DETAIL,
         "neither of these peers ends the call at its deadline, so the hub does, half a second later"),
)  # fmt: skip


class Connect:
    """Runs the suite. `results` has an Outcome for (run, way)."""

    def __init__(self, tools, bin_dir, ways, quick=False, runs=RUNS):
        self.tools, self.bin_dir, self.ways, self.quick, self.runs = tools, bin_dir, ways, quick, runs
        self.results = {}

    def run(self):
        for run in self.runs:
            for way in self.ways:
                begun = time.monotonic()
                outcome = self.results[run, way] = self.run_once(run, way)
                took = time.monotonic() - begun
                print(f"{name_of(run)}, {way}: {outcome.summary()} in {took:.1f} s", flush=True)
                for problem in outcome.problems:
                    print(f"  {problem}", flush=True)
        return self.results

    def run_once(self, run, way):
        with tempfile.TemporaryDirectory(prefix="adit-conformance-") as folder, contextlib.ExitStack() as stack:
            config = os.path.join(folder, "config.yaml")
            with open(config, "w") as file:
                json.dump({"features": self.features(run)}, file)
            command = [self.tools.go / "connectconformance", "--vv", "--conf", config, "--mode", run.mode]
            wrapper = [sys.executable, FOLDER / "connect_wrapper.py", "--bin-dir", self.bin_dir.resolve()]
            if way != matrix.DIRECT:
                wrapper += [f"--agent-flag={flag}" for flag in matrix.CARRIERS[way]]
            if run.mode == "client":
                # The server under the agent has to be known before it is there.
                (port,) = tunnel.free_ports(1)
                command += ["--port", str(port)]
                wrapper += ["--upstream", f"http{'s' if run.tls else ''}://127.0.0.1:{port}"]
            if run.mode == "client" and run.tls:
                certs = stack.enter_context(tunnel.opened(self.bin_dir))
                certs.run("certs", "server", "peer", "--san", "127.0.0.1", "--san", "localhost", "--dir", certs.certs)
                pair = (certs.certs / "server-peer.pem", certs.certs / "server-peer.key")
                command += ["--cert", pair[0], "--key", pair[1]]
                wrapper += ["--upstream-ca", certs.certs / "ca.pem"]
            under_test = [] if way == matrix.DIRECT else [*wrapper, run.mode]
            code, output = run_to_end([*command, "--", *under_test, self.tools.go / run.program])
            return Outcome(run, way, code, output)

    def features(self, run):
        few = self.quick or run.program in ON_GRPC_GO
        return {
            "versions": ["HTTP_VERSION_2"], "protocols": ["PROTOCOL_GRPC"], **(FEW if few else ALL),
            "supportsH2c": not run.tls, "supportsTls": run.tls,
        }  # fmt: skip


class Outcome:
    """What a run of the runner said, judged."""

    def __init__(self, run, way, code, output):
        # By suite.
        self.cases = collections.Counter(
            name.partition("/")[0] for name in re.findall(r'^Sending request for "(.+)"\.\.\.$', output, re.MULTILINE)
        )
        self.peers_own, self.hubs_own_words = collections.Counter(), collections.Counter()
        self.problems = []
        rules = {rule: False for rule in PEERS_OWN + (HUBS_OWN_WORDS if way != matrix.DIRECT else ())}
        for name, complaint in failures_in(output):
            rule = next((rule for rule in rules if applies(rule, run, name, complaint)), None)
            if rule is None:
                self.problems.append(f"{name}: {complaint}")
            else:
                rules[rule] = True
                (self.peers_own if rule in PEERS_OWN else self.hubs_own_words)[name.partition("/")[0]] += 1
        for rule, used in rules.items():
            if not used and re.fullmatch(rule.runs, f"{run.mode}/{run.program}"):
                self.problems.append(f"nothing fails any more as connect.py has it: {rule.reason}")
        expected = sum(self.peers_own.values()) + sum(self.hubs_own_words.values())
        told = re.search(r"^Total cases: (\d+)\n(\d+) passed, (\d+) failed$", output, re.MULTILINE)
        if not told or int(told[1]) != self.total or int(told[3]) != expected or "could not be run" in output:
            self.problems.append(f"the runner ended with exit code {code}: {output[-2000:]}")

    @property
    def total(self):
        return sum(self.cases.values())

    def summary(self):
        expected = sum(self.peers_own.values()), sum(self.hubs_own_words.values())
        return "{} cases, {} of them fail as the peers do alone, {} have the hub's own words".format(
            self.total, *expected
        )


def failures_in(output):
    """The cases that failed, and the runner's complaint of each."""
    for block in re.finditer(r"^FAILED: (.+):\n((?:\t.*\n?)+)", output, re.MULTILINE):
        yield block[1], "\n".join(line.strip() for line in block[2].splitlines())


def applies(rule, run, name, complaint):
    return (
        re.fullmatch(rule.runs, f"{run.mode}/{run.program}")
        and re.match(rule.cases, name)
        and re.search(rule.complaint, complaint)
    )


def name_of(run):
    return f"mode {run.mode}, {run.program}{', TLS' if run.tls else ''}"


def run_to_end(command):
    """Exit code and output. What the runner leaves behind, a wrapper that it killed, ends with its session."""
    process = subprocess.Popen(
        command, env=tunnel.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        output = f"it was given up after {TIMEOUT} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return process.returncode, output
