"""Requests that are wrong, and what each is answered: heads by what is wrong with them, and bodies."""

from h2_client import call
from h2_peer import message

GET_FEATURE = "/routeguide.RouteGuide/GetFeature"
ATTACH = "/adit.tunnel.v1.Agent/Attach"
TO = ("adit-agent", "good")

# gRPC's codes.
OK, INVALID_ARGUMENT, PERMISSION_DENIED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION = "0", "3", "7", "8", "9"
OUT_OF_RANGE, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = "11", "12", "13", "14"

DENIED = f"{PERMISSION_DENIED} denied"
NO_ROUTE = f"{INVALID_ARGUMENT} no-route"
OFFLINE = f"{UNAVAILABLE} agent-offline"
TOO_LARGE = f"{RESOURCE_EXHAUSTED} agent-busy"
# One bad call, or a client whose HTTP/2 is broken: the hub's HTTP/2 library draws that line at what it can't parse.
STREAM, CONNECTION = "stream: PROTOCOL_ERROR", "connection: PROTOCOL_ERROR"


def to_good(*more, **replaced):
    return call(GET_FEATURE, TO, *more, **replaced)


HEADS = {
    "nothing": (to_good(), OK),
    # What is between a hub and its agents.
    "the agents' control": (call(ATTACH, TO), DENIED),
    "the agents' control, without an agent": (call(ATTACH), DENIED),
    "the agents' control, with a query": (call(ATTACH + "?x=1", TO), DENIED),
    "the operators' service": (call("/adit.hub.v1.Hub/ListLinks", TO), DENIED),
    "a connection through an agent": (call("/adit.tunnel.v1.Agent/Dial", TO), DENIED),
    "the agents' control, behind a second slash": (call("/" + ATTACH, TO), UNIMPLEMENTED),
    "the agents' control, escaped": (call("/adit%2etunnel.v1.Agent/Attach", TO), UNIMPLEMENTED),
    "the agents' control, behind dots": (call("/x/.." + ATTACH, TO), UNIMPLEMENTED),
    "the agents' control, as a URI": (call("http://hub.example" + ATTACH, TO), STREAM),
    "CONNECT": ([(":method", "CONNECT"), (":authority", "hub.example:1"), TO], f"HTTP 403 {DENIED}"),
    "CONNECT for a websocket": (to_good(method="CONNECT", protocol="websocket"), STREAM),
    # Routes.
    "an unknown agent": (call(GET_FEATURE, ("adit-agent", "nobody")), OFFLINE),
    "no id of an agent": (call(GET_FEATURE, ("adit-agent", "NOT VALID!")), NO_ROUTE),
    "two agents": (to_good(("adit-agent", "other")), NO_ROUTE),
    "an ambiguous route": (call(GET_FEATURE), f"{FAILED_PRECONDITION} ambiguous-route"),
    "labels that nobody has": (call(GET_FEATURE, ("adit-select", "region=nowhere")), OFFLINE),
    "no labels": (call(GET_FEATURE, ("adit-select", "a=b,,")), NO_ROUTE),
    "no method": (call("/"), NO_ROUTE),
    "half a method": (call("/a"), NO_ROUTE),
    "an asterisk": (call("*"), NO_ROUTE),
    "no path": (call(""), STREAM),
    "a path that begins with no slash": (call("routeguide.RouteGuide/GetFeature", TO), STREAM),
    "a path of 100 KB": (call("/" + "a" * 100_000 + "/b", TO), STREAM),
    # What the hub passes on, for the upstream to say what it thinks: the sample server minds none of it, others do.
    "content type application/json": (to_good(content_type="application/json"), OK),
    "no content type": (to_good(content_type=None), OK),
    "GET": (to_good(method="GET"), OK),
    "a timeout without digits": (to_good(grpc_timeout="abc"), OK),
    "a timeout that is nothing": (to_good(grpc_timeout=""), OK),
    "a timeout with too many digits": (to_good(grpc_timeout="9999999999S"), OK),
    "a negative timeout": (to_good(grpc_timeout="-1S"), OK),
    "a timeout in bytes": (to_good(("grpc-timeout", b"\xff\xfe")), OK),
    "binary metadata that is no base64": (to_good(("x-bin", "***")), OK),
    "metadata in UTF-8": (to_good(("x-a", "é")), OK),
    "spaces around a value": (to_good(("x-a", " b\t")), OK),
    # Which this one minds.
    "an unknown encoding": (to_good(grpc_encoding="nonsense"), UNIMPLEMENTED),
    # Header bytes that HTTP/2 forbids (RFC 9113 §8.2.1).
    "a name in capitals": (to_good(("X-A", "b")), CONNECTION),
    "a name with a space": (to_good(("x a", "b")), CONNECTION),
    "a name of nothing": (to_good(("", "b")), CONNECTION),
    "a name in UTF-8": (to_good(("xé", "b")), CONNECTION),
    "a zero in a value": (to_good(("x-a", "a\0b")), CONNECTION),
    "a line's end in a value": (to_good(("x-a", "a\r\nb: c")), CONNECTION),
    "a method with a space": (to_good(method="PO ST"), CONNECTION),
    # Fields that HTTP/2 forbids.
    "an unknown pseudo-header": ([(":what", "x"), *to_good()], CONNECTION),
    "a status in a request": ([(":status", "200"), *to_good()], STREAM),
    "two paths": ([(":path", "/x/y"), *to_good()], STREAM),
    "a path behind other fields": ([*(field for field in to_good() if field[0] != ":path"), (":path", "/x/y")], STREAM),
    "the field connection": (to_good(("connection", "close")), STREAM),
    "te that is not trailers": (to_good(te="gzip"), STREAM),
    "no scheme": (to_good(scheme=None), STREAM),
    "an empty authority": (to_good(authority=""), STREAM),
    "an authority with a user": (to_good(authority="user@hub"), STREAM),
    "a content-length that is wrong": (to_good(content_length="3"), STREAM),
    "a content-length that is no number": (to_good(content_length="x"), STREAM),
    # Sizes.
    "5,000 fields": (to_good(*((f"x-{index}", "y") for index in range(5000))), TOO_LARGE),
    "150 KB of fields": (to_good(*((f"x-{index}", "y" * 1000) for index in range(150))), TOO_LARGE),
}

BODIES = {
    "half a message": (b"\0\0\0\0\x09abc", INTERNAL),
    "a message of 4 GB": (b"\0\xff\xff\xff\xff", OUT_OF_RANGE),
    "a compressed message without an encoding": (b"\1\0\0\0\1x", INTERNAL),
    "an unknown flag": (b"\7\0\0\0\0", INTERNAL),
    "no message": (b"", INTERNAL),
    "a message that is no protobuf": (message(b"\xff\xff\xff"), INTERNAL),
}

# What is passed on as it is, and answered as if there were no hub. The last ones are errors to grpcio.
PASSED_ON = {
    "nothing": {},
    "content type application/json": {"content_type": "application/json"},
    "no content type": {"content_type": None},
    "GET": {"method": "GET"},
    "a timeout without digits": {"grpc_timeout": "abc"},
    "a timeout without a number": {"grpc_timeout": "S"},
    "a negative timeout": {"grpc_timeout": "-1S"},
    "a timeout that is nothing": {"grpc_timeout": ""},
}
