"""Messages and services from a file of descriptors (a FileDescriptorSet), without generated stubs."""

import os
import pathlib

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


class Protos:
    """What is in the file that the environment's CONFORMANCE_DESCRIPTORS names."""

    def __init__(self):
        self.pool = descriptor_pool.DescriptorPool()
        data = pathlib.Path(os.environ["CONFORMANCE_DESCRIPTORS"]).read_bytes()
        for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
            self.pool.Add(file)

    def message(self, name):
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))

    def service(self, name):
        return self.pool.FindServiceByName(name)

    def stub(self, channel, service_name):
        """An object with a callable for each method of the service."""
        stub = Stub()
        for method in self.service(service_name).methods:
            make = getattr(channel, shape(method))
            path = f"/{service_name}/{method.name}"
            request = message_factory.GetMessageClass(method.input_type)
            response = message_factory.GetMessageClass(method.output_type)
            call = make(path, request_serializer=request.SerializeToString, response_deserializer=response.FromString)
            setattr(stub, method.name, call)
        return stub

    def handlers(self, service_name, implementation):
        """A handler of those methods of the service that the implementation has."""
        handlers = {}
        for method in self.service(service_name).methods:
            if behaviour := getattr(implementation, method.name, None):
                make = getattr(grpc, f"{shape(method)}_rpc_method_handler")
                handlers[method.name] = make(
                    behaviour,
                    request_deserializer=message_factory.GetMessageClass(method.input_type).FromString,
                    response_serializer=message_factory.GetMessageClass(method.output_type).SerializeToString,
                )
        return grpc.method_handlers_generic_handler(service_name, handlers)


class Stub:
    """The methods of a service, as attributes."""


def shape(method):
    kinds = ["stream" if streams else "unary" for streams in (method.client_streaming, method.server_streaming)]
    return "_".join(kinds)
