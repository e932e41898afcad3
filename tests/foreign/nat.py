"""Sites behind NATs: namespaces whose only way out is an interface of router.py, which runs beside the suite.

    reason = namespaces.enter() or nat.missing()
    network = nat.Network(tunnel, ["site-1", "site-2"], round_trip=0.040)
    network.start_hub()
    network.start_agent("site-1", network.start_service())
    network.forget("site-1")
"""

import json
import os
import pathlib
import subprocess
import sys
import time

import namespaces
import numbered
from namespaces import run
from programs import wait_until
from tunnel import START_TIMEOUT, Failure

HUB = "198.51.100.1"
# The NATs' public addresses.
PUBLIC = "203.0.113.{}"


def missing():
    """What this machine lacks for a router, or None."""
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return f"/dev/net/tun: {error.strerror}"
    return None


class Network:
    """The router, and the sites behind it."""

    def __init__(self, tunnel, names, round_trip):
        self.tunnel = tunnel
        # Where agents at the sites dial the hub.
        self.hub_address = f"{HUB}:{tunnel.agents_port}"
        self.numbers = {name: number for number, name in enumerate(names, start=1)}
        public = (f"{name}:{PUBLIC.format(number)}" for name, number in self.numbers.items())
        script = str(pathlib.Path(__file__).with_name("router.py"))
        self.router = subprocess.Popen(
            [sys.executable, script, "--outside", "outside", *public],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        tunnel.stack.callback(self.close)
        self.answer()
        run("ip", "address", "add", f"{HUB}/24", "dev", "outside")
        run("ip", "link", "set", "outside", "up")
        run("ip", "route", "add", "203.0.113.0/24", "dev", "outside")
        self.sites = {name: Site(tunnel, name) for name in names}
        self.tell(do="delay", seconds=round_trip / 2)

    def start_service(self):
        """The service of numbered streams (numbered.py), and the upstream by which an agent at any site reaches it."""
        upstream = f"unix:{self.tunnel.folder}/numbered.sock"
        script = str(pathlib.Path(__file__).with_name("numbered.py"))
        self.tunnel.spawn("numbered", sys.executable, script, "--listen", upstream).listening_on()
        return upstream

    def start_hub(self, *more):
        """The tunnel's hub, outside of all NATs; its clients and its operator are on this machine."""
        tunnel = self.tunnel
        tunnel.run("certs", "hub", "--san", HUB, "--dir", tunnel.certs, "--force")
        tunnel.hub = tunnel.spawn(
            "hub", tunnel.adit, "hub", "--certs", tunnel.certs, "--agents", self.hub_address, "--clients", tunnel.target,
            "--admin", f"127.0.0.1:{tunnel.admin_port}", *more,
        )  # fmt: skip
        return tunnel.hub

    def start_agent(self, site, upstream, *more):
        """An agent at a site, whose id is the site's name, before that service."""
        tunnel = self.tunnel
        tunnel.run("certs", "agent", site, "--dir", tunnel.certs)
        tunnel.agents[site] = tunnel.spawn(
            f"agent-{site}", *self.sites[site].inside, tunnel.adit, "agent", "--id", site, "--certs", tunnel.certs,
            "--hub", self.hub_address, "--upstream", upstream, "--service", numbered.SERVICE, *more,
        )  # fmt: skip
        return tunnel.agents[site]

    def tell(self, **request):
        """The router's answer, once it has done what it is told."""
        self.router.stdin.write(json.dumps(request) + "\n")
        self.router.stdin.flush()
        return self.answer()

    def answer(self):
        line = self.router.stdout.readline()
        if not line:
            raise Failure("the router has ended")
        return json.loads(line)

    def forget(self, site, public=None):
        """Has a NAT forget what it knows, and take another public address: when it did."""
        return self.tell(do="forget", site=site, public=public)["at"]

    def lose(self, site, towards):
        return self.tell(do="lose", site=site, towards=towards)["at"]

    def block(self, site, *protocols):
        """Has a site's NAT pass none of these, or all again."""
        return self.tell(do="block", site=site, protocols=protocols)["at"]

    def first_packet(self, site):
        """When the first packet of a site came to its NAT that had forgotten the site."""
        begun = wait_until(f"a packet from {site}", lambda: self.tell(do="begun", site=site)["begun"])
        return begun[0]

    def close(self):
        self.router.stdin.close()
        self.router.wait(START_TIMEOUT)


class Site:
    """A namespace with one interface, to its NAT."""

    def __init__(self, tunnel, name):
        self.interface = name
        self.address, self.other = "10.0.0.2", "10.0.0.3"
        holder, self.inside = namespaces.namespace(tunnel, name)
        run("ip", "link", "set", name, "netns", str(holder.pid))
        self.ip("link set lo up", f"link set {name} up", *self.arrival())

    def arrival(self):
        """An address, and with it the way out."""
        return [
            f"address add {self.address}/32 dev {self.interface}",
            f"route add default dev {self.interface} src {self.address}",
        ]

    def departure(self):
        return ["route del default", f"address del {self.address}/32 dev {self.interface}"]

    def ip(self, *commands):
        """Changes that follow each other at once: when the last was done."""
        told = "".join(f"{command}\n" for command in commands)
        done = subprocess.run(
            [*self.inside, "ip", "-batch", "-"], input=told, capture_output=True, text=True,
            timeout=START_TIMEOUT, check=False,
        )  # fmt: skip
        at = time.monotonic()
        if done.returncode != 0:
            raise Failure(f"`{told}` at {self.interface}: {done.stderr.strip()}")
        return at

    def arrive(self):
        return self.ip(*self.arrival())

    def leave(self):
        return self.ip(*self.departure())

    def move(self):
        """Takes the other address in place of the one that it has: when."""
        departure = self.departure()
        self.address, self.other = self.other, self.address
        return self.ip(*departure, *self.arrival())
