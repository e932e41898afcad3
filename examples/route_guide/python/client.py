#!/usr/bin/env python3
"""Calls all four kinds of method of RouteGuide and checks the answers.

An ordinary grpcio client: it knows nothing of tunnels. Through a hub, the agent is named in metadata:

    python client.py --target 127.0.0.1:9090 --metadata adit-agent=site-1

Prints one line per call. Exits 0 if all answers are right, 1 with the reason if one is not, 2 on wrong usage.
"""

import argparse
import pathlib
import queue
import random
import sys
import time

import grpc

# The stubs are made from the .proto file when it is loaded (by grpcio-tools): nothing generated is kept.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "proto"))
pb, services = grpc.protos_and_services("route_guide.proto")

# A degree in the service's units.
DEGREE = 10_000_000


class Wrong(Exception):
    """An answer that is not the one expected."""


def main():
    arguments = parse_arguments()
    with grpc.insecure_channel(arguments.target) as channel:
        stub = services.RouteGuideStub(channel)
        options = {"metadata": arguments.metadata, "timeout": arguments.timeout}
        for call in (get_feature, list_features, record_route, route_chat, refused_point):
            name = call.__doc__.split(":")[0]
            begun = time.monotonic()
            try:
                result = call(stub, options)
            except Wrong as wrong:
                sys.exit(f"{name}: {wrong}")
            except grpc.RpcError as error:
                sys.exit(f"{name}: {arguments.target} answered {describe(error)}")
            milliseconds = (time.monotonic() - begun) * 1000
            print(f"{name}: {result} ({milliseconds:.1f} ms)", flush=True)


def get_feature(stub, options):
    """GetFeature: one request, one response."""
    feature = stub.GetFeature(point(40.5, -74.5), **options)
    expect("the name of the feature", feature.name, "Elm Harbor")
    nothing = stub.GetFeature(point(0, 0), **options)
    expect("the name of nothing", nothing.name, "")
    return feature.name


def list_features(stub, options):
    """ListFeatures: one request, a stream of responses."""
    rectangle = pb.Rectangle(lo=point(40.2, -74.8), hi=point(40.3, -74.6))
    names = [feature.name for feature in stub.ListFeatures(rectangle, **options)]
    firsts, seconds = ("Birch", "Cedar"), ("Crossing", "Dam", "Ford")
    expect("the features", names, [f"{first} {second}" for first in firsts for second in seconds])
    return f"{len(names)} features"


def record_route(stub, options):
    """RecordRoute: a stream of requests, one response."""
    # Up a meridian in hundredths of a degree; every tenth point is a place.
    route = (point(40.1 + step / 100, -74.9) for step in range(91))
    summary = stub.RecordRoute(route, **options)
    expect("the points", summary.point_count, 91)
    expect("the features", summary.feature_count, 10)
    # 0.9 of a degree, whose length is known to a few metres.
    expect("100,000 m of route, rounded", round(summary.distance, -3), 100_000)
    return f"{summary.point_count} points, {summary.feature_count} features, {summary.distance} m"


def route_chat(stub, options):
    """RouteChat: a stream of requests and a stream of responses at the same time."""
    # A place of our own, so that what others left does not matter.
    place = pb.Point(
        latitude=random.randint(-90 * DEGREE, 90 * DEGREE),
        longitude=random.randint(-180 * DEGREE, 180 * DEGREE),
    )
    requests = queue.SimpleQueue()
    responses = stub.RouteChat(iter(requests.get, None), **options)
    sent = []
    for message in ("first", "second", "third"):
        requests.put(pb.RouteNote(location=place, message=message))
        # Each answer is awaited before the next request: nothing on the way may hold them back.
        heard = [next(responses).message for _ in sent]
        expect(f"the answer to the {message} note", heard, sent)
        sent.append(message)
    requests.put(None)
    expect("what follows the last answer", list(responses), [])
    return f"{len(sent)} notes, each answered before the next"


def refused_point(stub, options):
    """GetFeature, refused: the service's own error, as it made it."""
    try:
        stub.GetFeature(pb.Point(latitude=91 * DEGREE), **options)
    except grpc.RpcError as error:
        expect("the status", error.code(), grpc.StatusCode.INVALID_ARGUMENT)
        if "910000000" not in error.details():
            raise Wrong(f"the message does not name the latitude: {error.details()}") from error
        return error.code().name
    raise Wrong("a point that is not on Earth was taken")


def point(latitude, longitude):
    return pb.Point(latitude=round(latitude * DEGREE), longitude=round(longitude * DEGREE))


def expect(what, found, expected):
    if found != expected:
        raise Wrong(f"{what} should be {expected!r} and is {found!r}")


def describe(error):
    reasons = [f"{key}={value}" for key, value in error.trailing_metadata() or () if key.startswith("adit-")]
    return " ".join([error.code().name, *reasons, f"“{error.details()}”"])


def parse_arguments():
    parser = argparse.ArgumentParser(description="Calls all four kinds of method of RouteGuide.")
    parser.add_argument("--target", required=True, metavar="HOST:PORT", help="the hub, or the service itself")
    parser.add_argument(
        "--metadata", action="append", default=[], type=pair, metavar="KEY=VALUE", help="sent with each call"
    )
    parser.add_argument("--timeout", type=float, default=10, metavar="SECONDS", help="of each call (default 10)")
    return parser.parse_args()


def pair(text):
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"`{text}` is not KEY=VALUE")
    return key.lower(), value


if __name__ == "__main__":
    main()
