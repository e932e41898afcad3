#!/usr/bin/env python3
"""An agent that introduces itself and then says no more: its QUIC acknowledges whatever comes, and nobody reads it.

    python tests/foreign/mute_agent.py --hub 127.0.0.1:4433 --certs adit-certs --id mute

The rest is examples/foreign_agents/python.
"""

import asyncio
import functools
import sys

import grpc
from tunnel import ROOT

sys.path.insert(0, str(ROOT / "examples/foreign_agents/python"))
sys.path.insert(0, str(ROOT / "proto/proto"))

from agent import configuration, parse_arguments
from aioquic.asyncio import connect
from rh3 import Link

ATTACH = b"/adit.tunnel.v1.Agent/Attach"
pb = grpc.protos("adit/tunnel/v1/agent.proto")


class Introduction:
    """The answer to `Attach` and to no other request."""

    def __init__(self, link, stream, headers, agent):
        if dict(headers)[b":path"] == ATTACH:
            hello = pb.AgentEvent(hello=pb.Hello(id=agent, instance="mute", generation=1)).SerializeToString()
            link.send_headers(stream, [(b":status", b"200"), (b"content-type", b"application/grpc")])
            link.http.send_data(stream, b"\0" + len(hello).to_bytes(4) + hello, end_stream=False)

    def feed(self, _data, _ended):
        pass

    def cancel(self):
        pass


async def main():
    arguments = parse_arguments()
    answer = functools.partial(Introduction, agent=arguments.id)
    protocol = functools.partial(Link, answer=answer)
    async with connect(*arguments.hub, configuration=configuration(arguments), create_protocol=protocol) as link:
        print("connected", flush=True)
        await link.wait_closed()
        print(f"the hub ended the link: {link.end.reason_phrase}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
