'use strict';

// Services from a file of descriptors (a FileDescriptorSet), without generated stubs.

const fs = require('node:fs');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const file = process.env.CONFORMANCE_DESCRIPTORS;
const definition = loader.loadFileDescriptorSetFromBuffer(fs.readFileSync(file), { keepCase: true, defaults: true });
const loaded = grpc.loadPackageDefinition(definition);

// The loader gives the fields of descriptors that are maps as what they are on the wire: entries with key and value.
function entriesOf(map) {
  return Object.entries(map).map(([key, value]) => ({ key, value }));
}

module.exports = {
  entriesOf,
  testing: loaded.grpc.testing,
  orca: loaded.xds.service.orca.v3,
  report: definition['xds.data.orca.v3.OrcaLoadReport'],
};
