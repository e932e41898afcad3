#!/usr/bin/env python3
"""Calls Contacts with mutual TLS.

An ordinary grpcio client: it knows nothing of tunnels. Through a hub, the agent is named in metadata:

    python client.py Ada Lovelace --target localhost:9090 --ca ca.pem --cert client.pem --key client.key \
        --metadata adit-agent=site-7

Prints the greeting, and whom the server took the caller for. Exits 0 if the server answered, 1 with the reason if it
did not, 2 on wrong usage.
"""

import argparse
import pathlib
import sys

import grpc

import contacts


def main():
    arguments = parse_arguments()
    person = contacts.pb.Person(given_name=arguments.given_name, family_name=arguments.family_name)
    with grpc.secure_channel(arguments.target, credentials(arguments)) as channel:
        stub = contacts.services.ContactsStub(channel)
        try:
            response = stub.sayHello(person, metadata=arguments.metadata, timeout=arguments.timeout)
        except grpc.RpcError as error:
            sys.exit(f"sayHello: {arguments.target} answered {describe(error)}")
    print(response.message)
    print(f"(the server was called by {response.caller})")


def credentials(arguments):
    """The CA that the server's certificate has to be from, and the certificate that it is shown, if there is one."""
    ca, cert, key = (path and read(path) for path in (arguments.ca, arguments.cert, arguments.key))
    return grpc.ssl_channel_credentials(ca, private_key=key, certificate_chain=cert)


def describe(error):
    reasons = [f"{key}={value}" for key, value in error.trailing_metadata() or () if key.startswith("adit-")]
    return " ".join([error.code().name, *reasons, f"“{error.details()}”"])


def read(path):
    try:
        return path.read_bytes()
    except OSError as error:
        sys.exit(f"cannot read {path}: {error.strerror}")


def parse_arguments():
    parser = argparse.ArgumentParser(description="Calls Contacts with mutual TLS.")
    parser.add_argument("given_name", help="whom to greet")
    parser.add_argument("family_name", nargs="?", default="")
    parser.add_argument("--target", required=True, metavar="HOST:PORT", help="the hub, or the service itself")
    parser.add_argument("--ca", type=pathlib.Path, required=True, help="the CA of the server's certificate, PEM")
    parser.add_argument("--cert", type=pathlib.Path, help="the client's certificate, PEM")
    parser.add_argument("--key", type=pathlib.Path, help="its private key, PEM")
    parser.add_argument(
        "--metadata", action="append", default=[], type=pair, metavar="KEY=VALUE", help="sent with the call"
    )
    parser.add_argument("--timeout", type=float, default=10, metavar="SECONDS", help="of the call (default 10)")
    arguments = parser.parse_args()
    if (arguments.cert is None) != (arguments.key is None):
        parser.error("--cert and --key go together")
    return arguments


def pair(text):
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"`{text}` is not KEY=VALUE")
    return key.lower(), value


if __name__ == "__main__":
    main()
