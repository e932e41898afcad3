"""The service: an ordinary gRPC server in cleartext, with health and reflection."""

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from token_service.tokens import Verdict
from token_service.v1 import tokens_pb2, tokens_pb2_grpc

SERVICE = tokens_pb2.DESCRIPTOR.services_by_name["TokenService"].full_name
# Seconds that calls have to end by themselves when the service stops. Streams that stay open don't, and are then
# ended as UNAVAILABLE: their clients open them again elsewhere.
DRAIN = 0.5


class TokenService(tokens_pb2_grpc.TokenServiceServicer):
    """Answers with what a verifier finds."""

    def __init__(self, verifier):
        self.verifier = verifier
        self.streams = 0
        self.answers = 0

    async def Validate(self, request, context):
        return self.answer(request)

    async def ValidateStream(self, requests, context):
        self.streams += 1
        async for request in requests:
            yield self.answer(request)

    def answer(self, request):
        self.answers += 1
        found = self.verifier.check(request.token)
        response = tokens_pb2.ValidateResponse(
            id=request.id,
            verdict=found.verdict,
            reason=found.reason,
            subject=found.subject,
            token_id=found.token_id,
        )
        if found.verdict == Verdict.VALID:
            response.expires_at.seconds = found.expires
        return response


async def serve(service, listen, stop):
    """Serves on HOST:PORT until the event `stop`, and says on standard output where."""
    server = grpc.aio.server()
    tokens_pb2_grpc.add_TokenServiceServicer_to_server(service, server)
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    await healthy.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    port = server.add_insecure_port(listen)
    await server.start()
    print(f"listening on {listen.rpartition(':')[0]}:{port}", flush=True)
    try:
        await stop.wait()
    finally:
        await server.stop(DRAIN)
