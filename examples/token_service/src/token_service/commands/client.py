"""`token-client`: asks a token service whether tokens are good."""

import argparse
import asyncio
import collections
import json
import logging
import pathlib
import sys
import threading

import grpc

from token_service.client import CHANNEL_OPTIONS, Closed, Settings, Unanswered, ValidationStream
from token_service.v1 import tokens_pb2, tokens_pb2_grpc

# Exit code of `validate` for a token that is not good. 1 is any other failure, and 2 wrong usage.
NOT_VALID = 3
# Lines that are read ahead, and answers that wait to be printed.
AHEAD = 1024


def main():
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        sys.exit(asyncio.run(arguments.run(arguments)))
    except grpc.RpcError as error:
        sys.exit(f"error: {arguments.target} answered {error.code().name} “{error.details()}”")
    except (Closed, Unanswered, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


async def validate(arguments):
    """Asks for one token."""
    async with channel_to(arguments) as channel:
        answer = await tokens_pb2_grpc.TokenServiceStub(channel).Validate(
            tokens_pb2.ValidateRequest(token=arguments.token), metadata=arguments.metadata, timeout=arguments.patience
        )
    print(json.dumps(readable(answer)))
    return 0 if answer.verdict == tokens_pb2.VALID else NOT_VALID


async def stream(arguments):
    """Asks for the tokens of standard input, and prints the answers in the order of its lines."""
    verdicts = collections.Counter()
    answers = asyncio.Queue(AHEAD)
    settings = Settings(in_flight=arguments.in_flight, patience=arguments.patience, silence=arguments.silence)
    async with channel_to(arguments) as channel, ValidationStream(channel, arguments.metadata, settings) as validation:
        asking = asyncio.create_task(ask(validation, answers))
        try:
            number = 0
            while future := await answers.get():
                number += 1
                try:
                    answer = await future
                except ValueError as error:
                    raise ValueError(f"line {number}: {error}") from error
                verdict = tokens_pb2.Verdict.Name(answer.verdict)
                verdicts[verdict] += 1
                print(json.dumps({"line": number, **readable(answer)}), flush=True)
        finally:
            asking.cancel()
    told = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
    log = logging.getLogger("token_service")
    log.info("%d answers: %s", number, told or "none")
    log.info("streams: %d; requests sent again: %d", validation.opened, validation.repeated)
    return 0


async def ask(validation, answers):
    """Puts the futures of the answers into the queue, and None after the last."""
    async for line in lines(sys.stdin.buffer):
        token = line.strip().decode(errors="replace")
        try:
            future = await validation.submit(token)
        except (Closed, ValueError) as error:
            # Told where the answer would have been.
            future = asyncio.get_running_loop().create_future()
            future.set_exception(error)
        await answers.put(future)
    await answers.put(None)


async def lines(file):
    """The lines of a file that may keep us waiting for ever: its thread does not keep the program from ending."""
    loop = asyncio.get_running_loop()
    ahead = asyncio.Queue(AHEAD)

    def read():
        for line in file:
            asyncio.run_coroutine_threadsafe(ahead.put(line), loop).result()
        asyncio.run_coroutine_threadsafe(ahead.put(None), loop).result()

    threading.Thread(target=read, daemon=True).start()
    while (line := await ahead.get()) is not None:
        yield line


def readable(answer):
    """An answer as people and scripts read it: only what is set."""
    told = {"verdict": tokens_pb2.Verdict.Name(answer.verdict)}
    if answer.reason:
        told["reason"] = answer.reason
    if answer.subject:
        told["subject"] = answer.subject
        told["token_id"] = answer.token_id
        told["expires_at"] = answer.expires_at.ToJsonString()
    return told


def channel_to(arguments):
    if not arguments.ca:
        return grpc.aio.insecure_channel(arguments.target, options=CHANNEL_OPTIONS)
    ca, certificate, key = (
        pathlib.Path(path).read_bytes() if path else None for path in (arguments.ca, arguments.cert, arguments.key)
    )
    credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    return grpc.aio.secure_channel(arguments.target, credentials, options=CHANNEL_OPTIONS)


def parse_arguments():
    parser = argparse.ArgumentParser(prog="token-client", description="Asks a token service whether tokens are good.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("validate", help=f"one token; exit code 0 if it is good, {NOT_VALID} if it is not")
    command.add_argument("token")
    add_connection(command)
    command.set_defaults(run=validate)

    command = commands.add_parser(
        "stream", help="the tokens of standard input, one a line, on a stream that is opened again when it is lost"
    )
    add_connection(command)
    command.add_argument("--in-flight", type=int, default=Settings.in_flight, help="requests unanswered at a time")
    command.add_argument(
        "--silence", type=float, default=Settings.silence, metavar="SECONDS",
        help=f"after which a stream without answers is lost (default {Settings.silence:g})",
    )  # fmt: skip
    command.set_defaults(run=stream)

    arguments = parser.parse_args()
    if bool(arguments.cert) != bool(arguments.key) or (arguments.cert and not arguments.ca):
        parser.error("--cert and --key go together, and with --ca")
    return arguments


def add_connection(command):
    command.add_argument("--target", required=True, metavar="HOST:PORT", help="the service, or whoever leads to it")
    command.add_argument(
        "--metadata", action="append", default=[], type=pair, metavar="KEY=VALUE", help="sent with each call"
    )
    command.add_argument(
        "--patience", type=float, default=Settings.patience, metavar="SECONDS",
        help=f"how long an answer may take, whatever happens meanwhile (default {Settings.patience:g})",
    )  # fmt: skip
    command.add_argument("--ca", metavar="FILE", help="use TLS, and trust this CA")
    command.add_argument("--cert", metavar="FILE", help="the certificate to present")
    command.add_argument("--key", metavar="FILE", help="its private key")


def pair(text):
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"`{text}` is not KEY=VALUE")
    return key.lower(), value


if __name__ == "__main__":
    main()
