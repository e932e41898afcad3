// The calls, one of each kind, and what they are to be answered.

import { once } from "node:events";
import { isDeepStrictEqual } from "node:util";

import grpc from "@grpc/grpc-js";

// A degree in the service's units.
export const DEGREE = 10_000_000;

// Makes the calls one after the other, and tells of each that was answered rightly.
export async function callAll(client, metadata, timeout, tell) {
  const calls = {
    GetFeature: getFeature,
    ListFeatures: listFeatures,
    RecordRoute: recordRoute,
    RouteChat: routeChat,
    "GetFeature, refused": refusedPoint,
  };
  for (const [name, call] of Object.entries(calls)) {
    const begun = performance.now();
    try {
      const result = await call(client, metadata, { deadline: Date.now() + timeout });
      tell(`${name}: ${result} (${(performance.now() - begun).toFixed(1)} ms)`);
    } catch (error) {
      throw new Error(`${name}: ${describe(error)}`, { cause: error });
    }
  }
}

// One request, one response.
async function getFeature(client, metadata, options) {
  const feature = await ask(client, point(40.5, -74.5), metadata, options);
  expect("the name of the feature", feature.name, "Elm Harbor");
  const nothing = await ask(client, point(0, 0), metadata, options);
  expect("the name of nothing", nothing.name, "");
  return feature.name;
}

// One request, a stream of responses.
async function listFeatures(client, metadata, options) {
  const names = [];
  const rectangle = { lo: point(40.2, -74.8), hi: point(40.3, -74.6) };
  for await (const feature of client.ListFeatures(rectangle, metadata, options)) {
    names.push(feature.name);
  }
  const expected = ["Birch", "Cedar"].flatMap((first) =>
    ["Crossing", "Dam", "Ford"].map((second) => `${first} ${second}`),
  );
  expect("the features", names, expected);
  return `${names.length} features`;
}

// A stream of requests, one response.
async function recordRoute(client, metadata, options) {
  let call;
  const answered = new Promise((resolve, reject) => {
    call = client.RecordRoute(metadata, options, (error, summary) => (error ? reject(error) : resolve(summary)));
  });
  // Up a meridian in hundredths of a degree; every tenth point is a place.
  for (let step = 0; step <= 90; step++) {
    if (!call.write(point(40.1 + step / 100, -74.9))) {
      await Promise.race([once(call, "drain"), answered]);
    }
  }
  call.end();
  const summary = await answered;
  expect("the points", summary.point_count, 91);
  expect("the features", summary.feature_count, 10);
  // 0.9 of a degree, whose length is known to a few metres.
  expect("the kilometres of route, rounded", Math.round(summary.distance / 1000), 100);
  return `${summary.point_count} points, ${summary.feature_count} features, ${summary.distance} m`;
}

// A stream of requests and a stream of responses at the same time.
async function routeChat(client, metadata, options) {
  const call = client.RouteChat(metadata, options);
  try {
    return await chat(call);
  } finally {
    // Where an answer was wrong, the call is not over, and would keep the program from ending.
    call.on("error", () => {});
    call.cancel();
  }
}

async function chat(call) {
  const notes = call[Symbol.asyncIterator]();
  // A place of our own, so that what others left does not matter.
  const location = { latitude: within(90), longitude: within(180) };
  const sent = [];
  for (const message of ["first", "second", "third"]) {
    call.write({ location, message });
    // Each answer is awaited before the next request: nothing on the way may hold them back.
    for (const earlier of sent) {
      const { value } = await notes.next();
      expect(`the answer to the ${message} note`, value?.message ?? "the end", earlier);
    }
    sent.push(message);
  }
  call.end();
  const { done, value } = await notes.next();
  expect("what follows the last answer", done ? "the end" : value.message, "the end");
  return `${sent.length} notes, each answered before the next`;
}

// The service's own error, as it made it.
async function refusedPoint(client, metadata, options) {
  let error;
  try {
    await ask(client, { latitude: 91 * DEGREE, longitude: 0 }, metadata, options);
  } catch (refusal) {
    error = refusal;
  }
  if (!error) {
    throw new Error("a point that is not on Earth was taken");
  }
  if (error.code !== grpc.status.INVALID_ARGUMENT) {
    throw error;
  }
  if (!error.details.includes("910000000")) {
    throw new Error(`the message does not name the latitude, 910000000: ${error.details}`);
  }
  return grpc.status[error.code];
}

function ask(client, where, metadata, options) {
  return new Promise((resolve, reject) => {
    client.GetFeature(where, metadata, options, (error, feature) => (error ? reject(error) : resolve(feature)));
  });
}

function point(latitude, longitude) {
  return { latitude: Math.round(latitude * DEGREE), longitude: Math.round(longitude * DEGREE) };
}

// A random angle of so many degrees at the most.
function within(degrees) {
  return Math.round((Math.random() * 2 - 1) * degrees * DEGREE);
}

function expect(what, found, expected) {
  if (!isDeepStrictEqual(found, expected)) {
    throw new Error(`${what} should be “${expected}” and is “${found}”`);
  }
}

// What the service, or whoever is on the way to it, has said; or what is wrong with an answer.
export function describe(error) {
  if (error.code === undefined) {
    return error.message;
  }
  const reasons = Object.entries(error.metadata?.getMap() ?? {})
    .filter(([key]) => key.startsWith("adit-"))
    .sort()
    .map(([key, value]) => `${key}=${value}`);
  return [grpc.status[error.code], ...reasons, `“${error.details}”`].join(" ");
}
