//! `loopback`: every carrier over a veth pair, or over the loopback device where there can be none.

use rustix::process::{Signal, kill_process};

use crate::left::{command, end, nothing_of, output, pid};

/// As in the reports, with those behind the load that take processor time: hub, agent, server.
const WAYS: [(&str, [bool; 3]); 7] = [
    ("direct", [false, false, true]),
    ("quic", [true, true, false]),
    ("tls", [true, true, false]),
    ("websocket", [true, true, false]),
    ("quic, upstream", [true; 3]),
    ("tls, upstream", [true; 3]),
    ("websocket, upstream", [true; 3]),
];

/// The bytes of a full Ethernet frame where an IP packet has 1,500.
const FRAME: f64 = 1514.0;

/// What is printed is rounded by so much.
const ROUNDED: f64 = 0.005;

#[test]
fn every_way_crosses_the_veth_pair() {
    let folder = tempfile::tempdir().unwrap();
    let args = [
        "loopback",
        "--network",
        "veth",
        "--rounds",
        "1",
        "--seconds",
        "0.2",
        "--concurrency",
        "8",
        "--handshakes",
        "2",
    ];
    let Some((output, stderr)) = output(command(folder.path(), &args)) else {
        return;
    };
    assert!(output.status.success(), "{stderr}");
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(report.contains("a veth pair with an MTU of 1500"), "{report}");
    for (way, behind) in WAYS {
        // Half of what has to cross the pair each time: the counters are read a little late on a busy machine.
        for (what, there, back) in [
            ("calls, 8 at a time", 50.0, 50.0),
            ("one download", 0.0, 32_768.0),
        ] {
            let [costs, wire] = rows(&report, what, way);
            assert!(costs[0] > 0.0 && costs[6] > 0.0, "{what}, {way}\n{report}");
            let used: Vec<bool> = costs[7..10].iter().map(|cpu| *cpu > 0.0).collect();
            assert_eq!(used, behind, "{what}, {way}\n{report}");
            assert!(wire[2] > there && wire[3] > back, "{what}, {way}\n{report}");
            for direction in [0, 1] {
                let (packets, bytes) = (wire[direction], wire[direction + 2]);
                assert!(
                    packets > 0.0 && bytes <= FRAME * (packets + ROUNDED) + 1.0,
                    "{what}, {way}: packets are larger than a frame\n{report}"
                );
            }
        }
    }
    for carrier in ["quic", "tls", "websocket"] {
        let [costs, wire] = rows(&report, "links that come and go, 2 at a time", carrier);
        assert!(costs[0] > 0.0 && costs[7] > 0.0, "{carrier}\n{report}");
        // The certificates of both ends.
        assert!(wire[2] > 500.0 && wire[3] > 500.0, "{carrier}\n{report}");
    }
    assert_eq!(nothing_of(folder.path()), Ok(()));
}

#[test]
fn without_namespaces_the_loopback_device_is_measured_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let args = [
        "loopback",
        "--ways",
        "direct,in-process",
        "--carriers",
        "websocket",
        "--rounds",
        "1",
        "--seconds",
        "0.1",
        "--concurrency",
        "1",
        "--handshakes",
        "0",
    ];
    let mut command = command(folder.path(), &args);
    let output = command.env("PATH", folder.path()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let why = "the loopback device: a veth pair needs the command `unshare`";
    assert!(stderr.contains(why), "{stderr}");
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(report.contains(why), "{report}");
    for way in ["direct", "websocket"] {
        assert!(
            row(&report, "calls, 1 at a time", way, 0)[0] > 0.0,
            "{way}\n{report}"
        );
    }
    assert!(!report.contains("packets there"), "nothing was counted\n{report}");
    assert_eq!(nothing_of(folder.path()), Ok(()));
}

#[test]
fn a_killed_run_leaves_nothing() {
    let args = [
        "loopback",
        "--network",
        "veth",
        "--seconds",
        "600",
        "--carriers",
        "tls",
    ];
    // unshare, the run, the other end's keeper, server, hub, two agents, load, and the one outside.
    end(&args, 9, |running| {
        kill_process(pid(running.child.id()), Signal::KILL).unwrap();
    });
}

/// Of both tables.
fn rows(report: &str, what: &str, way: &str) -> [Vec<f64>; 2] {
    [0, 1].map(|table| row(report, what, way, table))
}

/// The figures of one row of a table; where there is none it is not a number.
fn row(report: &str, what: &str, way: &str, table: usize) -> Vec<f64> {
    let heading = format!("Workers 1, {what}:\n");
    let (_, tables) = report.split_once(&heading).expect(report);
    let tables = tables.split("\nWorkers").next().unwrap();
    let table = tables.trim().split("\n\n").nth(table).expect(report);
    let name = format!("| {way} | ");
    let row = table.lines().find_map(|line| line.strip_prefix(&name));
    let cells = row.expect(report).split('|').map(str::trim);
    cells
        .map(|cell| cell.replace(',', "").parse().unwrap_or(f64::NAN))
        .collect()
}
