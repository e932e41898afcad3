#!/usr/bin/env python3
"""Runs a fluentd, and its configuration file, as others ask for by gRPC.

    python server.py --file fluent.conf
    python server.py --file fluent.conf --command 'fluentd -c {file} -v' --check 'fluentd --dry-run -c {file}'

An ordinary gRPC server in cleartext, with health and reflection. Whoever may call it decides what the daemon does,
so it listens where only this machine gets to it. It prints its address, and stops on SIGINT and SIGTERM, and the
daemon with it.
"""

import argparse
import asyncio
import pathlib
import shlex
import signal
import sys

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from configuration import Configuration, Refused
from daemon import SETTLE, Daemon, NotStarted

# The stubs are made from the .proto file when it is loaded (by grpcio-tools): nothing generated is kept.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "proto"))
pb, services = grpc.protos_and_services("fluentd.proto")

SERVICE = "fluentd.v1.Fluentd"
# Seconds that a daemon has to end by itself, unless the caller says otherwise, and the most that he may say.
GRACE = 10
LONGEST_GRACE = 60
# Seconds that running calls have when the service stops.
DRAIN = 5


class Fluentd(services.FluentdServicer):
    """The service. One change at a time; questions are answered meanwhile."""

    def __init__(self, daemon, configuration):
        self.daemon = daemon
        self.configuration = configuration
        self.one_at_a_time = asyncio.Lock()
        self.changes = set()

    async def Start(self, request, context):
        try:
            return await self._changed(self.daemon.start())
        except NotStarted as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    async def Stop(self, request, context):
        grace = request.grace.seconds + request.grace.nanos / 1e9 if request.HasField("grace") else GRACE
        if not 0 <= grace <= LONGEST_GRACE:
            message = f"a grace of {grace:g} s; it may be from 0 to {LONGEST_GRACE} s"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)
        return await self._changed(self.daemon.stop(grace))

    async def Status(self, request, context):
        return self.state()

    async def Configure(self, request, context):
        try:
            return await self._changed(self._configure(request.configuration))
        except Refused as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except OSError as error:
            message = f"cannot write {self.configuration.path}: {error}"
            await context.abort(grpc.StatusCode.INTERNAL, message)

    async def _configure(self, text):
        await self.configuration.replace(text)
        self.daemon.reload()

    async def _changed(self, change):
        """Makes a change and tells the state after it. A caller who goes away does not leave it half made."""

        async def alone():
            async with self.one_at_a_time:
                await change
                return self.state()

        task = asyncio.ensure_future(alone())
        self.changes.add(task)
        task.add_done_callback(self.changes.discard)
        return await asyncio.shield(task)

    def state(self):
        daemon = self.daemon
        state = pb.State(
            running=daemon.running,
            starts=daemon.starts,
            reloads=daemon.reloads,
            configuration_sha256=self.configuration.sha256(),
            output=daemon.output.lines(),
        )
        if daemon.running:
            state.pid = daemon.process.pid
            state.uptime.FromNanoseconds(int(daemon.uptime * 1e9))
        if daemon.last_exit:
            if daemon.last_exit.signal:
                state.last_exit.signal = daemon.last_exit.signal
            else:
                state.last_exit.code = daemon.last_exit.code
            state.last_exit.uptime.FromNanoseconds(int(daemon.last_exit.uptime * 1e9))
        return state


async def serve(listen, fluentd, stop):
    """Serves until `stop` is set, then stops the daemon."""
    server = grpc.aio.server()
    services.add_FluentdServicer_to_server(fluentd, server)
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    await healthy.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    host, _, _ = listen.rpartition(":")
    port = server.add_insecure_port(listen)
    await server.start()
    print(f"listening on {host}:{port}", flush=True)
    try:
        await stop.wait()
    finally:
        await server.stop(DRAIN)
        async with fluentd.one_at_a_time:
            await fluentd.daemon.stop(GRACE)


async def main():
    arguments = parse_arguments()

    def with_file(command, path):
        return [part.replace("{file}", str(path)) for part in command]

    check = (lambda path: with_file(arguments.check, path)) if arguments.check else None
    configuration = Configuration(arguments.file, check)
    fluentd = Fluentd(Daemon(with_file(arguments.command, configuration.path), arguments.settle), configuration)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await serve(arguments.listen, fluentd, stop)
    except RuntimeError as error:
        sys.exit(f"cannot listen on {arguments.listen}: {error}")


def parse_arguments():
    parser = argparse.ArgumentParser(description="Runs a fluentd, and its configuration file, as asked for by gRPC.")
    parser.add_argument("--listen", default="127.0.0.1:50061", metavar="HOST:PORT", help="default 127.0.0.1:50061")
    parser.add_argument("--file", required=True, help="the configuration file; it need not be there yet")
    parser.add_argument(
        "--command", type=shlex.split, default="fluentd -c {file}", help="the daemon (default `fluentd -c {file}`)"
    )
    parser.add_argument(
        "--check", type=shlex.split, metavar="COMMAND", help="exits 0 if the daemon would take this {file}"
    )
    parser.add_argument(
        "--settle", type=float, default=SETTLE, metavar="SECONDS",
        help=f"a daemon that has run for so long has started (default {SETTLE})",
    )  # fmt: skip
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
