"""Network namespaces for a suite: sites of their own, from which the only way out leads to the hub's machine.

    namespaces.enter()                  # first of all; gives the reason if it can't be done here
    site = namespaces.Site(tunnel, "site-1", 1)
    tunnel.spawn("server", *site.inside, "server", "--listen", "127.0.0.1:50061")

A site is joined to the suite's own namespace by a pair of virtual interfaces. All of them are the kernel's to clear
away when the last process in them ends: nothing is left on the machine, and nothing on it can be in the way.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import time

from tunnel import POLL, START_TIMEOUT, Failure

# Set for the suite once it is in a namespace.
ENTERED = "FOREIGN_SUITE_IN_NAMESPACE"
TOOLS = ("unshare", "nsenter", "ip")
# What makes a namespace: as root, or for anybody where the kernel lets people be root among themselves.
WAYS = (["unshare", "--net"], ["unshare", "--user", "--map-root-user", "--net"])


def enter():
    """Starts this suite anew inside a network namespace, where it may make more of them. None once it is there.

    Where this machine has none for us, the reason, and the suite goes on where it is.
    """
    if os.environ.get(ENTERED):
        run("ip", "link", "set", "lo", "up")
        return None
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        return f"no command {' and no '.join(missing)} on this machine"
    for way in WAYS:
        # What a site needs, tried out.
        tried = subprocess.run(
            [*way, "ip", "link", "add", "near", "type", "veth", "peer", "name", "far"],
            capture_output=True, text=True, timeout=START_TIMEOUT, check=False,
        )  # fmt: skip
        if tried.returncode == 0:
            os.execvpe(way[0], [*way, sys.executable, *sys.argv], {**os.environ, ENTERED: "1"})
    return f"`{' '.join(WAYS[-1])}`: {tried.stderr.strip()}"


class Site:
    """A namespace with one neighbour, ours, at `hub_address`. `inside` before a command runs it there."""

    def __init__(self, tunnel, name, number):
        self.hub_address = f"10.213.{number}.1"
        self.address = f"10.213.{number}.2"
        near, far = f"{name}-near"[:15], f"{name}-far"[:15]
        holder, self.inside = namespace(tunnel, name)
        run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", str(holder.pid))
        run("ip", "address", "add", f"{self.hub_address}/30", "dev", near)
        run("ip", "link", "set", near, "up")
        run(*self.inside, "ip", "address", "add", f"{self.address}/30", "dev", far)
        for interface in ("lo", far):
            run(*self.inside, "ip", "link", "set", interface, "up")


def namespace(tunnel, name):
    """A new namespace with nothing in it but a process, and what goes before a command to run it there."""
    # It lives for as long as a process is in it.
    holder = tunnel.spawn(f"namespace-{name}", "unshare", "--net", "sleep", "infinity")
    wait_until_apart(holder)
    return holder, ["nsenter", f"--net=/proc/{holder.pid}/ns/net", "--"]


def wait_until_apart(holder):
    ours = os.readlink("/proc/self/ns/net")
    theirs = pathlib.Path(f"/proc/{holder.pid}/ns/net")
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        holder.expect_alive()
        if os.readlink(theirs) != ours:
            return
        if time.monotonic() > deadline:
            raise Failure(f"{holder.name} has no namespace of its own after {START_TIMEOUT} s")
        time.sleep(POLL)


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_TIMEOUT, check=False)
    if done.returncode != 0:
        raise Failure(f"`{' '.join(command)}` exited {done.returncode}: {done.stderr.strip()}")
    return done.stdout
