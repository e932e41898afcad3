#!/usr/bin/env python3
"""An agent without a line of adit's code: Python, aioquic, and gRPC by hand.

    python agent.py --hub localhost:4433 --certs adit-certs --id python-1

It dials the hub, says who it is by its certificate, serves grpc.testing.TestService to the hub's requests, and dials
again when the link ends. SIGTERM and SIGINT drain it.
"""

import argparse
import asyncio
import contextlib
import functools
import logging
import pathlib
import random
import signal
import ssl
import time

from aioquic.asyncio import connect
from aioquic.quic.configuration import QuicConfiguration
from grpc_calls import answer
from rh3 import ALPN, Link
from test_service import METHODS

# Seconds that calls have when the agent stops.
DRAIN_TIMEOUT = 30
# Seconds for a handshake.
HANDSHAKE_TIMEOUT = 10
# The wait between two tries is drawn from below the first of these, which doubles up to the second.
MIN_BACKOFF, MAX_BACKOFF = 0.5, 10
# What the hub may have sent before it is read: of all calls, and of one. aioquic raises both as data comes.
CONNECTION_WINDOW, STREAM_WINDOW = 16 << 20, 2 << 20

log = logging.getLogger("agent")


async def main():
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # It tells of every stream that is reset.
    logging.getLogger("quic").setLevel(logging.WARNING)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    backoff = MIN_BACKOFF
    while not stop.is_set():
        begun = time.monotonic()
        try:
            await one_link(arguments, stop)
        except (OSError, TimeoutError) as error:
            log.warning("cannot reach the hub at %s:%d: %r", *arguments.hub, error)
        if time.monotonic() - begun > MAX_BACKOFF:
            backoff = MIN_BACKOFF
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), random.uniform(0, backoff))
        backoff = min(2 * backoff, MAX_BACKOFF)


async def one_link(arguments, stop):
    """Follows one link from its handshake to its end; drains it once `stop` is set."""
    host, port = arguments.hub
    protocol = functools.partial(Link, answer=answer(METHODS))
    dialling = connect(host, port, configuration=configuration(arguments), create_protocol=protocol)
    async with contextlib.AsyncExitStack() as stack:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT):
            link = await stack.enter_async_context(dialling)
        log.info("connected to the hub at %s:%d", host, port)
        closed, stopped = asyncio.ensure_future(link.wait_closed()), asyncio.ensure_future(stop.wait())
        keep_alive = asyncio.ensure_future(link.keep_alive())
        try:
            await asyncio.wait([closed, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not closed.done():
                log.info("draining %d calls", len(link.requests))
                await link.drain(DRAIN_TIMEOUT)
            await closed
            log.info("the link ended: code=%#x reason=%s", link.end.error_code, link.end.reason_phrase)
        finally:
            for task in (keep_alive, stopped):
                task.cancel()
            await asyncio.gather(keep_alive, stopped, return_exceptions=True)


def configuration(arguments):
    """TLS both ways: the hub has the name that was dialled, the agent its id, and one CA has signed both."""
    settings = QuicConfiguration(
        is_client=True,
        alpn_protocols=[ALPN],
        max_data=CONNECTION_WINDOW,
        max_stream_data=STREAM_WINDOW,
        idle_timeout=30,
        verify_mode=ssl.CERT_REQUIRED,
    )
    settings.load_verify_locations(cafile=str(arguments.certs / "ca.pem"))
    name = f"agent-{arguments.id}"
    settings.load_cert_chain(arguments.certs / f"{name}.pem", arguments.certs / f"{name}.key")
    return settings


def parse_arguments():
    parser = argparse.ArgumentParser(description="An agent in Python, with aioquic.")
    parser.add_argument("--hub", type=host_and_port, required=True, help="HOST:PORT of the hub's port for agents")
    parser.add_argument("--certs", type=pathlib.Path, default="adit-certs", help="where ca.pem and agent-ID.* are")
    parser.add_argument("--id", required=True, help="the agent's id")
    return parser.parse_args()


def host_and_port(text):
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


if __name__ == "__main__":
    asyncio.run(main())
