#!/usr/bin/env python3
"""The libraries in programs of their own: a hub in the one that calls, an agent in the one that serves.

    cargo build --workspace --bins --examples
    python tests/foreign/library.py [--bin-dir target/debug]
"""

import signal

import tunnel

SITE = "site-7"
# At the point that the program asks for.
ANSWER = f"{SITE} has Elm Harbor"


def checks(world, arguments):
    examples = arguments.bin_dir / "examples"
    programs = []

    def call():
        """A program with a hub in it is called back by a program with an agent in it."""
        world.run("certs", "agent", SITE, "--dir", world.certs)
        hub = world.spawn(
            "embedded-hub", tunnel.executable(examples, "embedded-hub"),
            "--certs", world.certs, "--agents", f"127.0.0.1:{world.agents_port}", "--ask", SITE,
        )  # fmt: skip
        agent = world.spawn(
            "embedded-agent", tunnel.executable(examples, "embedded-agent"),
            "--certs", world.certs, "--id", SITE, "--hub", f"127.0.0.1:{world.agents_port}",
        )  # fmt: skip
        programs.extend([hub, agent])
        hub.wait_for(ANSWER)

    def stop():
        """Both end well on Ctrl-C."""
        for program in reversed(programs):
            code = program.stop(signal.SIGINT)
            if code != 0:
                raise tunnel.Failure(f"{program.name} exited {code}")

    return [call, stop]


if __name__ == "__main__":
    tunnel.check(__doc__.partition("\n")[0], checks)
