#!/usr/bin/env node
// Calls all four kinds of method of RouteGuide and checks the answers.
//
// An ordinary grpc-js client: it knows nothing of tunnels. Through a hub, the agent is named in metadata:
//
//     node client.js --target 127.0.0.1:9090 --metadata adit-agent=site-1
//
// Prints one line per call. Exits 0 if all answers are right, 1 with the reason if one is not, 2 on wrong usage.

import { parseArgs } from "node:util";

import grpc from "@grpc/grpc-js";

import { callAll } from "./calls.js";
import { RouteGuide } from "./service.js";

const USAGE = "usage: client.js --target HOST:PORT [--metadata KEY=VALUE]… [--timeout SECONDS]";

async function main() {
  const { target, metadata, timeout } = parseArguments();
  const client = new RouteGuide(target, grpc.credentials.createInsecure());
  try {
    await callAll(client, metadata, timeout * 1000, console.log);
  } catch (error) {
    console.error(`${target}: ${error.message}`);
    process.exitCode = 1;
  } finally {
    client.close();
  }
}

function parseArguments() {
  try {
    const { values } = parseArgs({
      options: {
        target: { type: "string" },
        metadata: { type: "string", multiple: true, default: [] },
        timeout: { type: "string", default: "10" },
      },
    });
    if (!values.target) {
      throw new Error("--target is needed");
    }
    const timeout = Number(values.timeout);
    if (!(timeout > 0)) {
      throw new Error(`--timeout ${values.timeout} is no number of seconds`);
    }
    const metadata = new grpc.Metadata();
    for (const text of values.metadata) {
      const [, key, value] = /^([^=]+)=(.+)$/s.exec(text) ?? [];
      if (!key) {
        throw new Error(`--metadata ${text} is not KEY=VALUE`);
      }
      metadata.add(key, value);
    }
    return { target: values.target, metadata, timeout };
  } catch (error) {
    console.error(`${error.message}\n${USAGE}`);
    process.exit(2);
  }
}

await main();
