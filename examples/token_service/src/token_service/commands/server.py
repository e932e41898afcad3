"""`token-server`: keys, tokens, and the service that checks them."""

import argparse
import asyncio
import signal
import sys

from token_service import tokens
from token_service.server import TokenService, serve


def main():
    arguments = parse_arguments()
    try:
        arguments.run(arguments)
    except (tokens.BadKey, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")


def new_keys(arguments):
    tokens.new_keys(arguments.dir)
    print(f"{arguments.dir}/signing.pem signs tokens: keep it secret. {arguments.dir}/public.pem checks them.")


def issue(arguments):
    key = tokens.load_signing_key(arguments.key)
    for _ in range(arguments.count):
        print(tokens.issue(key, arguments.subject, arguments.lifetime, arguments.issuer, arguments.audience))


def run_service(arguments):
    keys = [tokens.load_public_key(path) for path in arguments.public_key]
    service = TokenService(tokens.Verifier(keys, arguments.issuer, arguments.audience))
    asyncio.run(until_signal(service, arguments.listen))
    print(f"requests: {service.answers}; streams: {service.streams}", file=sys.stderr)


async def until_signal(service, listen):
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(service, listen, stop)


def parse_arguments():
    parser = argparse.ArgumentParser(prog="token-server", description="Issues authentication tokens, and checks them.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("new-keys", help="make a key to sign tokens with, and one to check them with")
    command.add_argument("--dir", default=".", help="where signing.pem and public.pem are written (default: here)")
    command.set_defaults(run=new_keys)

    command = commands.add_parser("issue", help="print tokens, one a line")
    command.add_argument("--key", required=True, metavar="FILE", help="signing.pem")
    command.add_argument("--subject", required=True, help="whose the tokens are")
    command.add_argument(
        "--lifetime", type=positive, default=300, metavar="SECONDS", help="until they expire (default 300)"
    )
    command.add_argument("--count", type=int, default=1, help="how many (default 1)")
    add_issuer_and_audience(command)
    command.set_defaults(run=issue)

    command = commands.add_parser("serve", help="check tokens for others, by gRPC in cleartext")
    command.add_argument("--listen", default="127.0.0.1:50071", metavar="HOST:PORT", help="default 127.0.0.1:50071")
    command.add_argument(
        "--public-key", required=True, action="append", metavar="FILE",
        help="public.pem of somebody who may issue tokens; may be repeated, so that keys can be changed",
    )  # fmt: skip
    add_issuer_and_audience(command)
    command.set_defaults(run=run_service)
    return parser.parse_args()


def add_issuer_and_audience(command):
    command.add_argument("--issuer", default=tokens.ISSUER, help=f"who issues the tokens (default {tokens.ISSUER})")
    command.add_argument("--audience", default=tokens.AUDIENCE, help=f"whom they are for (default {tokens.AUDIENCE})")


def positive(text):
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


if __name__ == "__main__":
    main()
