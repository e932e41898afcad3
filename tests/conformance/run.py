#!/usr/bin/env python3
"""gRPC's conformance through the tunnel, by suites that others wrote: client → hub → agent → server.

  - The interop cases: grpc-go's official client and server, and the same cases on grpcio and on grpc-js, from every
    language to every other one.
  - The gRPC cases of the Connect project's conformance suite, with a tunnel before its servers and after its clients.

    python tests/conformance/run.py [--bin-dir target/release]       everything, on each carrier and without a tunnel; writes
                                                                     docs/conformance.md
    python tests/conformance/run.py --quick                          every pair of languages once, and the suite with
                                                                     few codecs, on quic only; writes nothing

Needs Go, Node with npm and Python; what else it needs it installs in a folder (`--tools`). Exits 0 if every case holds
through the tunnel that holds without.
"""

import argparse
import os
import pathlib
import signal
import sys
import time

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "foreign"))
import matrix
import report
import tunnel
from connect import Connect
from interop import Interop
from tools import Tools

DOCUMENT = tunnel.ROOT / "docs/conformance.md"


def main():
    arguments = parse_arguments()
    tunnel.executable(arguments.bin_dir, "adit")
    # Told to end, it unwinds, and ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    begun = time.monotonic()
    tools = Tools(arguments.tools)
    tools.install()
    os.environ.update(tools.environment())
    print(f"the tools are there, after {time.monotonic() - begun:.1f} s", flush=True)

    ways = [matrix.QUICK] if arguments.quick else [matrix.DIRECT, *matrix.CARRIERS]
    if arguments.way:
        ways = [arguments.way]
    interop, connect = {}, {}
    if arguments.suite in (None, "interop"):
        cases = (arguments.case,) if arguments.case else matrix.CASES
        interop = Interop(tools, arguments.bin_dir, ways, cases=cases).run()
    if arguments.suite in (None, "connect") and not arguments.case:
        connect = Connect(tools, arguments.bin_dir, ways, arguments.quick).run()

    problems = report.problems(interop, connect)
    if not (arguments.quick or arguments.suite or arguments.case or arguments.way):
        problems += report.unaccounted_suites(connect, tools.suite_names())
        adit = tools.run_version(tunnel.executable(arguments.bin_dir, "adit"))
        if not problems:
            DOCUMENT.write_text(report.document(interop, connect, {"adit": adit, **tools.versions()}))
    for problem in problems:
        print(f"FAILED: {problem}", flush=True)
    print(f"{report.count(interop, connect) - len(problems)} passed, {len(problems)} failed")
    sys.exit(1 if problems else 0)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bin-dir", type=pathlib.Path, default=tunnel.ROOT / "target/release", help="where adit is")
    parser.add_argument(
        "--tools", type=pathlib.Path, default=tunnel.ROOT / "target/ci/conformance", help="where tools are installed"
    )
    parser.add_argument("--quick", action="store_true", help="on quic only, and write no document")
    parser.add_argument("--suite", choices=["interop", "connect"], help="only this one, and write no document")
    ways = [matrix.DIRECT, *matrix.CARRIERS]
    parser.add_argument("--way", choices=ways, help="only this carrier, or none, and write no document")
    parser.add_argument("--case", help="only this interop case, and write no document")
    return parser.parse_args()


if __name__ == "__main__":
    main()
