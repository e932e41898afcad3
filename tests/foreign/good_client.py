#!/usr/bin/env python3
"""A well-behaved client, in a process of its own: a call every few milliseconds, and a line for each.

    python tests/foreign/good_client.py --target 127.0.0.1:9090 --agent site-1

A line is the moment at which the call began and its seconds, both by the system's monotonic clock, and how it ended.
"""

import argparse
import sys
import time

import grpc

from tunnel import ROOT

sys.path.insert(0, str(ROOT / "examples/route_guide/proto"))
pb, services = grpc.protos_and_services("route_guide.proto")

# Between the end of a call and the next one: much less than it takes to see a difference, and no load by itself.
PAUSE = 0.003
CALL_TIMEOUT = 10


def main():
    parser = argparse.ArgumentParser(description="A well-behaved client.")
    parser.add_argument("--target", required=True)
    parser.add_argument("--agent", required=True)
    arguments = parser.parse_args()
    place = pb.Point(latitude=405_000_000, longitude=-745_000_000)
    metadata = [("adit-agent", arguments.agent)]
    with grpc.insecure_channel(arguments.target) as channel:
        call = services.RouteGuideStub(channel).GetFeature
        while True:
            begun = time.monotonic()
            try:
                feature = call(place, metadata=metadata, timeout=CALL_TIMEOUT)
                outcome = "ok" if feature.name == "Elm Harbor" else f"wrong: {feature.name!r}"
            except grpc.RpcError as error:
                outcome = f"{error.code().name}: {error.details()}"
            print(f"{begun:.6f} {time.monotonic() - begun:.6f} {outcome}", flush=True)
            time.sleep(PAUSE)


if __name__ == "__main__":
    main()
