#!/usr/bin/env python3
"""Serves Contacts with mutual TLS: who shows no certificate of the CA makes no call.

    python server.py --listen localhost:50051 --ca ca.pem --cert server.pem --key server.key

Prints the address when it serves. Stops on SIGINT and SIGTERM, once running calls have ended, or after 5 s.
"""

import argparse
import asyncio
import logging
import pathlib
import signal
import sys

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

import contacts

# Seconds for calls that still run when the server is told to stop.
GRACE = 5


def main():
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    asyncio.run(serve(arguments.listen, credentials(arguments)))


def credentials(arguments):
    """The server's own certificate, and the CA that every client's has to be from."""
    key, cert, ca = (read(path) for path in (arguments.key, arguments.cert, arguments.ca))
    return grpc.ssl_server_credentials([(key, cert)], root_certificates=ca, require_client_auth=True)


async def serve(address, tls):
    server = grpc.aio.server()
    contacts.services.add_ContactsServicer_to_server(contacts.Contacts(), server)
    state = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    reflection.enable_server_reflection((contacts.SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    try:
        port = server.add_secure_port(address, tls)
    except RuntimeError as error:
        sys.exit(f"cannot listen on {address}: {error}; check the address, and that cert and key belong together")
    await state.set(contacts.SERVICE, health_pb2.HealthCheckResponse.SERVING)
    await server.start()
    print(f"listening on {address.rpartition(':')[0]}:{port}", flush=True)

    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await stopping.wait()
    await state.enter_graceful_shutdown()
    await server.stop(GRACE)


def read(path):
    try:
        return path.read_bytes()
    except OSError as error:
        sys.exit(f"cannot read {path}: {error.strerror}")


def parse_arguments():
    parser = argparse.ArgumentParser(description="Serves Contacts with mutual TLS.")
    parser.add_argument("--listen", default="localhost:50051", metavar="HOST:PORT", help="(default localhost:50051)")
    parser.add_argument("--ca", type=pathlib.Path, required=True, help="the CA of clients' certificates, PEM")
    parser.add_argument("--cert", type=pathlib.Path, required=True, help="the server's certificate, PEM")
    parser.add_argument("--key", type=pathlib.Path, required=True, help="its private key, PEM")
    return parser.parse_args()


if __name__ == "__main__":
    main()
