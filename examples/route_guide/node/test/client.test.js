// The client against a service that answers as RouteGuide does, as far as it asks, and against some that do not.

import assert from "node:assert/strict";
import test from "node:test";

import grpc from "@grpc/grpc-js";

import { DEGREE, callAll, describe } from "../calls.js";
import { RouteGuide } from "../service.js";

// Milliseconds. Only a failure waits it out.
const PATIENCE = 30_000;

function goodGuide() {
  return {
    features: ["Birch", "Cedar"].flatMap((first) => ["Crossing", "Dam", "Ford"].map((second) => `${first} ${second}`)),
    summary: { point_count: 0, feature_count: 10, distance: 100_076 },
    // Whether answers in a chat wait for its end, what they begin with, and what is said after the last.
    holdBack: false,
    greeting: "",
    farewell: [],
    nowhere: "",
    refusal: { code: grpc.status.INVALID_ARGUMENT, details: "latitude 910000000 is not on Earth" },
    // What came with the last call.
    metadata: undefined,
  };
}

function methods(guide) {
  return {
    GetFeature({ request, metadata }, answer) {
      guide.metadata = metadata;
      if (request.latitude > 90 * DEGREE) {
        answer(guide.refusal, {});
      } else if (request.latitude === 405_000_000 && request.longitude === -745_000_000) {
        answer(null, { name: "Elm Harbor" });
      } else {
        answer(null, { name: guide.nowhere });
      }
    },
    ListFeatures(call) {
      guide.features.forEach((name) => call.write({ name }));
      call.end();
    },
    RecordRoute(call, answer) {
      const summary = { ...guide.summary };
      call.on("data", () => summary.point_count++);
      call.on("end", () => answer(null, summary));
    },
    RouteChat(call) {
      const notes = [];
      let held = [];
      call.on("data", (note) => {
        held.push(...notes);
        notes.push({ ...note, message: guide.greeting + note.message });
        if (!guide.holdBack) {
          held.forEach((earlier) => call.write(earlier));
          held = [];
        }
      });
      call.on("end", () => {
        [...held, ...guide.farewell].forEach((note) => call.write(note));
        call.end();
      });
    },
  };
}

// Runs the client against a service, and gives what it printed.
async function call(guide, { timeout = PATIENCE, metadata = {} } = {}) {
  const server = new grpc.Server();
  server.addService(RouteGuide.service, methods(guide));
  const port = await new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  const client = new RouteGuide(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  const lines = [];
  try {
    await callAll(client, grpc.Metadata.fromHttp2Headers(metadata), timeout, (line) => lines.push(line));
  } finally {
    client.close();
    server.forceShutdown();
  }
  return lines;
}

test("right answers are told, one line each", async () => {
  const guide = goodGuide();
  const lines = await call(guide, { metadata: { "adit-agent": "site-1" } });
  assert.deepEqual(
    lines.map((line) => line.replace(/ \([\d.]+ ms\)$/, "")),
    [
      "GetFeature: Elm Harbor",
      "ListFeatures: 6 features",
      "RecordRoute: 91 points, 10 features, 100076 m",
      "RouteChat: 3 notes, each answered before the next",
      "GetFeature, refused: INVALID_ARGUMENT",
    ],
  );
  assert.deepEqual(guide.metadata.get("adit-agent"), ["site-1"]);
});

const WRONG = {
  "something nowhere": [(guide) => (guide.nowhere = "Nowhere"), /^GetFeature: .*“Nowhere”/],
  "a feature too few": [(guide) => guide.features.shift(), /^ListFeatures: .*“Birch Dam/],
  "another order": [(guide) => guide.features.reverse(), /^ListFeatures: .*“Cedar Ford/],
  "a point too many": [(guide) => (guide.summary.point_count = 1), /^RecordRoute: .*“91” and is “92”/],
  "no features": [(guide) => (guide.summary.feature_count = 0), /^RecordRoute: .*“10” and is “0”/],
  "a long way": [(guide) => (guide.summary.distance = 101_000), /^RecordRoute: .*kilometres.*“101”/],
  "other notes": [(guide) => (guide.greeting = "the "), /^RouteChat: .*second note .*“first” and is “the first”/],
  "a note too many": [(guide) => guide.farewell.push({ message: "bye" }), /^RouteChat: .*“the end” and is “bye”/],
  "no refusal": [(guide) => (guide.refusal = null), /refused: .*not on Earth was taken/],
  "a vague refusal": [(guide) => (guide.refusal.details = "no"), /refused: .*910000000: no/],
  "another refusal": [(guide) => (guide.refusal.code = grpc.status.INTERNAL), /refused: INTERNAL “latitude/],
};

for (const [name, [change, message]] of Object.entries(WRONG)) {
  test(`a wrong answer is named: ${name}`, async () => {
    const guide = goodGuide();
    change(guide);
    await assert.rejects(call(guide), { message });
  });
}

test("answers that are held back until the end are not waited for longer than the timeout", async () => {
  const guide = { ...goodGuide(), holdBack: true };
  await assert.rejects(call(guide, { timeout: 500 }), { message: /^RouteChat: DEADLINE_EXCEEDED/ });
});

test("a failure tells who made it and why", () => {
  const metadata = new grpc.Metadata();
  metadata.set("adit-error", "agent-offline");
  metadata.set("adit-delivered", "no");
  metadata.set("date", "today");
  const error = { code: grpc.status.UNAVAILABLE, details: "agent site-1 is not connected", metadata };
  assert.equal(
    describe(error),
    "UNAVAILABLE adit-delivered=no adit-error=agent-offline “agent site-1 is not connected”",
  );
});
