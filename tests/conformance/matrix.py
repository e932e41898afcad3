"""The interop cases, who can take part in which, and what fails without a tunnel too."""

LANGUAGES = ("go", "python", "node")
PAIRS = [(client, server) for client in LANGUAGES for server in LANGUAGES if client != server]

# Flags of the agent for each carrier.
CARRIERS = {name: ["--carrier", name] for name in ("quic", "tls", "websocket")}
# The one that a quick run is made on.
QUICK = "quic"
DIRECT = "without a tunnel"

# gRPC's doc/interop-test-descriptions.md, and what grpc-go's client has beyond it.
OFFICIAL = (
    "empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
    "cancel_after_begin", "cancel_after_first_response", "timeout_on_sleeping_server", "status_code_and_message",
    "special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service", "pick_first_unary",
    "rpc_soak", "channel_soak", "orca_per_rpc", "orca_oob",
)  # fmt: skip
# Official ones that grpc-go's programs do not have.
COMPRESSED = (
    "client_compressed_unary", "server_compressed_unary", "client_compressed_streaming", "server_compressed_streaming",
)  # fmt: skip
# Those that the description has as TODO.
TODO = (
    "concurrent_large_unary", "client_push_back", "cancel_before_start", "large_header", "server_replies_first",
)  # fmt: skip
CASES = OFFICIAL + COMPRESSED + TODO

# Cases of the description that nobody here runs.
NOT_RUN = {
    "compute_engine_creds, jwt_token_creds, oauth2_auth_token, per_rpc_creds, google_default_credentials, "
    "compute_engine_channel_credentials": "they need credentials of a cloud",
    "cacheable_unary": "it needs a caching proxy, and a library that sends GET: none of these does",
}

# What grpc-go's interop server does not do, so that peerserver takes its place.
MORE_SERVER = {*COMPRESSED, "server_replies_first"}

# (role, language, case): why that library cannot take part.
CANNOT = {
    ("client", "python", "orca_per_rpc"): "grpcio keeps the load report from its caller",
    ("client", "python", "client_compressed_streaming"): "grpcio's client compresses all messages of a call or none",
    ("client", "go", "client_compressed_streaming"): "grpc-go compresses all messages of a call or none",
    ("server", "go", "server_compressed_streaming"): "grpc-go compresses all messages of a call or none",
    ("server", "node", "server_compressed_unary"): "grpc-js compresses no response",
    ("server", "node", "server_compressed_streaming"): "grpc-js compresses no response",
}

# (case, server): why it fails without a tunnel too. One that does not fail is a mistake in this table.
PEERS_OWN = {
    ("pick_first_unary", "go"): "grpc-go's interop server does not tell its id",
}

# The flags that each call's messages must have on the wire. `probe`: only if the server looks at them.
REQUEST_FLAGS = {
    "client_compressed_unary": {"probe": [[0]], "calls": [[1], [0]]},
    "client_compressed_streaming": {"probe": [[0]], "calls": [[1, 0]]},
}
RESPONSE_FLAGS = {
    "server_compressed_unary": [[1], [0]],
    "server_compressed_streaming": [[1, 0]],
}


def why_not(case, client, server):
    """Why this pair cannot run this case; None if it can."""
    return CANNOT.get(("client", client, case)) or CANNOT.get(("server", server, case))


def checks_compression(server):
    """Whether the server of this language looks if requests are compressed."""
    return server == "go"
