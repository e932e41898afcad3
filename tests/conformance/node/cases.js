'use strict';

// The cases of gRPC's doc/interop-test-descriptions.md, on grpc-js.

const assert = require('node:assert');
const grpc = require('@grpc/grpc-js');
const { testing, orca, report, entriesOf } = require('./protos');
const { Stream, metadata, deadline, unary, duplex, expectSize, expectSizes, expectCode, body } = require('./peer');

const LARGE_REQUEST = 271828;
const LARGE_RESPONSE = 314159;
const REQUEST_SIZES = [27182, 8, 1828, 45904];
const RESPONSE_SIZES = [31415, 9, 2653, 58979];

const ECHO_INITIAL = 'x-grpc-test-echo-initial';
const INITIAL_VALUE = 'test_initial_metadata_value';
const ECHO_TRAILING = 'x-grpc-test-echo-trailing-bin';
const TRAILING_VALUE = Buffer.from([0xab, 0xab, 0xab]);
const ORCA_TRAILER = 'endpoint-load-metrics-bin';

const SOAK_ITERATIONS = 10;
const SOAK_TIMEOUT = 10_000;
// How long a load report may take to arrive out of band, and how often it is looked for (in nanoseconds).
const REPORT_TIMEOUT = 30_000;
const REPORT_INTERVAL = 200_000_000;

function largeRequest() {
  return { response_size: LARGE_RESPONSE, payload: body(LARGE_REQUEST) };
}

async function empty_unary(peer) {
  const { response } = await unary(peer.test, 'EmptyCall', {});
  assert.deepStrictEqual(response, {});
}

async function large_unary(peer) {
  const { response } = await unary(peer.test, 'UnaryCall', largeRequest());
  expectSize(response, LARGE_RESPONSE);
}

async function client_streaming(peer) {
  const response = await new Promise((resolve, reject) => {
    const done = (error, value) => (error ? reject(error) : resolve(value));
    const call = peer.test.StreamingInputCall(metadata(), deadline(), done);
    for (const size of REQUEST_SIZES) {
      call.write({ payload: body(size) });
    }
    call.end();
  });
  assert.strictEqual(response.aggregated_payload_size, 74922);
}

async function server_streaming(peer) {
  const request = { response_parameters: RESPONSE_SIZES.map((size) => ({ size })) };
  await expectSizes(new Stream(peer.test.StreamingOutputCall(request, metadata(), deadline())), RESPONSE_SIZES);
}

async function ping_pong(peer) {
  const stream = duplex(peer.test);
  for (const [index, size] of REQUEST_SIZES.entries()) {
    stream.call.write({ response_parameters: [{ size: RESPONSE_SIZES[index] }], payload: body(size) });
    expectSize(await stream.next(), RESPONSE_SIZES[index]);
  }
  stream.call.end();
  await expectSizes(stream, []);
}

async function empty_stream(peer) {
  const stream = duplex(peer.test);
  stream.call.end();
  await expectSizes(stream, []);
}

async function cancel_after_begin(peer) {
  const call = new Promise((resolve, reject) => {
    const done = (error, value) => (error ? reject(error) : resolve(value));
    const begun = peer.test.StreamingInputCall(metadata(), deadline(), done);
    // The headers leave in this turn of the event loop.
    setImmediate(() => begun.cancel());
  });
  await expectCode(call, grpc.status.CANCELLED);
}

async function cancel_after_first_response(peer) {
  const stream = duplex(peer.test);
  stream.call.write({ response_parameters: [{ size: 31415 }], payload: body(27182) });
  expectSize(await stream.next(), 31415);
  stream.call.cancel();
  await expectCode(stream.next(), grpc.status.CANCELLED);
}

async function timeout_on_sleeping_server(peer) {
  const stream = duplex(peer.test, {}, 1);
  stream.call.write({ payload: body(27182) });
  await expectCode(stream.next(), grpc.status.DEADLINE_EXCEEDED);
}

async function status_code_and_message(peer) {
  await echoStatus(peer, 'test status message', true);
}

async function special_status_message(peer) {
  await echoStatus(peer, '\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n', false);
}

async function echoStatus(peer, message, stream) {
  const request = { response_status: { code: grpc.status.UNKNOWN, message } };
  await expectCode(unary(peer.test, 'UnaryCall', request), grpc.status.UNKNOWN, message);
  if (stream) {
    const call = duplex(peer.test);
    call.call.write(request);
    call.call.end();
    await expectCode(call.next(), grpc.status.UNKNOWN, message);
  }
}

async function custom_metadata(peer) {
  const headers = { [ECHO_INITIAL]: INITIAL_VALUE, [ECHO_TRAILING]: TRAILING_VALUE };
  const got = await unary(peer.test, 'UnaryCall', largeRequest(), { headers });
  expectSize(got.response, LARGE_RESPONSE);
  expectEcho(got.initial, got.trailing);
  const stream = duplex(peer.test, headers);
  stream.call.write({ response_parameters: [{ size: LARGE_RESPONSE }], payload: body(LARGE_REQUEST) });
  stream.call.end();
  await expectSizes(stream, [LARGE_RESPONSE]);
  expectEcho(stream.initial, (await stream.status).metadata);
}

function expectEcho(initial, trailing) {
  assert.deepStrictEqual(initial.get(ECHO_INITIAL), [INITIAL_VALUE]);
  assert.deepStrictEqual(trailing.get(ECHO_TRAILING), [TRAILING_VALUE]);
}

async function unimplemented_method(peer) {
  await expectCode(unary(peer.test, 'UnimplementedCall', {}), grpc.status.UNIMPLEMENTED);
}

async function unimplemented_service(peer) {
  const client = peer.client(testing.UnimplementedService);
  await expectCode(unary(client, 'UnimplementedCall', {}), grpc.status.UNIMPLEMENTED);
}

async function pick_first_unary(peer) {
  const ids = new Set();
  for (let i = 0; i < 100; i++) {
    const request = { response_size: 1, payload: body(1), fill_server_id: true };
    ids.add((await unary(peer.test, 'UnaryCall', request)).response.server_id);
  }
  assert.ok(ids.size === 1 && !ids.has(''), `the servers ${[...ids]}`);
}

async function rpc_soak(peer) {
  await soak(() => peer.test);
}

async function channel_soak(peer) {
  await soak(() => peer.client(testing.TestService));
}

async function soak(client) {
  for (let i = 0; i < SOAK_ITERATIONS; i++) {
    const { response } = await unary(client(), 'UnaryCall', largeRequest(), { timeout: SOAK_TIMEOUT });
    expectSize(response, LARGE_RESPONSE);
  }
}

async function orca_per_rpc(peer) {
  const told = { request_cost: entriesOf({ cost: 3456.32 }), utilization: entriesOf({ util: 0.30499 }) };
  const request = { orca_per_query_report: { cpu_utilization: 0.821, memory_utilization: 0.5847, ...told } };
  const { trailing } = await unary(peer.test, 'UnaryCall', request);
  const reports = trailing.get(ORCA_TRAILER);
  assert.strictEqual(reports.length, 1, 'load reports');
  const { cpu_utilization, mem_utilization, request_cost, utilization } = report.deserialize(reports[0]);
  const expected = { cpu_utilization: 0.821, mem_utilization: 0.5847, ...told };
  assert.deepStrictEqual({ cpu_utilization, mem_utilization, request_cost, utilization }, expected);
}

async function orca_oob(peer) {
  const stream = duplex(peer.test);
  for (const told of [
    { cpu_utilization: 0.821, memory_utilization: 0.5847, utilization: entriesOf({ util: 0.30499 }) },
    { cpu_utilization: 0.29309, memory_utilization: 0.2, utilization: entriesOf({ util: 0.2039 }) },
  ]) {
    stream.call.write({ orca_oob_report: told, response_parameters: [{ size: 1 }] });
    expectSize(await stream.next(), 1);
    await waitForReport(peer, told);
  }
  stream.call.end();
  await expectSizes(stream, []);
}

async function waitForReport(peer, told) {
  const client = peer.client(orca.OpenRcaService);
  const request = { report_interval: { nanos: REPORT_INTERVAL } };
  const stream = new Stream(client.StreamCoreMetrics(request, metadata(), deadline(REPORT_TIMEOUT)));
  for (;;) {
    const { cpu_utilization, mem_utilization, utilization } = await stream.next();
    try {
      assert.deepStrictEqual({ cpu_utilization, memory_utilization: mem_utilization, utilization }, told);
    } catch {
      continue; // The call's deadline ends this.
    }
    stream.call.on('error', () => {}); // That it was cancelled.
    stream.call.cancel();
    return;
  }
}

module.exports = {
  empty_unary,
  large_unary,
  client_streaming,
  server_streaming,
  ping_pong,
  empty_stream,
  cancel_after_begin,
  cancel_after_first_response,
  timeout_on_sleeping_server,
  status_code_and_message,
  special_status_message,
  custom_metadata,
  unimplemented_method,
  unimplemented_service,
  pick_first_unary,
  rpc_soak,
  channel_soak,
  orca_per_rpc,
  orca_oob,
};
