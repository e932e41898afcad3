#!/usr/bin/env python3
"""An agent whose service is no gRPC: it answers any request with a few bytes, once the request has ended.

    python tests/foreign/web_agent.py --hub 127.0.0.1:4433 --certs adit-certs --id web

`/web.Server/Held` is answered by nothing. The rest is examples/foreign_agents/python.
"""

import asyncio
import functools
import sys

from tunnel import ROOT

sys.path.insert(0, str(ROOT / "examples/foreign_agents/python"))

from agent import configuration, parse_arguments
from aioquic.asyncio import connect
from rh3 import Link

HELD = b"/web.Server/Held"
BODY = b"hello, world\n"


class Answer:
    """The answer to one request."""

    def __init__(self, link, stream, headers):
        self.link, self.stream, self.path = link, stream, dict(headers)[b":path"]
        if self.path.startswith(b"/adit."):
            self.send([(b":status", b"404")])

    def feed(self, _data, ended):
        if ended and self.path != HELD:
            self.send([(b":status", b"200"), (b"content-type", b"text/plain")], BODY)

    def send(self, head, body=b""):
        if self.link.sender(self.stream):
            self.link.send_headers(self.stream, head)
            self.link.http.send_data(self.stream, body, end_stream=True)
        self.link.done(self.stream)

    def cancel(self):
        self.link.done(self.stream)


async def main():
    arguments = parse_arguments()
    protocol = functools.partial(Link, answer=Answer)
    async with connect(*arguments.hub, configuration=configuration(arguments), create_protocol=protocol) as link:
        print("connected", flush=True)
        async with asyncio.TaskGroup() as tasks:
            kept = tasks.create_task(link.keep_alive())
            await link.wait_closed()
            kept.cancel()


if __name__ == "__main__":
    asyncio.run(main())
