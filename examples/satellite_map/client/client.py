#!/usr/bin/env python3
"""Looks at places of the satellite map, or draws it while its images arrive.

An ordinary asyncio client of grpcio: it knows nothing of tunnels. Through a hub, the agent is named in metadata:

    python client.py image --at 42 12 --at 31 3 --target localhost:9090 --ca ca.pem --cert client.pem \
        --key client.key --token-file token --metadata adit-agent=orbit
    python client.py map --timeout 5 …

Exits 0 if every image that was asked for came, 1 with the reason if one did not, 2 on wrong usage, and 130 if it was
interrupted, which cancels its calls.
"""

import argparse
import asyncio
import pathlib
import sys
import time

import grpc

import screen

# The stubs are made from the .proto file when it is loaded (by grpcio-tools): nothing generated is kept.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "proto"))
pb, services = grpc.protos_and_services("satellite_map.proto")

COLUMNS, ROWS = 80, 32


def main():
    arguments = parse_arguments()
    try:
        sys.exit(asyncio.run(call(arguments)))
    except KeyboardInterrupt:
        sys.exit(130)


async def call(arguments):
    """Calls what was asked for, and gives the exit code."""
    token = [("token", arguments.token)] if arguments.token else []
    options = {"metadata": [*token, *arguments.metadata], "timeout": arguments.timeout}
    async with grpc.aio.secure_channel(arguments.target, credentials(arguments)) as channel:
        stub = services.SatelliteMapStub(channel)
        if arguments.command == "image":
            looks = (look(stub, x, y, options) for x, y in arguments.at)
            return 0 if all(await asyncio.gather(*looks)) else 1
        return 0 if await draw(stub, arguments.corners, options) else 1


async def look(stub, x, y, options):
    """One location. Several are asked for at once, each by a call of its own."""
    try:
        image = await stub.GetImage(pb.Location(x=x, y=y), **options)
    except grpc.aio.AioRpcError as error:
        print(f"({x}, {y}): {describe(error)}", flush=True)
        return False
    print(f"({x}, {y}): {name_of(image.terrain).lower()}", flush=True)
    return True


async def draw(stub, corners, options):
    """The images of an area, as they arrive."""
    (left, right), (top, bottom) = (sorted(pair) for pair in zip(*corners, strict=True))
    area = pb.Area(**{key: pb.Location(x=x, y=y) for key, (x, y) in zip(("from", "to"), corners, strict=True)})
    columns, rows = right - left + 1, bottom - top + 1
    begun, came, drawn = time.monotonic(), 0, None
    try:
        async for image in stub.GetImages(area, **options):
            column, row = image.location.x - left, image.location.y - top
            if not (0 <= column < columns and 0 <= row < rows):
                print(
                    f"an image came that nobody asked for, of ({image.location.x}, {image.location.y})",
                    file=close(drawn),
                )
                return False
            # The first image says that the area is a part of the map.
            drawn = drawn or screen.opened(sys.stdout, columns, rows)
            drawn.show(column, row, name_of(image.terrain))
            came += 1
    except grpc.aio.AioRpcError as error:
        print(f"{came} of {columns * rows} images came: {describe(error)}", file=close(drawn))
        return False
    print(f"{came} images in {time.monotonic() - begun:.1f} s", file=close(drawn))
    return came == columns * rows


def close(drawn):
    """Ends the map, so that words can follow it."""
    if drawn:
        drawn.close()
    return sys.stdout


def name_of(terrain):
    """SEA of TERRAIN_SEA; the number of a terrain that this client does not know."""
    known = pb.Terrain.DESCRIPTOR.values_by_number.get(terrain)
    return known.name.removeprefix("TERRAIN_") if known else str(terrain)


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
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--target", required=True, metavar="HOST:PORT", help="the hub, or the service itself")
    common.add_argument("--ca", type=pathlib.Path, required=True, help="the CA of the server's certificate, PEM")
    common.add_argument("--cert", type=pathlib.Path, help="the client's certificate, PEM")
    common.add_argument("--key", type=pathlib.Path, help="its private key, PEM")
    common.add_argument("--token-file", type=pathlib.Path, help="file with the token that the server wants")
    common.add_argument(
        "--metadata", action="append", default=[], type=pair, metavar="KEY=VALUE", help="sent with each call"
    )
    common.add_argument(
        "--timeout", type=float, metavar="SECONDS", default=60, help="deadline of each call (default 60)"
    )

    parser = argparse.ArgumentParser(description="Looks at the satellite map.")
    commands = parser.add_subparsers(dest="command", required=True)
    image = commands.add_parser("image", parents=[common], help="single locations")
    image.add_argument(
        "--at", nargs=2, type=int, action="append", required=True, metavar=("X", "Y"), help="may be repeated"
    )
    area = commands.add_parser("map", parents=[common], help="an area, drawn while its images arrive")
    corner = {"nargs": 2, "type": int, "metavar": ("X", "Y")}
    area.add_argument("--from", dest="first", default=(0, 0), help="one corner (default 0 0)", **corner)
    area.add_argument("--to", dest="last", default=(COLUMNS - 1, ROWS - 1), help="the other (default 79 31)", **corner)

    arguments = parser.parse_args()
    if (arguments.cert is None) != (arguments.key is None):
        parser.error("--cert and --key go together")
    arguments.token = read(arguments.token_file).decode().strip() if arguments.token_file else ""
    if arguments.command == "map":
        arguments.corners = (arguments.first, arguments.last)
    return arguments


def pair(text):
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"`{text}` is not KEY=VALUE")
    return key.lower(), value


if __name__ == "__main__":
    main()
