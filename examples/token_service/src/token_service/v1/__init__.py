"""The stubs, made when the package is built: `from token_service.v1 import tokens_pb2, tokens_pb2_grpc`."""
