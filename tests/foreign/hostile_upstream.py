#!/usr/bin/env python3
"""A service for attacks: it has more to say than anybody reads, and reads nothing where it is told so.

python tests/foreign/hostile_upstream.py
"""

import asyncio
import signal

import grpc

SERVICE = "hostile.Test"
PIECE = bytes(64 << 10)


async def flood(_request, _context):
    while True:
        yield PIECE


async def hold(_requests, _context):
    await asyncio.Event().wait()


async def echo(request, _context):
    return request


async def main():
    server = grpc.aio.server(options=[("grpc.max_concurrent_streams", 1 << 20), ("grpc.so_reuseport", 0)])
    methods = {
        "Flood": grpc.unary_stream_rpc_method_handler(flood),
        "Hold": grpc.stream_unary_rpc_method_handler(hold),
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main())
