'use strict';

// The interop server on grpc-js: the official features, and `x-conformance-reply-first`, which asks for a response of so
// many bytes before any request is read. grpc-js compresses no response, and tells nobody whether a request was
// compressed.

const crypto = require('node:crypto');
const { setTimeout: sleep } = require('node:timers/promises');
const { parseArgs } = require('node:util');
const grpc = require('@grpc/grpc-js');
const { testing, orca } = require('./protos');

const ECHO_INITIAL = 'x-grpc-test-echo-initial';
const ECHO_TRAILING = 'x-grpc-test-echo-trailing-bin';
const REPLY_FIRST = 'x-conformance-reply-first';

const serverId = crypto.randomUUID();
// What the ORCA service reports. One call at a time tells it, until that call ends.
let load = {};
let loadTold = Promise.resolve();

const service = {
  EmptyCall(call, callback) {
    callback(null, {});
  },

  UnaryCall(call, callback) {
    const trailer = echoMetadata(call);
    const { request } = call;
    if (request.response_status?.code) {
      callback({ code: request.response_status.code, details: request.response_status.message, metadata: trailer });
      return;
    }
    if (request.orca_per_query_report) {
      recordOf(call.getMetricsRecorder(), request.orca_per_query_report);
    }
    const response = { payload: body(request.response_size) };
    if (request.fill_server_id) {
      response.server_id = serverId;
    }
    callback(null, response, trailer);
  },

  async StreamingInputCall(call, callback) {
    let size = 0;
    try {
      for await (const request of call) {
        size += request.payload?.body.length ?? 0;
      }
    } catch (error) {
      expectCancelled(call, error);
      return;
    }
    callback(null, { aggregated_payload_size: size });
  },

  async StreamingOutputCall(call) {
    await respond(call, call.request);
    call.end();
  },

  async FullDuplexCall(call) {
    const trailer = echoMetadata(call);
    const [first] = call.metadata.get(REPLY_FIRST);
    if (first) {
      call.write({ payload: body(Number(first)) });
    }
    let loadUntold;
    try {
      // A request is taken when the one before it is answered. The end of the requests must not end the responses.
      for await (const request of call.iterator({ destroyOnReturn: false })) {
        if (request.response_status?.code) {
          const { code, message } = request.response_status;
          call.emit('error', { code, details: message, metadata: trailer });
          return;
        }
        if (request.orca_oob_report) {
          loadUntold ??= await takeLoad();
          const { cpu_utilization, memory_utilization, utilization } = request.orca_oob_report;
          load = { cpu_utilization, mem_utilization: memory_utilization, utilization };
        }
        await respond(call, request);
      }
      call.end(trailer);
    } catch (error) {
      expectCancelled(call, error);
    } finally {
      loadUntold?.();
    }
  },
};

// grpc-js has such a service, but one that cannot tell the memory's utilization.
const loadService = {
  StreamCoreMetrics(call) {
    const { seconds = 0, nanos = 0 } = call.request.report_interval ?? {};
    const timer = setInterval(() => call.write(load), Math.max(Number(seconds) * 1000 + nanos / 1e6, 100));
    call.on('cancelled', () => clearInterval(timer));
    call.write(load);
  },
};

// Reading a call fails when it is cancelled, and may fail for no other reason.
function expectCancelled(call, error) {
  if (!call.cancelled) {
    throw error;
  }
}

async function respond(call, request) {
  for (const parameters of request.response_parameters) {
    if (parameters.interval_us) {
      await sleep(parameters.interval_us / 1000);
    }
    call.write({ payload: body(parameters.size) });
  }
}

function echoMetadata(call) {
  const initial = call.metadata.get(ECHO_INITIAL);
  if (initial.length) {
    const metadata = new grpc.Metadata();
    metadata.set(ECHO_INITIAL, initial[0]);
    call.sendMetadata(metadata);
  }
  const trailer = new grpc.Metadata();
  for (const value of call.metadata.get(ECHO_TRAILING)) {
    trailer.add(ECHO_TRAILING, value);
  }
  return trailer;
}

function recordOf(recorder, told) {
  recorder.recordCPUUtilizationMetric(told.cpu_utilization);
  recorder.recordMemoryUtilizationMetric(told.memory_utilization);
  for (const { key, value } of told.request_cost) {
    recorder.recordRequestCostMetric(key, value);
  }
  for (const { key, value } of told.utilization) {
    recorder.recordUtilizationMetric(key, value);
  }
}

// Waits until nobody else tells the load; gives what has to be called in the end.
async function takeLoad() {
  const before = loadTold;
  let done;
  loadTold = new Promise((resolve) => (done = resolve));
  await before;
  return done;
}

function body(size) {
  return { body: Buffer.alloc(size) };
}

const { values } = parseArgs({ options: { port: { type: 'string', default: '0' } } });
const server = new grpc.Server({ 'grpc.server_call_metric_recording': 1 });
server.addService(testing.TestService.service, service);
server.addService(orca.OpenRcaService.service, loadService);
server.bindAsync(`127.0.0.1:${values.port}`, grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) {
    throw error;
  }
  console.log(`listening on 127.0.0.1:${port}`);
});
