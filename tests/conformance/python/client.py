#!/usr/bin/env python3
"""The interop client on grpcio: runs the named cases, and prints one line of JSON for each."""

import argparse
import json

import cases
import grpc
import more_cases
from protos import Protos

# Above the 63 KiB header of a case.
OPTIONS = [("grpc.max_metadata_size", 96 << 10), ("grpc.absolute_max_metadata_size", 128 << 10)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", required=True)
    parser.add_argument("--cases", required=True, help="names with commas between them")
    parser.add_argument("--probe", action="store_true", help="the server looks whether requests are compressed")
    arguments = parser.parse_args()
    known = {**cases.CASES, **more_cases.CASES}

    def new_channel():
        # Without the pool of connections that a process shares, so that each channel has its own.
        return grpc.insecure_channel(arguments.target, [*OPTIONS, ("grpc.use_local_subchannel_pool", 1)])

    with new_channel() as channel:
        peer = cases.Peer(Protos(), arguments.target, channel, new_channel, arguments.probe)
        for name in arguments.cases.split(","):
            result = {"case": name}
            try:
                known[name](peer)
            except cases.Wrong as wrong:
                result["error"] = str(wrong)
            except grpc.RpcError as error:
                result["error"] = f"{error.code()}: {error.details()}"
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
