#!/usr/bin/env python3
"""What a call costs as a process: `adit call` beside grpcurl and `buf curl`, and a long stream's memory.

    python benches/adit_call.py [--bin-dir target/release] [--grpcurl PATH] [--buf PATH] [--runs N] [--gib N]

Starts the route guide's server on loopback. Each command makes the same unary call `--runs` times after a first one,
which lets `adit call` know the schema; the table has the median and the 90th percentile of the whole process's time.
Then N GiB of points go from a pipe into one call (RecordRoute), and the most memory that the command had is told.
"""

import argparse
import contextlib
import os
import pathlib
import statistics
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
METHOD = "routeguide.RouteGuide/GetFeature"
POINT = '{"latitude": 409146138, "longitude": -746188906}'


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bin-dir", type=pathlib.Path, default=ROOT / "target/release")
    parser.add_argument("--grpcurl")
    parser.add_argument("--buf")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--gib", type=float, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, server(arguments.bin_dir) as address:
        # Its own cache and settings.
        environment = {**os.environ, "XDG_CACHE_HOME": home, "XDG_CONFIG_HOME": home, "HOME": home}
        adit = [arguments.bin_dir / "adit", "call", "--hub", f"http://{address}"]
        commands = {
            "adit call": [*adit, METHOD, "-d", POINT],
            "adit call --no-cache": [*adit, "--no-cache", METHOD, "-d", POINT],
        }
        if arguments.grpcurl:
            commands["grpcurl"] = [arguments.grpcurl, "-plaintext", "-d", POINT, address, METHOD]
        if arguments.buf:
            commands["buf curl"] = [arguments.buf, "curl", "--protocol", "grpc", "-d", POINT, f"http://{address}/{METHOD}"]
        print("| command | median | 90th percentile |\n|---|---|---|")
        for name, command in commands.items():
            times = [timed(command, environment) for _ in range(arguments.runs + 1)][1:]
            nearly_all = statistics.quantiles(times, n=10)[-1]
            print(f"| {name} | {statistics.median(times):.1f} ms | {nearly_all:.1f} ms |", flush=True)
        stream(adit, environment, int(arguments.gib * 2**30))


@contextlib.contextmanager
def server(bin_dir):
    command = [bin_dir / "route-guide-server", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().removeprefix("listening on ").strip()
        finally:
            process.terminate()


def timed(command, environment):
    """Milliseconds from the start of a process to its end."""
    begun = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - begun) * 1000


def stream(adit, environment, size):
    """So many bytes of requests in one call."""
    piece = (POINT + "\n").encode() * 2048
    pieces = max(size // len(piece), 1)
    command = [*adit, "routeguide.RouteGuide/RecordRoute", "-d", "@-", "--format", "json"]
    begun = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        peak = Peak(process.pid)
        for _ in range(pieces):
            process.stdin.write(piece)
        process.stdin.close()
        answer = process.stdout.read().decode()
        if process.wait() != 0 or f'"pointCount": {pieces * 2048}' not in answer:
            raise SystemExit(f"the stream failed: {process.returncode} {answer}")
    took = time.perf_counter() - begun
    total = pieces * len(piece)
    print(f"{total / 2**30:.2f} GiB in {took:.1f} s, {total / took / 1e6:.0f} MB/s; {peak.mib():.0f} MiB of memory at the most")


class Peak:
    """The most memory that a process has had, looked at as long as it runs (VmHWM of proc(5))."""

    def __init__(self, pid):
        self.pid, self.kib = pid, 0
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def watch(self):
        with contextlib.suppress(OSError):
            while lines := pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
                found = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
                if not found:
                    return
                self.kib = max(self.kib, found[0])
                time.sleep(0.1)

    def mib(self):
        self.thread.join()
        return self.kib / 1024


if __name__ == "__main__":
    main()
