'use strict';

// The interop client on grpc-js: runs the named cases, and prints one line of JSON for each.

const { parseArgs } = require('node:util');
const grpc = require('@grpc/grpc-js');
const { Peer } = require('./peer');

const CASES = { ...require('./cases'), ...require('./more_cases') };

async function main() {
  const { values } = parseArgs({
    options: {
      target: { type: 'string' },
      cases: { type: 'string' },
      // The server looks whether requests are compressed.
      probe: { type: 'boolean', default: false },
    },
  });
  const peer = new Peer(values.target, values.probe);
  for (const name of values.cases.split(',')) {
    const result = { case: name };
    try {
      await CASES[name](peer);
    } catch (error) {
      result.error = error.code in grpc.status ? `${grpc.status[error.code]}: ${error.details}` : String(error.stack);
    }
    console.log(JSON.stringify(result));
  }
  peer.close();
}

main();
