#!/usr/bin/env python3
"""Stands in for fluentd in tests: it reads its configuration, again on SIGHUP, and stops on SIGTERM.

    stand_in.py [--check] FILE

The file has a word a line:
    tag NAME    what to tell of oneself: `loaded NAME`, one line
    exit CODE   to end at once with this code
    deaf        to ignore SIGTERM
    worker      to start a worker, which outlives this process unless somebody ends it
A line that begins with # is a comment. Any other word is an error, as is a file without a tag: exit code 1.
"""

import signal
import subprocess
import sys


def main():
    check = sys.argv[1:2] == ["--check"]
    path = sys.argv[-1]
    settings = read(path)
    if check:
        return
    # Waited for below; none of them is lost before that.
    awaited = {signal.SIGHUP, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    load(settings)
    if "worker" in settings:
        worker = subprocess.Popen(["sleep", "1000"])
        print(f"worker {worker.pid}", flush=True)
    while True:
        if signal.sigwait(awaited) == signal.SIGHUP:
            settings = read(path)
            load(settings)
        elif "deaf" not in settings:
            print("stopping", flush=True)
            return


def read(path):
    with open(path) as file:
        lines = [line for line in file if line.strip() and not line.startswith("#")]
    settings = dict((line.split(maxsplit=1) + [""])[:2] for line in lines)
    unknown = settings.keys() - {"tag", "exit", "deaf", "worker"}
    if unknown or "tag" not in settings:
        sys.exit(f"{path}: {f'unknown {sorted(unknown)}' if unknown else 'no tag'}")
    return {key: value.strip() for key, value in settings.items()}


def load(settings):
    print(f"loaded {settings['tag']}", flush=True)
    if "exit" in settings:
        sys.exit(int(settings["exit"]))


if __name__ == "__main__":
    main()
