"""What an agent must not say on its own streams, and in its responses; and how the hub takes it."""

from aioquic.h3.connection import encode_frame

from rh3_peer import (
    CANCEL_PUSH,
    CONTROL,
    DATA,
    EMPTY_SETTINGS,
    GOAWAY,
    GRPC_HEAD,
    GRPC_OK,
    HEADERS,
    MAX_PUSH_ID,
    PREFIX,
    PUSH,
    SETTINGS,
    STATUS_103,
    STATUS_200,
    literal,
    varints,
)

STAYS = None
UNEXPECTED, FRAME_ERROR, ID_ERROR = "H3_FRAME_UNEXPECTED", "H3_FRAME_ERROR", "H3_ID_ERROR"
PUSH_PROMISE, PRIORITY_OF_HTTP2, RESERVED = 5, 2, 0x21


def after_settings(kind, payload=b""):
    return {"control": EMPTY_SETTINGS + encode_frame(kind, payload)}


# What the streams of an agent say, by their names in RawHttp, and the code that the hub closes the link with.
STREAMS = {
    "nothing that is wrong": ({}, STAYS),
    "unknown frames": ({"control": EMPTY_SETTINGS + encode_frame(RESERVED, bytes(5000)) * 10}, STAYS),
    "an unknown frame that never ends": (
        {"control": EMPTY_SETTINGS + varints(RESERVED, 1 << 61) + bytes(50_000)},
        STAYS,
    ),
    "streams of unknown types": ({"others": [(RESERVED, bytes(1000))] * 5}, STAYS),
    "no settings": ({"control": encode_frame(DATA, b"x")}, "H3_MISSING_SETTINGS"),
    "zeros": ({"control": bytes(500)}, "H3_MISSING_SETTINGS"),
    "ones": ({"control": b"\xff" * 500}, "H3_MISSING_SETTINGS"),
    "settings twice": ({"control": EMPTY_SETTINGS * 2}, UNEXPECTED),
    "settings of 1 GiB": ({"control": varints(SETTINGS, 1 << 30) + bytes(2000)}, "H3_EXCESSIVE_LOAD"),
    "400 settings": (
        {"control": encode_frame(SETTINGS, b"".join(varints(0x40 + index, 1) for index in range(400)))},
        "H3_EXCESSIVE_LOAD",
    ),
    "a setting of HTTP/2": ({"control": encode_frame(SETTINGS, varints(2, 0))}, "H3_SETTINGS_ERROR"),
    "a setting twice": ({"control": encode_frame(SETTINGS, varints(RESERVED, 0) * 2)}, "H3_SETTINGS_ERROR"),
    "half a setting": ({"control": encode_frame(SETTINGS, b"\x40")}, FRAME_ERROR),
    "data": (after_settings(DATA, b"x"), UNEXPECTED),
    "a head": (after_settings(HEADERS, PREFIX), UNEXPECTED),
    "a promise of a push": (after_settings(PUSH_PROMISE, varints(1)), UNEXPECTED),
    "the permission to push": (after_settings(MAX_PUSH_ID, varints(1)), UNEXPECTED),
    "the end of a push": (after_settings(CANCEL_PUSH, varints(1)), ID_ERROR),
    "a frame of HTTP/2": (after_settings(PRIORITY_OF_HTTP2), UNEXPECTED),
    "GOAWAY with a number of the agent's own": (after_settings(GOAWAY, varints(4)), ID_ERROR),
    "GOAWAY that takes another back": (
        {"control": EMPTY_SETTINGS + encode_frame(GOAWAY, varints(1)) + encode_frame(GOAWAY, varints(5))},
        ID_ERROR,
    ),
    "GOAWAY without a number": (after_settings(GOAWAY), FRAME_ERROR),
    "GOAWAY with two": (after_settings(GOAWAY, varints(1, 1)), FRAME_ERROR),
    "two control streams": ({"others": [(CONTROL, EMPTY_SETTINGS)]}, "H3_STREAM_CREATION_ERROR"),
    "a push": ({"others": [(PUSH, varints(0))]}, ID_ERROR),
    "an entry of the dynamic table": ({"encoder": b"\xc0\x01x"}, "QPACK_ENCODER_STREAM_ERROR"),
    "room for the dynamic table": ({"encoder": b"\x3f\xe1\x1f"}, "QPACK_ENCODER_STREAM_ERROR"),
    "thanks for entries that there are not": ({"decoder": b"\x80"}, "QPACK_DECODER_STREAM_ERROR"),
    "garbage for a decoder": ({"decoder": b"\xff" * 64}, "QPACK_DECODER_STREAM_ERROR"),
}

HEAD, DONE = encode_frame(HEADERS, GRPC_HEAD), encode_frame(HEADERS, GRPC_OK)
MESSAGE = encode_frame(DATA, bytes(5))
INTERIM = encode_frame(HEADERS, PREFIX + STATUS_103)
# gRPC's code, the reason that the hub gives with it, and what comes of the link.
BROKEN = ("13 upstream-protocol", STAYS)


def head_with(*fields):
    return encode_frame(HEADERS, GRPC_HEAD + b"".join(literal(*field) for field in fields)) + MESSAGE + DONE


def and_closed(code):
    """The call, whose bytes they were, is told what was wrong; the hub closes the link."""
    return (BROKEN[0], code)


# The bytes of a response, what its client is told, and the code that the hub closes the link with.
RESPONSES = {
    "nothing that is wrong": (HEAD + MESSAGE + DONE, ("0", STAYS)),
    "interim responses": (INTERIM * 50 + HEAD + MESSAGE + DONE, ("0", STAYS)),
    "unknown frames in between": (HEAD + encode_frame(RESERVED, bytes(500)) + MESSAGE + DONE, ("0", STAYS)),
    "empty data": (HEAD + encode_frame(DATA, b"") * 1000 + MESSAGE + DONE, ("0", STAYS)),
    "nothing at all": (b"", BROKEN),
    "only interim responses": (INTERIM, BROKEN),
    "a head only": (HEAD, BROKEN),
    "no status of gRPC": (HEAD + MESSAGE, BROKEN),
    "trailers without a status": (HEAD + MESSAGE + encode_frame(HEADERS, PREFIX), BROKEN),
    "no status of HTTP": (encode_frame(HEADERS, PREFIX + literal(b"content-type", b"application/grpc")), BROKEN),
    "two statuses of HTTP": (encode_frame(HEADERS, PREFIX + STATUS_200 * 2), BROKEN),
    "a status of HTTP that is none": (encode_frame(HEADERS, PREFIX + literal(b":status", b"2x0")), BROKEN),
    "no gRPC": (encode_frame(HEADERS, PREFIX + STATUS_200) + MESSAGE, ("2 upstream-protocol", STAYS)),
    "a name in capitals": (head_with((b"X-A", b"b")), BROKEN),
    "a name with a space": (head_with((b"x a", b"b")), BROKEN),
    "a zero in a value": (head_with((b"x-a", b"a\0b")), BROKEN),
    "a line's end in a value": (head_with((b"x-a", b"a\r\nb: c")), BROKEN),
    "the field connection": (head_with((b"connection", b"close")), BROKEN),
    "a pseudo-header behind other fields": (head_with((b":status", b"200")), BROKEN),
    "content that is shorter than it says": (head_with((b"content-length", b"99")), BROKEN),
    "data behind the trailers, where nobody looks": (HEAD + MESSAGE + DONE + MESSAGE, ("0", STAYS)),
    "200 KiB of fields": (head_with(*((b"x-%d" % index, bytes(b"y" * 4000)) for index in range(50))), BROKEN),
    "10,000 fields": (head_with(*((b"x-%d" % index, b"y") for index in range(10_000))), BROKEN),
    "data first": (MESSAGE, and_closed(UNEXPECTED)),
    "settings": (EMPTY_SETTINGS, and_closed(UNEXPECTED)),
    "a promise of a push": (encode_frame(PUSH_PROMISE, varints(1)), and_closed(ID_ERROR)),
    "a frame of HTTP/2": (encode_frame(PRIORITY_OF_HTTP2, b""), and_closed(UNEXPECTED)),
    "half a frame": (varints(HEADERS, 1000) + GRPC_HEAD, and_closed(FRAME_ERROR)),
    "a field of the dynamic table": (
        encode_frame(HEADERS, PREFIX + STATUS_200 + b"\x80"),
        and_closed("QPACK_DECOMPRESSION_FAILED"),
    ),
    "a field section that needs the dynamic table": (
        encode_frame(HEADERS, b"\x02\0" + STATUS_200),
        and_closed("QPACK_DECOMPRESSION_FAILED"),
    ),
    "Huffman's end of string": (
        encode_frame(HEADERS, PREFIX + STATUS_200 + b"\x21x\x84\xff\xff\xff\xff"),
        and_closed("QPACK_DECOMPRESSION_FAILED"),
    ),
}
