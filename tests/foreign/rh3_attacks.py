"""Attacks on the agents' port: without a certificate, and by an agent that has one."""

import asyncio
import collections
import functools
import random
import socket
import time

from aioquic.h3.connection import encode_frame
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicFrameType

from h2_peer import DATA as H2_DATA
from h2_peer import END_HEADERS, END_STREAM, INITIAL_WINDOW_SIZE, Cut, Peer, block, frame, message
from h2_peer import HEADERS as H2_HEADERS
from hostile import GOES_ON, HELD_BACK, WAITS, Attack
from rh3_cases import HEAD, INTERIM, RESERVED
from rh3_peer import DATA, NotFound, RawLink, dialled

EVIL = "evil"
CALL = "/evil.Service/Call"
# Calls that a client makes at the evil agent.
CALLS = 200
STALLED = 64 + 16 + 2 * CALLS
# Datagrams and frames between two looks at the clock.
BATCH = 100


def repeated(once):
    """Again and again, each time from the beginning, in an event loop of its own."""

    @functools.wraps(once)
    def attack(tunnel, *arguments):
        async def again(until):
            ends = collections.Counter()
            while time.monotonic() < until:
                try:
                    ends[await once(tunnel, until, *arguments)] += 1
                except (TimeoutError, Cut) as error:
                    ends[str(error) or "no answer"] += 1
            return ends

        return lambda until: asyncio.run(again(until))

    return attack


@repeated
async def no_certificate(tunnel, _until):
    """Handshakes without a certificate."""
    async with dialled(tunnel) as link:
        return await link.ending(time.monotonic() + 10) or WAITS


@repeated
async def other_protocol(tunnel, _until):
    """Handshakes for HTTP/3 as it is."""
    async with dialled(tunnel, EVIL, alpn="h3") as link:
        return await link.ending(time.monotonic() + 10) or WAITS


@repeated
async def comes_and_goes(tunnel, _until):
    """Links that end as soon as they are there."""
    async with dialled(tunnel, EVIL):
        return "comes and goes"


def first_packets(tunnel):
    """First packets of handshakes that are never gone on with, all from ports of their own."""

    def run(until):
        sent = collections.Counter()
        while time.monotonic() < until:
            quic = QuicConnection(configuration=QuicConfiguration(alpn_protocols=["rh3"], server_name="localhost"))
            quic.connect(("127.0.0.1", tunnel.agents_port), now=time.monotonic())
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                udp.bind(("127.0.0.2", 0))
                for data, address in quic.datagrams_to_send(now=time.monotonic()):
                    udp.sendto(data, address)
            sent["left half open"] += 1
        return sent

    return run


def garbage(tunnel):
    """Datagrams of random bytes, some of which look like QUIC."""
    seed = random.randrange(1 << 32)
    print(f"    the seed of the garbage is {seed}")
    source = random.Random(seed)
    versions = [b"\0\0\0\1", b"\0\0\0\0", b"\xff\0\0\x1d", b"\x6b\x33\x43\xcf"]

    def run(until):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("127.0.0.2", 0))
            while time.monotonic() < until:
                for _ in range(BATCH):
                    junk = source.randbytes(source.choice([1, 20, 50, 1200, 1400]))
                    # A long header's or a short one's first bytes.
                    start = source.choice([b"", b"\xc0" + source.choice(versions) + b"\x08", b"\x40"])
                    udp.sendto(start + junk, ("127.0.0.1", tunnel.agents_port))
        return {GOES_ON: 1}

    return run


@repeated
async def own_streams(tunnel, until, one_way, count):
    """Streams that the hub has not granted."""
    async with dialled(tunnel, EVIL) as link:
        link._quic._remote_max_streams_bidi = link._quic._remote_max_streams_uni = 1 << 20
        for _ in range(count):
            stream = link._quic.get_next_available_stream_id(is_unidirectional=one_way)
            link.write(stream, b"\x21" + bytes(100))
        return await link.ending(until + 10) or WAITS


@repeated
async def beyond_the_window(tunnel, until):
    """More bytes on a stream than the hub has room for."""
    async with dialled(tunnel, EVIL) as link:
        offset, data = (1 << 40).to_bytes(8, "big"), b"beyond"
        # A STREAM frame with offset and length, on the control stream: it is the agent's first one-way stream, 2.
        payload = b"\x02" + bytes([offset[0] | 0xC0]) + offset[1:] + bytes([len(data)]) + data
        link.send_frames(QuicFrameType.STREAM_BASE | 6, payload)
        return await link.ending(until + 10) or WAITS


@repeated
async def quic_frames(tunnel, until, kind, payload):
    """The same frame of QUIC again and again, as fast as the path takes it."""
    async with dialled(tunnel, EVIL) as link:
        while not link.end and time.monotonic() < until:
            if len(link._quic.frames) < BATCH:
                link.send_frames(kind, payload, BATCH)
            await asyncio.sleep(0)
        return await link.ending(until) or GOES_ON


@repeated
async def short_streams(tunnel, until):
    """One-way streams of unknown types, one after another, as the hub grants them."""
    async with dialled(tunnel, EVIL) as link:
        while not link.end and time.monotonic() < until:
            if len(link._quic._streams_blocked_uni) < 8:
                stream = link._quic.get_next_available_stream_id(is_unidirectional=True)
                link.write(stream, b"\x21" + bytes(100), end=True)
            await asyncio.sleep(0)
        return await link.ending(until) or GOES_ON


@repeated
async def control_frames(tunnel, until):
    """Unknown frames on the control stream without end."""
    async with dialled(tunnel, EVIL) as link:
        frames = encode_frame(RESERVED, b"") * 500
        while not link.end and time.monotonic() < until:
            await written(link, link.http._local_control_stream_id, frames, until)
        return await link.ending(until) or GOES_ON


class Mute(NotFound):
    """Answers nothing, not even the control call."""

    def __init__(self, link, stream, headers):
        self.link, self.stream = link, stream


@repeated
async def mute(tunnel, until):
    """An agent that doesn't answer the control call."""
    async with dialled(tunnel, EVIL, answer=Mute) as link:
        return await link.ending(until) or WAITS


class Endless(NotFound):
    """Answers calls with a head and with the same bytes without end."""

    head, more = HEAD, encode_frame(DATA, bytes(1 << 16))

    def __init__(self, link, stream, headers):
        super().__init__(link, stream, headers)
        if dict(headers)[b":path"] == CALL.encode():
            link.write(stream, self.head)
            link.answers.add(stream)

    def cancel(self):
        super().cancel()
        self.link.answers.discard(self.stream)


class EndlessLink(RawLink):
    """A link whose calls are answered so, in turns."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.answers = set()


def endless(head, more, settings, calls):
    """Answers without end, to a client that makes so many calls on windows like these, and reads no body."""
    answer = type("Answer", (Endless,), {"head": head, "more": more})

    @repeated
    async def attack(tunnel, until):
        async with dialled(tunnel, EVIL, answer=answer, link=EndlessLink) as link:
            while not await asyncio.to_thread(has_link, tunnel):
                await asyncio.sleep(0.01)
            with Peer(tunnel.target, settings) as client:
                for _ in range(calls):
                    one, request = client.stream(), message(b"")
                    head = frame(H2_HEADERS, END_HEADERS, one, block(CALL, EVIL))
                    client.send(head + frame(H2_DATA, END_STREAM, one, request), until)
                while not link.end and time.monotonic() < until:
                    for stream in list(link.answers):
                        await written(link, stream, answer.more, time.monotonic())
                    client.wait(time.monotonic())
                    await asyncio.sleep(0)
                if client.resets:
                    return f"resets calls ({', '.join(client.resets)})"
                return await link.ending(until) or HELD_BACK

    return attack


async def written(link, stream, data, until):
    """Writes where the path and the hub have taken what was written before."""
    sender = link.sender(stream)
    while sender and sender._buffer_stop - sender._buffer_start > 1 << 17:
        if link.end or time.monotonic() >= until:
            return
        await asyncio.sleep(0)
        sender = link.sender(stream)
    if sender:
        link.write(stream, data)
    await asyncio.sleep(0)


def has_link(tunnel):
    return any(link["agent"] == EVIL for link in tunnel.links())


def all_of(tunnel):
    """Every attack, what bounds it, and how it is ended."""
    handshakes, turns = "handshakes of agents under way", "the path: QUIC's congestion control"
    streams, stalled = "streams that an agent may open to the hub", "received bytes of one call that nobody has read"
    zero, ping = [(INITIAL_WINDOW_SIZE, 0)], (QuicFrameType.PING, b"")
    challenge, data_blocked = (QuicFrameType.PATH_CHALLENGE, bytes(8)), (QuicFrameType.DATA_BLOCKED, b"\0")
    return [
        Attack("handshakes without a certificate", handshakes, no_certificate(tunnel), ("TLS alert 116",)),
        Attack("handshakes for another protocol", handshakes, other_protocol(tunnel), ("TLS alert 120",)),
        Attack("half-open handshakes", handshakes, first_packets(tunnel), ("left half open",)),
        Attack("garbage", "QUIC", garbage(tunnel), (GOES_ON,)),
        Attack("links that come and go", handshakes, comes_and_goes(tunnel), ("comes and goes",)),
        Attack("an agent that is mute", "an agent's hello", mute(tunnel), ("H3_REQUEST_REJECTED",)),
        Attack("streams both ways", streams, own_streams(tunnel, False, 1), ("STREAM_LIMIT_ERROR",)),
        Attack("too many streams one way", streams, own_streams(tunnel, True, 1000), ("STREAM_LIMIT_ERROR",)),
        Attack("bytes beyond the window", stalled, beyond_the_window(tunnel), ("FLOW_CONTROL_ERROR",)),
        Attack("streams one way, one after another", turns, short_streams(tunnel), (GOES_ON,)),
        Attack("unknown frames", turns, control_frames(tunnel), (GOES_ON,)),
        Attack("PING flood", turns, quic_frames(tunnel, *ping), (GOES_ON,)),
        Attack("PATH_CHALLENGE flood", turns, quic_frames(tunnel, *challenge), (GOES_ON,)),
        Attack("DATA_BLOCKED flood", turns, quic_frames(tunnel, *data_blocked), (GOES_ON,)),
        Attack("interim responses without end", turns, endless(b"", INTERIM * 500, (), 10)(tunnel), (HELD_BACK,)),
        Attack(
            "DATA of 1 byte without end",
            turns,
            endless(HEAD, encode_frame(DATA, b"x") * 500, (), 10)(tunnel),
            (HELD_BACK,),
        ),
        Attack(
            "answers that nobody reads",
            stalled,
            endless(HEAD, encode_frame(DATA, bytes(1 << 16)), zero, CALLS)(tunnel),
            (HELD_BACK, "resets calls"),
            memory=STALLED,
        ),
    ]
