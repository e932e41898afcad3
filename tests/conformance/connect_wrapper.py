#!/usr/bin/env python3
"""What the runner of the Connect project's suite starts in place of the program under test: that program, and a tunnel.

    connectconformance --mode server … -- connect_wrapper.py --bin-dir D server referenceserver
    connectconformance --mode client --port P … -- connect_wrapper.py --bin-dir D --upstream http://127.0.0.1:P \\
        client referenceclient

As a server it starts the real one, an agent before it and a hub, and tells the runner the hub's port. As a client it
starts a hub and an agent before the runner's own server, and hands every case to the real client with the hub's port.

The runner speaks protobuf messages with a length of four bytes before each, on standard input and output. The few
fields that matter are read and added here by hand: a field at the end of a message overrides an earlier one.
"""

import argparse
import contextlib
import pathlib
import signal
import subprocess
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent / "foreign"))
import tunnel

AGENT = "conformance"
# Field numbers in connectrpc.conformance.v1.ServerCompatRequest, ServerCompatResponse and ClientCompatRequest.
REQUEST_USE_TLS = 4
RESPONSE_HOST, RESPONSE_PORT, RESPONSE_CERTIFICATE = 1, 2, 3
CASE_HOST, CASE_PORT, CASE_CERTIFICATE = 6, 7, 8

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("role", choices=["server", "client"])
    parser.add_argument("--bin-dir", type=pathlib.Path, required=True, help="where adit is")
    parser.add_argument("--agent-flag", action="append", default=[], help="one more argument for the agent")
    parser.add_argument("--upstream", help="client: where the runner's server will be")
    parser.add_argument("--upstream-ca", help="client: the CA of that server, if it is an https one")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the real program and its arguments")
    arguments = parser.parse_args()
    # The runner ends us by SIGTERM: everything that we have started then ends, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Standard output belongs to the runner.
    with contextlib.redirect_stdout(sys.stderr), tunnel.opened(arguments.bin_dir) as world:
        {"server": serve, "client": call}[arguments.role](world, arguments)


def serve(world, arguments):
    """The server under test, behind the tunnel. Its certificate would be the hub's, so it needs none itself."""
    request = read_message(sys.stdin.buffer)
    tls = field(request, REQUEST_USE_TLS, 0) != 0
    server = spawn(world, arguments.command, stdout=subprocess.PIPE)
    write_message(server.stdin, request + number(REQUEST_USE_TLS, 0))
    server.stdin.close()
    response = read_message(server.stdout)
    host, port = field(response, RESPONSE_HOST, b"127.0.0.1").decode(), field(response, RESPONSE_PORT, 0)
    open_tunnel(world, f"http://{host}:{port}", tls, arguments.agent_flag)
    answer = text(RESPONSE_HOST, b"127.0.0.1") + number(RESPONSE_PORT, world.clients_port)
    if tls:
        answer += text(RESPONSE_CERTIFICATE, certificate_of(world))
    write_message(sys.__stdout__.buffer, answer)
    raise tunnel.Failure(f"the server under test exited {server.wait()} by itself")


def call(world, arguments):
    """The client under test, which is told the hub's port in place of the server's."""
    flags = arguments.agent_flag + (["--upstream-ca", arguments.upstream_ca] if arguments.upstream_ca else [])
    tls = arguments.upstream.startswith("https:")
    open_tunnel(world, arguments.upstream, tls, flags)
    instead = text(CASE_HOST, b"127.0.0.1") + number(CASE_PORT, world.clients_port)
    if tls:
        instead += text(CASE_CERTIFICATE, certificate_of(world))
    client = spawn(world, arguments.command, stdout=sys.__stdout__)
    while (case := read_message(sys.stdin.buffer, may_end=True)) is not None:
        write_message(client.stdin, case + instead)
    client.stdin.close()
    sys.exit(client.wait())


def spawn(world, command, stdout):
    """The real program, which ends with the tunnel."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout)
    world.stack.callback(process.wait)
    world.stack.callback(process.kill)
    return process


def open_tunnel(world, upstream, tls, agent_flags):
    """A hub and an agent. The runner gives us five seconds to end, so nothing is drained then."""
    hub = world.start_hub(*(["--client-tls", "on"] if tls else []))
    agent = world.start_agent(AGENT, upstream, *agent_flags)
    world.stack.callback(hub.kill)
    world.stack.callback(agent.kill)
    world.wait_until_attached(AGENT, services=False)


def certificate_of(world):
    """What clients verify the hub's certificate with."""
    return (world.certs / "ca.pem").read_bytes()


def read_message(stream, may_end=False):
    """The next message; None at the end of the stream, where it may end."""
    length = read_exactly(stream, 4, may_end)
    return length and read_exactly(stream, int.from_bytes(length, "big"), False)


def read_exactly(stream, size, may_end):
    data = stream.read(size)
    if len(data) < size:
        if may_end and not data:
            return None
        raise tunnel.Failure(f"{len(data)} bytes in place of {size}, and then the end")
    return data


def write_message(stream, message):
    stream.write(len(message).to_bytes(4, "big") + message)
    stream.flush()


def field(message, wanted, absent):
    """The last value of a field of a protobuf message: an int, or bytes."""
    at, value = 0, absent
    while at < len(message):
        key, at = varint_at(message, at)
        kind = key & 7
        if kind == VARINT:
            found, at = varint_at(message, at)
        else:
            size = {FIXED64: 8, FIXED32: 4}.get(kind)
            if kind == BYTES:
                size, at = varint_at(message, at)
            if size is None:
                raise tunnel.Failure(f"a protobuf field of kind {kind}")
            found, at = message[at : at + size], at + size
        if key >> 3 == wanted:
            value = found
    return value


def varint_at(message, at):
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def varint(value):
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def number(field_number, value):
    return varint(field_number << 3 | VARINT) + varint(value)


def text(field_number, value):
    return varint(field_number << 3 | BYTES) + varint(len(value)) + value


if __name__ == "__main__":
    main()
