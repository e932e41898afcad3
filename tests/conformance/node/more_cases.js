'use strict';

// The cases with compression, and those that gRPC's interop descriptions have as TODO, on grpc-js.

const assert = require('node:assert');
const grpc = require('@grpc/grpc-js');
const { testing } = require('./protos');
const { Stream, metadata, deadline, unary, duplex, expectSize, expectSizes, expectCode, body } = require('./peer');

const LARGE_REQUEST = 271828;
const LARGE_RESPONSE = 314159;
const CONCURRENT = 1000;

// The flag of gRPC libraries for one message that is not to be compressed; grpc-js takes it, but does not name it.
const NO_COMPRESS = 2;

const HEADER = 'x-grpc-test-echo-initial';
const HEADER_SIZE = 63 << 10;
const REPLY_FIRST = 'x-conformance-reply-first';

// What a server that does not read for PUSH_PAUSE ms may be sent meanwhile at the most, of PUSH_COUNT messages: the
// windows of every hop on the way are far below it. Nothing is sent for PUSH_STILL ms then.
const PUSH_PAUSE = 2000;
const PUSH_MESSAGE = 64 << 10;
const PUSH_COUNT = 768;
const PUSH_LIMIT = 24 << 20;
const PUSH_STILL = 500;

// A client that compresses what it sends, unless a message says otherwise.
function gzipClient(peer) {
  return peer.client(testing.TestService, {
    'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip,
  });
}

function largeRequest(more = {}) {
  return { response_size: LARGE_RESPONSE, payload: body(LARGE_REQUEST), ...more };
}

async function expectLarge(client, request) {
  expectSize((await unary(client, 'UnaryCall', request)).response, LARGE_RESPONSE);
}

async function client_compressed_unary(peer) {
  const expecting = (value) => largeRequest({ expect_compressed: { value } });
  if (peer.probe) {
    await expectCode(unary(peer.test, 'UnaryCall', expecting(true)), grpc.status.INVALID_ARGUMENT);
  }
  await expectLarge(gzipClient(peer), expecting(true));
  await expectLarge(peer.test, expecting(false));
}

async function server_compressed_unary(peer) {
  for (const value of [true, false]) {
    await expectLarge(peer.test, largeRequest({ response_compressed: { value } }));
  }
}

async function client_compressed_streaming(peer) {
  const stream = (client, writes) =>
    new Promise((resolve, reject) => {
      const done = (error, value) => (error ? reject(error) : resolve(value));
      writes(client.StreamingInputCall(metadata(), deadline(), done)).end();
    });
  const first = { expect_compressed: { value: true }, payload: body(27182) };
  if (peer.probe) {
    const probe = stream(peer.test, (call) => (call.write(first), call));
    await expectCode(probe, grpc.status.INVALID_ARGUMENT);
  }
  const response = await stream(gzipClient(peer), (call) => {
    call.write(first);
    call.write({ expect_compressed: { value: false }, payload: body(45904) }, NO_COMPRESS);
    return call;
  });
  assert.strictEqual(response.aggregated_payload_size, 73086);
}

async function server_compressed_streaming(peer) {
  const request = {
    response_parameters: [
      { compressed: { value: true }, size: 31415 },
      { compressed: { value: false }, size: 92653 },
    ],
  };
  await expectSizes(new Stream(peer.test.StreamingOutputCall(request, metadata(), deadline())), [31415, 92653]);
}

async function concurrent_large_unary(peer) {
  await Promise.all(Array.from({ length: CONCURRENT }, () => expectLarge(peer.test, largeRequest())));
}

async function client_push_back(peer) {
  const stream = duplex(peer.test);
  let sent = 0;
  let longest = 0;
  stream.call.write({ response_parameters: [{ size: 1, interval_us: PUSH_PAUSE * 1000 }] });
  const sending = (async () => {
    for (let i = 0; i < PUSH_COUNT; i++) {
      const begun = performance.now();
      await written(stream.call, { payload: body(PUSH_MESSAGE) });
      sent += PUSH_MESSAGE;
      longest = Math.max(longest, performance.now() - begun);
    }
    await written(stream.call, { response_parameters: [{ size: 9 }] });
    stream.call.end();
  })();
  const first = await stream.next();
  const held = sent;
  expectSize(first, 1);
  await expectSizes(stream, [9]);
  await sending;
  assert.ok(
    held <= PUSH_LIMIT && longest >= PUSH_STILL,
    `a server that did not read was sent ${held} bytes; the longest wait was ${longest} ms`,
  );
}

// Until grpc-js has sent the message.
function written(call, message) {
  return new Promise((resolve, reject) => call.write(message, (error) => (error ? reject(error) : resolve())));
}

async function cancel_before_start(peer) {
  // Nothing is sent in the turn of the event loop that makes the call.
  const call = unary(peer.test, 'UnaryCall', largeRequest(), { begun: (begun) => begun.cancel() });
  await expectCode(call, grpc.status.CANCELLED);
  await unary(peer.test, 'EmptyCall', {});
}

async function large_header(peer) {
  const value = 'X'.repeat(HEADER_SIZE);
  const { response, initial } = await unary(peer.test, 'UnaryCall', largeRequest(), { headers: { [HEADER]: value } });
  expectSize(response, LARGE_RESPONSE);
  const values = initial.get(HEADER);
  assert.ok(values.length === 1 && values[0] === value, `${values.length} values of ${values.join('').length} bytes`);
}

async function server_replies_first(peer) {
  const stream = duplex(peer.test, { [REPLY_FIRST]: '31415' });
  expectSize(await stream.next(), 31415);
  stream.call.write({ response_parameters: [{ size: 9 }], payload: body(8) });
  expectSize(await stream.next(), 9);
  stream.call.end();
  await expectSizes(stream, []);
}

module.exports = {
  client_compressed_unary,
  server_compressed_unary,
  client_compressed_streaming,
  server_compressed_streaming,
  concurrent_large_unary,
  client_push_back,
  cancel_before_start,
  large_header,
  server_replies_first,
};
