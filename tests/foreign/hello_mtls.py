#!/usr/bin/env python3
"""The sample hello_mtls through the tunnel, with mutual TLS on both legs that are not the tunnel's own.

Twice: with certificates that `adit certs` made, and with those of examples/hello_mtls/openssl.sh. Each time a server,
a hub and an agent are started as the sample's README has it, its client greets, and then whoever should be refused
is: clients without a certificate or with a wrong one, and agents that the server does not know, or that do not know
the server.

    python tests/foreign/hello_mtls.py [--bin-dir target/debug]

Needs the packages of examples/hello_mtls/python/requirements.txt, openssl, and the built command.
"""

import sys

from programs import Log, expect_in, expect_not_in, run
from tunnel import ROOT, Failure, check

SAMPLE = ROOT / "examples/hello_mtls"
CLIENT = SAMPLE / "python/client.py"
SERVER = SAMPLE / "python/server.py"
OPENSSL = SAMPLE / "openssl.sh"

AGENT = "site-7"
AGENT_URI = "spiffe://adit/agent/site-7"
CLIENT_URI = "spiffe://adit/client/alice"
GREETING = "Hello, Ada Lovelace!"


def main():
    check("The sample hello_mtls through the tunnel.", checks_of)


def checks_of(tunnel, _):
    yield unit_tests
    for made_by in (made_by_adit, made_by_openssl):
        world = World(tunnel, made_by)
        yield world.made
        yield world.started
        yield world.client_is_greeted
        yield world.command_is_greeted
        yield world.errors_of_the_service_pass
        yield world.client_without_a_certificate_is_refused
        yield world.client_of_another_ca_is_refused
        yield world.agent_is_no_client
        yield world.server_is_no_client
        if made_by is made_by_openssl:
            yield world.client_without_an_identity_is_refused
        yield world.hub_of_another_ca_is_refused
        yield world.server_asks_for_certificates_itself
        yield world.agent_without_a_certificate_is_refused
        yield world.agent_of_another_ca_is_refused
        yield world.server_of_another_ca_is_refused
        yield world.server_is_known_by_its_name
        yield world.stopped


def unit_tests():
    """The unit tests of the service, which need no network, pass."""
    report = run(sys.executable, "-m", "unittest", "discover", SAMPLE / "python")
    expect_in("the report", report, "OK")
    expect_not_in("the report", report, "Ran 0 tests")


def made_by_adit(tunnel, folder):
    """With certificates of adit certs."""
    for command in (
        ["init"],
        ["hub", "--san", "localhost", "--san", "127.0.0.1"],
        ["server", "contacts", "--san", "localhost", "--san", "127.0.0.1"],
        ["agent", AGENT],
        ["client", "alice"],
    ):
        tunnel.run("certs", *command, "--dir", folder)


def made_by_openssl(_, folder):
    """With certificates of openssl, P-256."""
    run(OPENSSL, folder)


class World:
    """One set of certificates, the processes that use it, and what is tried on them."""

    def __init__(self, tunnel, make):
        self.tunnel, self.make = tunnel, make
        self.certs = tunnel.folder / make.__name__
        # Another CA, and certificates for the same names.
        self.strangers = tunnel.folder / f"{make.__name__}-strangers"
        # What TLS says to those: openssl.sh calls all its CAs by one name, so that only their keys tell them apart.
        self.unknown = "BadSignature" if make is made_by_openssl else "UnknownIssuer"
        self.server = self.port = self.hub = self.agent = None

    @property
    def made(self):
        def make():
            self.make(self.tunnel, self.certs)
            self.make(self.tunnel, self.strangers)
            self.tunnel.certs = self.certs

        make.__doc__ = self.make.__doc__
        return make

    def started(self):
        """Server, hub and agent start, and the hub is told of the service, by reflection over mutual TLS."""
        self.server = self.tunnel.spawn(
            "contacts", sys.executable, SERVER, "--listen", "localhost:0", "--ca", self.certs / "ca.pem",
            "--cert", self.certs / "server-contacts.pem", "--key", self.certs / "server-contacts.key",
        )  # fmt: skip
        self.port = self.server.listening_on().rpartition(":")[2]
        self.hub = self.tunnel.start_hub("--client-tls", "mutual")
        self.start_agent()
        services = [service for link in self.tunnel.links() for service in link["services"]]
        expect_in("the hub", str(services), "contacts.Contacts")

    def client_is_greeted(self):
        """The client is greeted, and the server has been shown the agent's certificate."""
        greeted = self.say_hello("Ada", "Lovelace")
        expect_in("the client", greeted, GREETING, f"called by {AGENT_URI}")

    def command_is_greeted(self):
        """So is adit call, without the service's definition."""
        greeted = self.call()
        expect_in("adit call", greeted, f'"message": "{GREETING}"', f'"caller": "{AGENT_URI}"')

    def errors_of_the_service_pass(self):
        """The service's own refusal comes as the service made it."""
        refused = self.say_hello("", "Lovelace", code=1)
        expect_in("the client", refused, "INVALID_ARGUMENT", "given_name is empty")
        expect_not_in("the client", refused, "adit-")

    def client_without_a_certificate_is_refused(self):
        """A client without a certificate is refused by the hub."""
        self.refused_by_hub("peer sent no certificates", None)

    def client_of_another_ca_is_refused(self):
        """A client with a certificate of another CA is refused by the hub."""
        self.refused_by_hub(self.unknown, self.strangers / "client-alice")

    def agent_is_no_client(self):
        """A client with the certificate of an agent is refused by the hub, which says what it needs."""
        self.refused_by_hub(f"the certificate is for {AGENT_URI}, and this port is for clients", f"agent-{AGENT}")

    def server_is_no_client(self):
        """A client with a certificate for servers is refused by the hub."""
        self.refused_by_hub("does not allow extended key usage for client authentication", "server-contacts")

    def client_without_an_identity_is_refused(self):
        """A client whose certificate has no SPIFFE id is refused, and the hub and adit call say so."""
        # Only openssl makes such a certificate.
        run(OPENSSL, self.certs, "client-nobody", "clientAuth", "DNS:nobody.example")
        why = "the certificate has no SPIFFE id: it needs one URI as subject alternative name"
        self.refused_by_hub(why, "client-nobody")
        expect_in("adit call", self.call(name="nobody", code=1), why)

    def hub_of_another_ca_is_refused(self):
        """A hub of another CA is refused by the client, whose certificate it never sees."""
        refused = self.say_hello("Ada", ca=self.strangers / "ca.pem", code=1)
        expect_in("the client", refused, "UNAVAILABLE", "CERTIFICATE_VERIFY_FAILED")

    def server_asks_for_certificates_itself(self):
        """The server asks for certificates itself: beside the tunnel, too, nobody calls it without one."""
        beside = {"target": f"localhost:{self.port}"}
        expect_in("the client", self.say_hello("Ada", **beside), f"called by {CLIENT_URI}")
        for cert in (None, self.strangers / "client-alice"):
            expect_in("the client", self.say_hello("Ada", cert=cert, code=1, **beside), "UNAVAILABLE")

    def agent_without_a_certificate_is_refused(self):
        """An agent without a certificate for the server is refused, and the client is told what to set."""
        self.fail_upstream("--upstream-cert", cert=None)

    def agent_of_another_ca_is_refused(self):
        """An agent whose certificate for the server is of another CA is refused, and the client is told."""
        self.fail_upstream("--upstream-cert", cert=self.strangers / f"agent-{AGENT}")

    def server_of_another_ca_is_refused(self):
        """A server of another CA than the agent was told is refused by the agent."""
        self.fail_upstream(self.unknown, ca=self.strangers / "ca.pem")

    def server_is_known_by_its_name(self):
        """A server is taken for the name that the agent was told, whatever address it is dialled by."""
        self.fail_upstream("not valid for name", "--upstream-name", "contacts.example")
        self.restart_agent("--upstream-name", "localhost", host="127.0.0.1")
        expect_in("the client", self.say_hello("Ada"), "Hello, Ada!")

    def stopped(self):
        """All of them stop when they are told to."""
        for process in (self.agent, self.hub, self.server):
            if (code := process.stop()) != 0:
                raise Failure(f"{process.name} exited {code}")

    def say_hello(self, *names, target=None, ca=None, cert="client-alice", code=0):
        """What the client prints, which ends with this code. `cert` is a certificate's file without its .pem."""
        ca = ca or self.certs / "ca.pem"
        identity = []
        if cert:
            identity = ["--cert", self.certs / f"{cert}.pem", "--key", self.certs / f"{cert}.key"]
        return run(
            sys.executable, CLIENT, *names, "--target", target or f"localhost:{self.tunnel.clients_port}",
            "--ca", ca, *identity, "--metadata", f"adit-agent={AGENT}", code=code,
        )  # fmt: skip

    def call(self, name="alice", code=0):
        """What `adit call` prints."""
        return run(
            self.tunnel.adit, "call", "--hub", f"https://localhost:{self.tunnel.clients_port}", "--certs", self.certs,
            "--name", name, "--agent", AGENT, "contacts.Contacts/sayHello",
            "-d", '{"givenName": "Ada", "familyName": "Lovelace"}', code=code,
        )  # fmt: skip

    def refused_by_hub(self, why, cert):
        """A client with this certificate is closed out, and the hub's log says why."""
        log = Log(self.hub)
        refused = self.say_hello("Ada", cert=cert, code=1)
        expect_in("the client", refused, "UNAVAILABLE")
        expect_not_in("the client", refused, "adit-")
        log.wait_for(why)

    def fail_upstream(self, why, *more, **told):
        """An agent that was told this gets no connection to the server, and says why to the client and in its log."""
        self.restart_agent(*more, services=False, **told)
        refused = self.say_hello("Ada", code=1)
        expect_in("the client", refused, "UNAVAILABLE", "adit-error=upstream-refused", "adit-delivered=no", why)

    def restart_agent(self, *more, **told):
        self.agent.stop()
        self.start_agent(*more, **told)

    def start_agent(self, *more, ca=None, cert=f"agent-{AGENT}", host="localhost", services=True):
        """The agent, which shows the server its own certificate unless told otherwise."""
        identity = []
        if cert:
            identity = ["--upstream-cert", self.certs / f"{cert}.pem", "--upstream-key", self.certs / f"{cert}.key"]
        self.agent = self.tunnel.start_agent(
            AGENT, f"https://{host}:{self.port}", "--upstream-ca", ca or self.certs / "ca.pem", *identity, *more
        )
        self.tunnel.wait_until_attached(AGENT, services=services)


if __name__ == "__main__":
    main()
