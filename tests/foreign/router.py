"""A router between sites and the rest of the world, in a process of its own: it delays packets, holds them to a rate, loses
them, and translates addresses as a NAT does, all of it as it is told while packets flow.

    python tests/foreign/router.py SITE:PUBLIC_ADDRESS... --outside NAME

Makes a TUN interface for each site and one for the world outside, prints `{"ready": true}`, and then takes requests, a
line of JSON each, on standard input, and answers each with one on standard output. It ends with its standard input.
Whoever starts it moves the interfaces to the namespaces where they belong. TUN is all that it needs of the kernel.

A site's packets get its public address and a port of their own for each of its sockets. What comes from outside to a
port that no socket has is lost, silently.
"""

import argparse
import fcntl
import heapq
import ipaddress
import itertools
import json
import os
import select
import struct
import sys
import time

# linux/if_tun.h
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000

TCP, UDP = 6, 17
PROTOCOLS = {"tcp": TCP, "udp": UDP}
# Where the checksum is in the header of each.
CHECKSUM_AT = {TCP: 16, UDP: 6}
# Bytes of the header of IP without options, as everybody sends it.
IP_HEADER = 20

PACKET = 64 << 10
# Packets that are taken of one interface before it is the others' turn.
TURN = 64
# Public ports: below those that sockets get by themselves.
FIRST_PORT = 20_000
INSIDE, OUTSIDE = "agent", "hub"


class Site:
    """An interface behind the NAT."""

    def __init__(self, name, public, tun):
        self.name, self.tun = name, tun
        self.public = ipaddress.IPv4Address(public).packed
        self.ports = itertools.count(FIRST_PORT)
        # (protocol, address, port) inside to (address, port) outside, and back.
        self.out, self.back = {}, {}
        # What is lost of what goes towards the hub, and towards the agent.
        self.lost = set()
        # Protocols that do not pass, either way.
        self.blocked = set()
        # When each translation came to be.
        self.begun = []


class Router:
    """Interfaces, and packets on their way."""

    def __init__(self, outside, sites):
        self.delay = 0.0
        # Bytes a second, each way, or no limit; and when each interface has sent what waits for it.
        self.rate = None
        self.busy_until = {}
        self.outside = tun(outside)
        self.sites = [Site(name, public, tun(name)) for name, public in sites]
        self.by_name = {site.name: site for site in self.sites}
        self.by_tun = {site.tun: site for site in self.sites}
        self.on_the_way = []
        self.order = itertools.count()
        self.poll = select.epoll()
        for each in (self.outside, *self.by_tun, sys.stdin.fileno()):
            self.poll.register(each, select.EPOLLIN)

    def run(self):
        say({"ready": True})
        while True:
            wait = max(0, self.on_the_way[0][0] - time.monotonic()) if self.on_the_way else None
            for ready, _ in self.poll.poll(wait):
                if ready == sys.stdin.fileno():
                    line = sys.stdin.readline()
                    if not line:
                        return
                    say(self.asked(json.loads(line)))
                else:
                    self.take(ready)
            now = time.monotonic()
            while self.on_the_way and self.on_the_way[0][0] <= now:
                _, _, interface, packet = heapq.heappop(self.on_the_way)
                write(interface, packet)

    def take(self, interface):
        for _ in range(TURN):
            try:
                packet = os.read(interface, PACKET)
            except BlockingIOError:
                return
            except OSError:
                # Its namespace is gone, and with that the interface.
                self.poll.unregister(interface)
                return
            header = packet[:IP_HEADER]
            # IPv4 with no options and no fragment, of TCP or UDP: nothing else is any concern of ours.
            if len(packet) < IP_HEADER + 8 or header[0] != 0x45 or header[9] not in CHECKSUM_AT:
                continue
            if struct.unpack_from("!H", header, 6)[0] & 0x3FFF:
                continue
            self.pass_on(interface, packet)

    def pass_on(self, interface, packet):
        protocol = packet[9]
        source, target = packet[12:16], packet[16:20]
        source_port, target_port = struct.unpack_from("!HH", packet, IP_HEADER)
        site = self.by_tun.get(interface)
        if site:
            if OUTSIDE in site.lost or protocol in site.blocked:
                return
            inside = (protocol, source, source_port)
            if inside not in site.out:
                port = next(site.ports)
                site.out[inside] = (site.public, port)
                site.back[protocol, site.public, port] = (source, source_port)
                site.begun.append(time.monotonic())
            address, port = site.out[inside]
            self.send(self.outside, translated(packet, 12, 0, address, port))
            return
        for site in self.sites:
            if inside := site.back.get((protocol, target, target_port)):
                if INSIDE not in site.lost and protocol not in site.blocked:
                    self.send(site.tun, translated(packet, 16, 2, *inside))
                return

    def send(self, interface, packet):
        due = time.monotonic()
        if self.rate:
            due = max(due, self.busy_until.get(interface, 0)) + len(packet) / self.rate
            self.busy_until[interface] = due
        due += self.delay
        heapq.heappush(self.on_the_way, (due, next(self.order), interface, packet))

    def asked(self, request):
        """Acts on a request, and says when it was done."""
        site = self.by_name.get(request.get("site"))
        done = {"at": time.monotonic()}
        match request["do"]:
            case "delay":
                self.delay = request["seconds"]
            case "rate":
                self.rate = request["bytes"]
            case "lose":
                site.lost = set(request["towards"])
            case "block":
                site.blocked = {PROTOCOLS[name] for name in request["protocols"]}
            case "forget":
                # As a NAT that was restarted, or has given the address to somebody else.
                site.out.clear()
                site.back.clear()
                site.begun.clear()
                if public := request.get("public"):
                    site.public = ipaddress.IPv4Address(public).packed
            case "fresh":
                site.begun.clear()
            case "begun":
                done["begun"] = site.begun
        return done


def translated(packet, address_at, port_at, address, port):
    """The packet with another address and port at one of its ends, and right checksums."""
    changed = bytearray(packet)
    changed[address_at : address_at + 4] = address
    struct.pack_into("!H", changed, IP_HEADER + port_at, port)
    before = packet[address_at : address_at + 4] + packet[IP_HEADER + port_at : IP_HEADER + port_at + 2]
    after = address + struct.pack("!H", port)
    adjust(changed, 10, packet[address_at : address_at + 4], address)
    checksum_at = IP_HEADER + CHECKSUM_AT[packet[9]]
    # In UDP none at all is a checksum, too.
    if packet[9] == TCP or packet[checksum_at : checksum_at + 2] != b"\0\0":
        adjust(changed, checksum_at, before, after)
    return bytes(changed)


def adjust(packet, at, before, after):
    """A checksum over what has changed (RFC 1624)."""
    (checksum,) = struct.unpack_from("!H", packet, at)
    total = ~checksum & 0xFFFF
    for (old,), (new,) in zip(struct.iter_unpack("!H", before), struct.iter_unpack("!H", after), strict=True):
        total += (~old & 0xFFFF) + new
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    struct.pack_into("!H", packet, at, ~total & 0xFFFF)


def tun(name):
    """A new TUN interface of this name."""
    interface = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(interface, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return interface


def write(interface, packet):
    try:
        os.write(interface, packet)
    except OSError:
        # The interface is down, or its queue is full: lost, as in any router.
        pass


def say(what):
    print(json.dumps(what), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sites", nargs="+", metavar="SITE:PUBLIC_ADDRESS")
    parser.add_argument("--outside", required=True, metavar="NAME", help="the interface of the world outside")
    arguments = parser.parse_args()
    Router(arguments.outside, [site.split(":") for site in arguments.sites]).run()


if __name__ == "__main__":
    main()
