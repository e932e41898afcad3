#!/usr/bin/env python3
"""The token service sample through the tunnel: 10,000 tokens on one stream, whose link is taken away three times.

The commands of the installed package are used as its users would, and nothing else of it: keys and tokens are made with
`token-server`, the service runs behind an agent, and `token-client stream` asks through the hub. Every answer has to be
the one for its token, and every token has to have one.

    python tests/foreign/token_service.py [--bin-dir target/debug] [--commands DIR]

Needs the package installed (pip install examples/token_service), and the built command.
"""

import base64
import contextlib
import json
import pathlib
import re
import subprocess
import sys
import threading
import time

from tunnel import STOP_TIMEOUT, Failure, check, environment

SITE = "site-1"
TOKENS = 10_000
# After so many answers the link is taken away.
KILLS_AT = (2_500, 5_000, 7_500)
# Seconds for the whole stream. Each kill is noticed within ten.
STREAM_TIMEOUT = 300
# And for any other command; a thousand tokens take a while on a busy machine.
COMMAND_TIMEOUT = 120
# `token-client validate` of a token that is not good.
NOT_VALID = 3


def main():
    def extend(parser):
        parser.add_argument(
            "--commands", type=pathlib.Path, default=pathlib.Path(sys.executable).parent,
            help="where token-server and token-client are (default: beside this Python)",
        )  # fmt: skip

    check("Asks a token service through the tunnel.", lambda *given: Tokens(*given).checks(), extend)


class Tokens:
    def __init__(self, tunnel, arguments):
        self.tunnel = tunnel
        self.token_server, self.token_client = (self.command(arguments, name) for name in ("server", "client"))
        self.keys = tunnel.folder / "keys"
        self.server = None

    def command(self, arguments, which):
        path = arguments.commands / f"token-{which}"
        if not path.is_file():
            sys.exit(f"{path} is not there; install it first: pip install examples/token_service")
        return path

    def checks(self):
        return (
            self.help,
            self.start,
            self.one_by_one,
            self.stream_across_kills,
            self.stream_that_stays_open,
            self.by_certificate,
            self.service_stopped,
        )

    def help(self):
        """Both commands are installed, and tell what they do."""
        for command, words in ((self.token_server, ("issue", "serve")), (self.token_client, ("validate", "stream"))):
            told = self.run(command, "--help")
            missing = [word for word in words if word not in told]
            if missing:
                raise Failure(f"{command.name} --help says nothing of {missing}: {told}")

    def start(self):
        """A service, a hub and an agent start, and the hub knows the service by reflection."""
        self.run(self.token_server, "new-keys", "--dir", self.keys)
        self.server = self.tunnel.spawn(
            "token-server", self.token_server, "serve", "--listen", "127.0.0.1:0", "--public-key", self.keys / "public.pem"
        )  # fmt: skip
        self.tunnel.start_hub()
        self.start_agent()
        [link] = self.tunnel.links()
        if "tokens.v1.TokenService" not in link["services"]:
            raise Failure(f"the hub does not know the service: {link}")

    def start_agent(self):
        self.tunnel.start_agent(SITE, f"http://{self.server.listening_on()}")
        self.tunnel.wait_until_attached(SITE)

    def one_by_one(self):
        """Single tokens are told good from bad, by answer and by exit code."""
        [good] = self.issue("--subject", "alice")
        answer = self.validate(good, 0)
        expect(
            "the answer",
            (answer["verdict"], answer["subject"], answer["token_id"]),
            ("VALID", "alice", claims(good)["jti"]),
        )
        [elsewhere] = self.issue("--subject", "alice", "--audience", "elsewhere")
        for token, verdict in (
            (elsewhere, "WRONG_AUDIENCE"),
            (tampered(good), "BAD_SIGNATURE"),
            ("a.b.c", "MALFORMED"),
        ):
            expect("the verdict", self.validate(token, NOT_VALID)["verdict"], verdict)

    def validate(self, token, code):
        told = self.run(self.token_client, "validate", *self.through_the_hub(), token, code=code)
        return json.loads(told)

    def stream_across_kills(self):
        """10,000 tokens on a stream are each answered once and rightly, while the link is taken away three times."""
        asked = self.mixed_tokens()
        file = self.tunnel.folder / "tokens"
        file.write_text("".join(f"{token}\n" for token, _ in asked))
        kills = dict(zip(KILLS_AT, (self.kick, self.kill_agent, self.kill_hub), strict=True))
        answers = []
        with self.client(file) as client:
            for line in client.stdout:
                answers.append(json.loads(line))
                if kill := kills.pop(len(answers), None):
                    kill()
        self.expect_each_answered(asked, answers)
        summary, (streams, again) = last_counts(client.told())
        if streams <= len(KILLS_AT) or again == 0:
            raise Failure(f"the kills have not hit the stream: {summary}")
        print(f"    {summary}")

    def mixed_tokens(self):
        """Tokens, and what each of them is: most are good, and no two are the same."""
        others = self.tunnel.folder / "other-keys"
        self.run(self.token_server, "new-keys", "--dir", others)
        part = ("--subject", "alice", "--count", str(TOKENS // 10))
        kinds = [
            *((self.issue(*part), "VALID") for _ in range(7)),
            (self.issue(*part, "--lifetime", "0.001"), "EXPIRED"),
            ([tampered(token) for token in self.issue(*part)], "BAD_SIGNATURE"),
            (self.issue(*part, key=others / "signing.pem"), "UNKNOWN_KEY"),
        ]
        tokens, verdicts = zip(*kinds, strict=True)
        return [pair for one_of_each in zip(*tokens, strict=True) for pair in zip(one_of_each, verdicts, strict=True)]

    def kick(self):
        print("    the link is kicked")
        self.admin("kick", SITE)

    def kill_agent(self):
        print("    the agent is killed, and started again")
        self.tunnel.agents[SITE].kill()
        self.tunnel.start_agent(SITE, f"http://{self.server.listening_on()}")

    def kill_hub(self):
        print("    the hub is killed, and started again")
        self.tunnel.hub.kill()
        self.tunnel.start_hub()

    def expect_each_answered(self, asked, answers):
        expect("the answered lines", [answer["line"] for answer in answers], list(range(1, len(asked) + 1)))
        for (token, verdict), answer in zip(asked, answers, strict=True):
            expect(f"the verdict of line {answer['line']}", answer["verdict"], verdict)
            if verdict == "VALID":
                expect(f"the token of line {answer['line']}", answer["token_id"], claims(token)["jti"])

    def stream_that_stays_open(self):
        """A stream stays open from one request to the next, and is there again after its link was taken away."""
        self.tunnel.wait_until_attached(SITE)
        expect("the streams without a kick", self.ask_thrice(lambda: None), 1)
        streams = self.ask_thrice(self.kick)
        if streams < 2:
            raise Failure("the kick has not hit the stream")

    def ask_thrice(self, between):
        """Asks, waits for the answer, and asks again; gives the number of streams that this took."""
        [token] = self.issue("--subject", "alice")
        with self.client(subprocess.PIPE) as client:
            for turn in (1, 2, 3):
                client.ask(token)
                expect("the verdict", json.loads(client.stdout.readline() or "{}").get("verdict"), "VALID")
                if turn == 2:
                    between()
            client.process.stdin.close()
            expect("what follows the last answer", client.stdout.read(), "")
        return last_counts(client.told())[1][0]

    def by_certificate(self):
        """A hub with mutual TLS takes the client by its certificate."""
        certs = self.tunnel.certs
        self.tunnel.run("certs", "client", "alice", "--dir", certs)
        expect("the hub's exit code", self.tunnel.hub.stop(), 0)
        self.tunnel.start_hub("--client-tls", "mutual")
        self.tunnel.wait_until_attached(SITE)
        [token] = self.issue("--subject", "alice")
        hello = ("--ca", certs / "ca.pem", "--cert", certs / "client-alice.pem", "--key", certs / "client-alice.key")
        told = self.run(self.token_client, "validate", *self.through_the_hub(), *hello, token)
        expect("the verdict", json.loads(told)["verdict"], "VALID")

    def service_stopped(self):
        """The service stops when told to, and has seen more requests than were answered through the hub."""
        expect("its exit code", self.server.stop(), 0)
        summary, (answered, streams) = last_counts(self.server.output())
        if answered <= TOKENS or streams <= len(KILLS_AT):
            raise Failure(f"the service has not seen what was sent again: {summary}")
        print(f"    {summary}")

    def issue(self, *more, key=None):
        return self.run(self.token_server, "issue", "--key", key or self.keys / "signing.pem", *more).splitlines()

    def admin(self, *arguments):
        self.tunnel.run("agents", *arguments, "--admin", f"http://127.0.0.1:{self.tunnel.admin_port}")

    def through_the_hub(self):
        return ("--target", self.tunnel.target, "--metadata", f"adit-agent={SITE}")

    def client(self, source):
        return Client([self.token_client, "stream", *self.through_the_hub()], source, self.tunnel.folder)

    def run(self, *command, code=0):
        """What a command prints, which has to end with this code."""
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, timeout=COMMAND_TIMEOUT, check=False
        )
        if done.returncode != code:
            told = " ".join(str(part) for part in command[:2])
            raise Failure(f"{told} exited {done.returncode}, not {code}: {done.stdout}{done.stderr}")
        return done.stdout


class Client:
    """A `token-client stream` that reads its tokens from a file, or from us, and has to end well with the block."""

    def __init__(self, command, source, folder):
        self.log = folder / f"token-client-{time.monotonic_ns()}.log"
        with contextlib.ExitStack() as files:
            stdin = files.enter_context(source.open()) if isinstance(source, pathlib.Path) else source
            stderr = files.enter_context(self.log.open("w"))
            self.process = subprocess.Popen(
                command, env=environment(), stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        self.stdout = self.process.stdout
        # Reading from it must end, whatever happens.
        self.limit = threading.Timer(STREAM_TIMEOUT, self.process.kill)

    def ask(self, token):
        self.process.stdin.write(f"{token}\n")
        self.process.stdin.flush()

    def told(self):
        return self.log.read_text()

    def __enter__(self):
        self.limit.start()
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None and self.process.wait(STOP_TIMEOUT) != 0:
                raise Failure(f"token-client exited {self.process.returncode}: {self.told()}")
        finally:
            self.limit.cancel()
            self.process.kill()
            self.process.wait(STOP_TIMEOUT)
            self.stdout.close()


def last_counts(log):
    """The last line of a log, and the numbers in it."""
    line = log.splitlines()[-1]
    return line, [int(number) for number in re.findall(r"\d+", line)]


def claims(token):
    """What a token says, unchecked."""
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def tampered(token):
    """The same for another subject, under the old signature."""
    header, _, signature = token.split(".")
    changed = json.dumps({**claims(token), "sub": "mallory"}).encode()
    return f"{header}.{base64.urlsafe_b64encode(changed).decode().rstrip('=')}.{signature}"


def expect(what, found, expected):
    if found != expected:
        raise Failure(f"{what} should be {str(expected)[:200]} and is {str(found)[:200]}")


if __name__ == "__main__":
    main()
