"""What the runs showed: the problems in it, and docs/conformance.md."""

import collections

import connect as suite
import matrix

COMMAND = "python tests/conformance/run.py"


def problems(interop, connect):
    """Everything that is not as it has to be."""
    found = []
    for (case, client, server, way), wrong in interop.items():
        reason = matrix.PEERS_OWN.get((case, server))
        if wrong and not reason:
            found.append(f"{case}, {client} → {server}, {way}: {wrong}")
        elif reason and not wrong:
            found.append(f"{case}, {client} → {server}, {way}: it holds, and matrix.py says that it cannot: {reason}")
    for (run, way), outcome in connect.items():
        found += [f"{suite.name_of(run)}, {way}: {problem}" for problem in outcome.problems]
    return found


def unaccounted_suites(connect, names):
    """Suites of the runner that were neither run nor excluded by name, or both."""
    run = {name for outcome in connect.values() for name in outcome.cases}
    listed = run | set(suite.EXCLUDED_SUITES)
    found = [f"the suite “{name}” was not run, and connect.py does not say why" for name in set(names) - listed]
    both = (run & set(suite.EXCLUDED_SUITES)) | (listed - set(names))
    return found + [f"connect.py excludes the suite “{name}”, which was run or is none" for name in both]


def count(interop, connect):
    return len(interop) + sum(outcome.total for outcome in connect.values())


def document(interop, connect, versions):
    """docs/conformance.md."""
    lines = [
        "# Conformance",
        "",
        "Suites that others wrote, run client → hub → agent → server with all parts as separate processes, and, as a",
        "control, with the client and the server alone. This page is written by that run:",
        "",
        "```sh",
        "cargo build --release --workspace --bins",
        COMMAND,
        "```",
        "",
        "| what | version |",
        "|---|---|",
        *(f"| {name} | {version} |" for name, version in versions.items()),
        "",
        *interop_section(interop),
        *connect_section(connect),
    ]
    return "\n".join(lines)


def interop_section(interop):
    notes = Notes()
    yield from (
        "## Interop cases",
        "",
        "The cases of gRPC's [interop-test-descriptions][], each client in one language and its server in another. For Go",
        "they are grpc-go's official client and server, which know nothing of adit; for Python and Node the same cases",
        "written on grpcio and on grpc-js. The client dials the hub's port in place of the server's and sends no metadata",
        "of adit's.",
        "",
        "[interop-test-descriptions]: https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md",
        "",
    )
    titles = (
        ("Official cases", matrix.OFFICIAL, ""),
        (
            "Official cases with compression",
            matrix.COMPRESSED,
            (
                "grpc-go's programs do not have them, so a server of ours around its test service and a client of ours "
                "on grpc-go take their place. The flag “compressed” of each message is compared on the wire, between "
                "client and hub and between agent and server, and so are the messages' bytes."
            ),
        ),
        (
            "Cases that the description has as TODO",
            matrix.TODO,
            (
                "1,000 `large_unary` at once on one channel; a server that does not read for 2 s and holds back the "
                "client's 48 MiB; a call that is cancelled before it starts; 63 KiB in one header, both ways; a server "
                "that sends a message before it reads any."
            ),
        ),
    )
    ways = sorted({way for _, _, _, way in interop}, key=[*matrix.CARRIERS, matrix.DIRECT].index)
    for title, cases, told in titles:
        yield from (f"### {title}", "", *([told, ""] if told else []))
        for way in ways:
            yield from (f"| {way} | {' | '.join(f'{c} → {s}' for c, s in matrix.PAIRS)} |", "|---" * 7 + "|")
            for case in cases:
                cells = (cell(interop, notes, case, client, server, way) for client, server in matrix.PAIRS)
                yield f"| {case} | {' | '.join(cells)} |"
            yield ""
    yield from ("✓ holds; – cannot be run; ✗ fails without a tunnel too:", "", *notes.lines(), "")
    yield from ("Not run:", "", *(f"- {cases}: {reason}" for cases, reason in matrix.NOT_RUN.items()), "")


def cell(interop, notes, case, client, server, way):
    if reason := matrix.why_not(case, client, server):
        return f"–{notes.mark(reason)}"
    if interop[case, client, server, way]:
        return f"✗{notes.mark(matrix.PEERS_OWN[case, server])}"
    return "✓"


def connect_section(connect):
    yield from (
        "## The Connect project's suite",
        "",
        "Each run has a program under test: a server, which the runner calls with a client on connect-go and one on",
        "grpc-go, or a client, to which the runner gives servers on both, some of which answer with what is not gRPC.",
        "Through the tunnel, a hub and an agent stand between them. A cell has the number of cases that hold, and after it",
        "those that do not: `p` fail in the same way without a tunnel, `h` fail only because of the hub's own words.",
        "",
    )
    runs = list(dict.fromkeys(run for run, _ in connect))
    names = sorted({name for outcome in connect.values() for name in outcome.cases})
    ways = sorted({way for _, way in connect}, key=[*matrix.CARRIERS, matrix.DIRECT].index)
    for way in ways:
        yield from (f"| {way} | {' | '.join(head(run) for run in runs)} |", "|---" * (len(runs) + 1) + "|")
        for name in [*names, None]:
            cells = [counted(connect[run, way], name) for run in runs]
            yield f"| {name or '**all**'} | {' | '.join(cells)} |"
        yield ""
    for letter, rules in (("p", suite.PEERS_OWN), ("h", suite.HUBS_OWN_WORDS)):
        for rule in rules:
            yield f"- `{letter}`: {rule.reason}."
    yield from (
        "",
        "For each `h` the gRPC code is the one that the suite expects. It complains of one detail in the status, a",
        "`google.rpc.ErrorInfo` of the domain `adit`, by which a caller tells a failure of the tunnel's making from one",
        "of the service's.",
        "",
        "Excluded: everything but gRPC over HTTP/2, which is all that the hub's port for clients speaks: the protocols",
        "Connect and gRPC-Web, HTTP/1.1 and HTTP/3, and with them whole suites. Of gRPC, all codecs, compressions and kinds",
        "of streams are run that the program under test has, in cleartext and over TLS. These suites are not run:",
        "",
    )
    by_reason = collections.defaultdict(list)
    for name, reason in suite.EXCLUDED_SUITES.items():
        by_reason[reason].append(name)
    yield from (f"- {reason}: {', '.join(sorted(names))}" for reason, names in by_reason.items())
    yield ""


def head(run):
    return f"{run.mode}: {run.program}{', TLS' if run.tls else ''}"


def counted(outcome, name):
    """The cell of a suite, or of all."""
    total, own, words = (
        counter[name] if name else sum(counter.values())
        for counter in (outcome.cases, outcome.peers_own, outcome.hubs_own_words)
    )
    if not total:
        return ""
    return " ".join([str(total - own - words), *([f"+ {own} p"] if own else []), *([f"+ {words} h"] if words else [])])


class Notes:
    """Reasons, each with a number."""

    def __init__(self):
        self.numbers = {}

    def mark(self, reason):
        return f" [{self.numbers.setdefault(reason, len(self.numbers) + 1)}]"

    def lines(self):
        return [f"{number}. {reason}" for reason, number in self.numbers.items()]
