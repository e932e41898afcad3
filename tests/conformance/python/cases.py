"""The cases of gRPC's doc/interop-test-descriptions.md, on grpcio."""

import queue
import time

import grpc

TIMEOUT = 180
SOAK_ITERATIONS = 10
SOAK_TIMEOUT = 10
# How long a load report may take to arrive out of band, and how often it is looked for.
REPORT_TIMEOUT = 30
REPORT_INTERVAL = 0.2

LARGE_REQUEST, LARGE_RESPONSE = 271828, 314159
REQUEST_SIZES = [27182, 8, 1828, 45904]
RESPONSE_SIZES = [31415, 9, 2653, 58979]

ECHO_INITIAL, INITIAL_VALUE = "x-grpc-test-echo-initial", "test_initial_metadata_value"
ECHO_TRAILING, TRAILING_VALUE = "x-grpc-test-echo-trailing-bin", b"\xab\xab\xab"
ORCA_TRAILER = "endpoint-load-metrics-bin"


class Wrong(Exception):
    """What a case says is not so."""


class Peer:
    """The server, as a case sees it."""

    def __init__(self, protos, target, channel, new_channel, probe):
        self.protos, self.target, self.channel, self.new_channel = protos, target, channel, new_channel
        # Whether it looks if requests are compressed.
        self.probe = probe
        self.stub = protos.stub(channel, "grpc.testing.TestService")
        self.empty = protos.message("grpc.testing.Empty")
        self.simple = protos.message("grpc.testing.SimpleRequest")
        self.input = protos.message("grpc.testing.StreamingInputCallRequest")
        self.output = protos.message("grpc.testing.StreamingOutputCallRequest")


def expect(holds, what):
    if not holds:
        raise Wrong(what)


def expect_size(response, size):
    expect(len(response.payload.body) == size, f"a payload of {len(response.payload.body)} bytes in place of {size}")


def expect_sizes(responses, sizes):
    got = [len(response.payload.body) for response in responses]
    expect(got == sizes, f"payloads of {got} bytes in place of {sizes}")


def expect_code(call, code, details=None):
    """The call fails with this status."""
    try:
        got = call()
    except grpc.RpcError as error:
        expect(error.code() == code, f"{error.code()} in place of {code}: {error.details()}")
        expect(details is None or error.details() == details, f"{error.details()!r} in place of {details!r}")
    else:
        raise Wrong(f"{type(got).__name__} in place of {code}")


def large_request(peer):
    return peer.simple(response_size=LARGE_RESPONSE, payload={"body": bytes(LARGE_REQUEST)})


def empty_unary(peer):
    response = peer.stub.EmptyCall(peer.empty(), timeout=TIMEOUT)
    expect(response.ByteSize() == 0, "the response is not empty")


def large_unary(peer):
    expect_size(peer.stub.UnaryCall(large_request(peer), timeout=TIMEOUT), LARGE_RESPONSE)


def client_streaming(peer):
    requests = [peer.input(payload={"body": bytes(size)}) for size in REQUEST_SIZES]
    response = peer.stub.StreamingInputCall(iter(requests), timeout=TIMEOUT)
    expect(response.aggregated_payload_size == 74922, f"{response.aggregated_payload_size} bytes in place of 74922")


def server_streaming(peer):
    request = peer.output(response_parameters=[{"size": size} for size in RESPONSE_SIZES])
    expect_sizes(peer.stub.StreamingOutputCall(request, timeout=TIMEOUT), RESPONSE_SIZES)


class Requests:
    """The requests of a call, given one by one while it runs."""

    def __init__(self):
        self.queue = queue.SimpleQueue()

    def send(self, request):
        self.queue.put(request)

    def half_close(self):
        self.queue.put(None)

    def __iter__(self):
        return iter(self.queue.get, None)


def ping_pong(peer):
    requests = Requests()
    call = peer.stub.FullDuplexCall(iter(requests), timeout=TIMEOUT)
    for request_size, response_size in zip(REQUEST_SIZES, RESPONSE_SIZES, strict=True):
        request = peer.output(response_parameters=[{"size": response_size}], payload={"body": bytes(request_size)})
        requests.send(request)
        expect_size(next(call), response_size)
    requests.half_close()
    expect_sizes(call, [])


def empty_stream(peer):
    expect_sizes(peer.stub.FullDuplexCall(iter([]), timeout=TIMEOUT), [])


def cancel_after_begin(peer):
    requests = Requests()
    call = peer.stub.StreamingInputCall.future(iter(requests), timeout=TIMEOUT)
    call.cancel()
    requests.half_close()
    expect(call.cancelled() and call.code() == grpc.StatusCode.CANCELLED, f"{call.code()} in place of CANCELLED")


def cancel_after_first_response(peer):
    requests = Requests()
    call = peer.stub.FullDuplexCall(iter(requests), timeout=TIMEOUT)
    requests.send(peer.output(response_parameters=[{"size": 31415}], payload={"body": bytes(27182)}))
    expect_size(next(call), 31415)
    call.cancel()
    requests.half_close()
    expect_code(lambda: next(call), grpc.StatusCode.CANCELLED)


def timeout_on_sleeping_server(peer):
    requests = Requests()
    call = peer.stub.FullDuplexCall(iter(requests), timeout=0.001)
    requests.send(peer.output(payload={"body": bytes(27182)}))
    expect_code(lambda: next(call), grpc.StatusCode.DEADLINE_EXCEEDED)
    requests.half_close()


def status_code_and_message(peer):
    echo_status(peer, "test status message", stream=True)


def special_status_message(peer):
    echo_status(peer, "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n", stream=False)


def echo_status(peer, message, stream):
    status = {"code": 2, "message": message}
    unary = peer.simple(response_status=status)
    expect_code(lambda: peer.stub.UnaryCall(unary, timeout=TIMEOUT), grpc.StatusCode.UNKNOWN, message)
    if stream:
        call = peer.stub.FullDuplexCall(iter([peer.output(response_status=status)]), timeout=TIMEOUT)
        expect_code(lambda: next(call), grpc.StatusCode.UNKNOWN, message)


def custom_metadata(peer):
    metadata = [(ECHO_INITIAL, INITIAL_VALUE), (ECHO_TRAILING, TRAILING_VALUE)]
    response, call = peer.stub.UnaryCall.with_call(large_request(peer), metadata=metadata, timeout=TIMEOUT)
    expect_size(response, LARGE_RESPONSE)
    expect_echo(call)
    request = peer.output(response_parameters=[{"size": LARGE_RESPONSE}], payload={"body": bytes(LARGE_REQUEST)})
    call = peer.stub.FullDuplexCall(iter([request]), metadata=metadata, timeout=TIMEOUT)
    expect_sizes(call, [LARGE_RESPONSE])
    expect_echo(call)


def expect_echo(call):
    for got, key, value in (
        (call.initial_metadata(), ECHO_INITIAL, INITIAL_VALUE),
        (call.trailing_metadata(), ECHO_TRAILING, TRAILING_VALUE),
    ):
        values = [entry.value for entry in got if entry.key == key]
        expect(values == [value], f"{key}: {values} in place of {value!r}")


def unimplemented_method(peer):
    call = peer.stub.UnimplementedCall
    expect_code(lambda: call(peer.empty(), timeout=TIMEOUT), grpc.StatusCode.UNIMPLEMENTED)


def unimplemented_service(peer):
    call = peer.protos.stub(peer.channel, "grpc.testing.UnimplementedService").UnimplementedCall
    expect_code(lambda: call(peer.empty(), timeout=TIMEOUT), grpc.StatusCode.UNIMPLEMENTED)


def pick_first_unary(peer):
    request = peer.simple(response_size=1, payload={"body": b"\0"}, fill_server_id=True)
    ids = {peer.stub.UnaryCall(request, timeout=TIMEOUT).server_id for _ in range(100)}
    expect(len(ids) == 1 and "" not in ids, f"the servers {ids}")


def rpc_soak(peer):
    for _ in range(SOAK_ITERATIONS):
        expect_size(peer.stub.UnaryCall(large_request(peer), timeout=SOAK_TIMEOUT), LARGE_RESPONSE)


def channel_soak(peer):
    for _ in range(SOAK_ITERATIONS):
        with peer.new_channel() as channel:
            stub = peer.protos.stub(channel, "grpc.testing.TestService")
            expect_size(stub.UnaryCall(large_request(peer), timeout=SOAK_TIMEOUT), LARGE_RESPONSE)


def orca_per_rpc(peer):
    told = {"cpu_utilization": 0.8210, "memory_utilization": 0.5847}
    more = {"request_cost": {"cost": 3456.32}, "utilization": {"util": 0.30499}}
    request = peer.simple(orca_per_query_report={**told, **more})
    _, call = peer.stub.UnaryCall.with_call(request, timeout=TIMEOUT)
    report = peer.protos.message("xds.data.orca.v3.OrcaLoadReport")
    reports = [report.FromString(entry.value) for entry in call.trailing_metadata() if entry.key == ORCA_TRAILER]
    expect(reports == [report(cpu_utilization=0.8210, mem_utilization=0.5847, **more)], f"the load reports {reports}")


def orca_oob(peer):
    requests = Requests()
    call = peer.stub.FullDuplexCall(iter(requests), timeout=TIMEOUT)
    for told in (
        {"cpu_utilization": 0.8210, "memory_utilization": 0.5847, "utilization": {"util": 0.30499}},
        {"cpu_utilization": 0.29309, "memory_utilization": 0.2, "utilization": {"util": 0.2039}},
    ):
        requests.send(peer.output(orca_oob_report=told, response_parameters=[{"size": 1}]))
        expect_size(next(call), 1)
        wait_for_report(peer, told)
    requests.half_close()
    expect_sizes(call, [])


def wait_for_report(peer, told):
    stub = peer.protos.stub(peer.channel, "xds.service.orca.v3.OpenRcaService")
    request = peer.protos.message("xds.service.orca.v3.OrcaLoadReportRequest")()
    request.report_interval.nanos = int(REPORT_INTERVAL * 1e9)
    call = stub.StreamCoreMetrics(request, timeout=REPORT_TIMEOUT)
    until = time.monotonic() + REPORT_TIMEOUT
    for report in call:
        got = {"cpu_utilization": report.cpu_utilization, "memory_utilization": report.mem_utilization}
        if {**got, "utilization": dict(report.utilization)} == told:
            call.cancel()
            return
        expect(time.monotonic() < until, f"the last load report is {report}")
    raise Wrong("the load reports ended")


CASES = {
    case.__name__: case
    for case in (
        empty_unary, large_unary, client_streaming, server_streaming, ping_pong, empty_stream, cancel_after_begin,
        cancel_after_first_response, timeout_on_sleeping_server, status_code_and_message, special_status_message,
        custom_metadata, unimplemented_method, unimplemented_service, pick_first_unary, rpc_soak, channel_soak,
        orca_per_rpc, orca_oob,
    )
}  # fmt: skip
