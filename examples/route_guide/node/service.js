// The service's definition, read from its .proto file: nothing is generated.

import { fileURLToPath } from "node:url";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const file = fileURLToPath(new URL("../proto/route_guide.proto", import.meta.url));
const definition = protoLoader.loadSync(file, { defaults: true, keepCase: true });

export const { RouteGuide } = grpc.loadPackageDefinition(definition).routeguide;
