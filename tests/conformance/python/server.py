#!/usr/bin/env python3
"""The interop server on grpcio: the official features, and `x-conformance-reply-first`, which asks for a response
of so many bytes before any request is read."""

import argparse
import concurrent.futures
import contextlib
import threading
import time
import uuid

import grpc
from protos import Protos

ECHO_INITIAL = "x-grpc-test-echo-initial"
ECHO_TRAILING = "x-grpc-test-echo-trailing-bin"
REPLY_FIRST = "x-conformance-reply-first"
ORCA_TRAILER = "endpoint-load-metrics-bin"

# Calls that are served at once; further ones wait.
WORKERS = 32
OPTIONS = [
    # Above the 63 KiB header of a case.
    ("grpc.max_metadata_size", 96 << 10),
    ("grpc.absolute_max_metadata_size", 128 << 10),
    # Windows that do not grow with the load of earlier cases, or a server that does not read holds nobody back.
    ("grpc.http2.bdp_probe", 0),
]

protos = Protos()
OrcaReport = protos.message("xds.data.orca.v3.OrcaLoadReport")
SimpleResponse = protos.message("grpc.testing.SimpleResponse")
StreamingResponse = protos.message("grpc.testing.StreamingOutputCallResponse")
InputResponse = protos.message("grpc.testing.StreamingInputCallResponse")


class TestService:
    """grpc.testing.TestService, without the method that no server may have.

    grpcio tells nobody whether a request was compressed, so `expect_compressed` is not looked at.
    """

    def __init__(self, load):
        self.server_id = str(uuid.uuid4())
        self.load = load

    def EmptyCall(self, request, context):
        return request

    def UnaryCall(self, request, context):
        echo_metadata(context)
        if request.HasField("response_compressed"):
            compress(context, request.response_compressed.value)
        if request.response_status.code:
            context.abort(status_code(request.response_status.code), request.response_status.message)
        if request.HasField("orca_per_query_report"):
            add_trailer(context, ORCA_TRAILER, load_report(request.orca_per_query_report).SerializeToString())
        response = SimpleResponse(payload={"body": bytes(request.response_size)})
        if request.fill_server_id:
            response.server_id = self.server_id
        return response

    def StreamingInputCall(self, requests, context):
        return InputResponse(aggregated_payload_size=sum(len(request.payload.body) for request in requests))

    def StreamingOutputCall(self, request, context):
        if any(parameters.HasField("compressed") for parameters in request.response_parameters):
            compress(context, True)
        yield from responses(request, context)

    def FullDuplexCall(self, requests, context):
        echo_metadata(context)
        if size := dict(context.invocation_metadata()).get(REPLY_FIRST):
            yield StreamingResponse(payload={"body": bytes(int(size))})
        with contextlib.ExitStack() as stack:
            reporting = False
            for request in requests:
                if request.response_status.code:
                    context.abort(status_code(request.response_status.code), request.response_status.message)
                if request.HasField("orca_oob_report"):
                    # One call at a time tells the load, until it ends.
                    reporting = reporting or stack.enter_context(self.load.lock)
                    self.load.report = load_report(request.orca_oob_report)
                yield from responses(request, context)


class Load:
    """What xds.service.orca.v3.OpenRcaService reports."""

    def __init__(self):
        self.lock = threading.Lock()
        self.report = OrcaReport()

    def StreamCoreMetrics(self, request, context):
        ended = threading.Event()
        if not context.add_callback(ended.set):
            return
        interval = request.report_interval.ToTimedelta().total_seconds()
        while True:
            yield self.report
            if ended.wait(max(interval, 0.1)):
                return


def responses(request, context):
    for parameters in request.response_parameters:
        if parameters.interval_us:
            time.sleep(parameters.interval_us / 1e6)
        if parameters.HasField("compressed") and not parameters.compressed.value:
            context.disable_next_message_compression()
        yield StreamingResponse(payload={"body": bytes(parameters.size)})


def echo_metadata(context):
    received = dict(context.invocation_metadata())
    if ECHO_INITIAL in received:
        context.send_initial_metadata([(ECHO_INITIAL, received[ECHO_INITIAL])])
    if ECHO_TRAILING in received:
        add_trailer(context, ECHO_TRAILING, received[ECHO_TRAILING])


def add_trailer(context, key, value):
    context.set_trailing_metadata([*(context.trailing_metadata() or ()), (key, value)])


def compress(context, wanted):
    context.set_compression(grpc.Compression.Gzip if wanted else grpc.Compression.NoCompression)


def load_report(told):
    return OrcaReport(
        cpu_utilization=told.cpu_utilization,
        mem_utilization=told.memory_utilization,
        request_cost=told.request_cost,
        utilization=told.utilization,
    )


def status_code(number):
    return next(code for code in grpc.StatusCode if code.value[0] == number)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    load = Load()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(WORKERS), options=OPTIONS)
    server.add_generic_rpc_handlers(
        [
            protos.handlers("grpc.testing.TestService", TestService(load)),
            protos.handlers("xds.service.orca.v3.OpenRcaService", load),
        ]
    )
    port = server.add_insecure_port(f"127.0.0.1:{arguments.port}")
    server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
