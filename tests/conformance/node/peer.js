'use strict';

// The server, as a case sees it, and what cases say of it.

const assert = require('node:assert');
const grpc = require('@grpc/grpc-js');
const { testing } = require('./protos');

const TIMEOUT = 180_000;

class Peer {
  constructor(target, probe) {
    this.target = target;
    this.probe = probe;
    this.clients = [];
    this.test = this.client(testing.TestService);
  }

  // A client on a channel of its own.
  client(Service, options = {}) {
    const all = { 'grpc.use_local_subchannel_pool': 1, ...options };
    const client = new Service(this.target, grpc.credentials.createInsecure(), all);
    this.clients.push(client);
    return client;
  }

  close() {
    for (const client of this.clients) {
      client.close();
    }
  }
}

function metadata(entries = {}) {
  const all = new grpc.Metadata();
  for (const [key, value] of Object.entries(entries)) {
    all.set(key, value);
  }
  return all;
}

function deadline(timeout = TIMEOUT) {
  return { deadline: Date.now() + timeout };
}

// A call with one response: { response, initial, trailing }. It rejects with the call's error.
function unary(client, method, request, { headers = {}, timeout = TIMEOUT, begun } = {}) {
  return new Promise((resolve, reject) => {
    const got = {};
    const call = client[method](request, metadata(headers), deadline(timeout), (error, response) => {
      got.response = response;
      got.error = error;
      settle();
    });
    call.on('metadata', (initial) => (got.initial = initial));
    call.on('status', (status) => {
      got.trailing = status.metadata;
      settle();
    });
    begun?.(call);
    function settle() {
      if (got.error) {
        reject(got.error);
      } else if ('error' in got && got.trailing) {
        resolve(got);
      }
    }
  });
}

// A call with a stream of responses. next() gives the next one, or undefined at a good end.
class Stream {
  constructor(call) {
    this.call = call;
    this.responses = call[Symbol.asyncIterator]();
    call.on('metadata', (initial) => (this.initial = initial));
    this.status = new Promise((resolve) => call.on('status', resolve));
  }

  async next() {
    const { value, done } = await this.responses.next();
    return done ? undefined : value;
  }
}

function duplex(client, headers = {}, timeout = TIMEOUT) {
  return new Stream(client.FullDuplexCall(metadata(headers), deadline(timeout)));
}

function expectSize(response, size) {
  assert.strictEqual(response?.payload?.body.length, size, 'bytes of payload');
}

async function expectSizes(stream, sizes) {
  for (const size of sizes) {
    expectSize(await stream.next(), size);
  }
  assert.strictEqual(await stream.next(), undefined, 'a response more');
}

async function expectCode(promise, code, details) {
  let got;
  try {
    got = await promise;
  } catch (error) {
    assert.strictEqual(grpc.status[error.code], grpc.status[code], `the status, of ${error}`);
    assert.strictEqual(details === undefined || error.details === details, true, `the message “${error.details}”`);
    return;
  }
  assert.fail(`${JSON.stringify(got)?.slice(0, 200)} in place of ${grpc.status[code]}`);
}

function body(size) {
  return { body: Buffer.alloc(size) };
}

module.exports = { Peer, Stream, metadata, deadline, unary, duplex, expectSize, expectSizes, expectCode, body };
