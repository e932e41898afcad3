//! The lab: a link that an emulator plays.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::{Signal, kill_process};

use crate::left::{command, end, is_first, nothing_of, output, pid};

/// A run that has to be ended.
const LAB: [&str; 5] = ["lab", "--time", "10min", "--variants", "quic"];

/// unshare, the lab, the other end's keeper, hub, agent, load, and the one outside.
const PROCESSES: usize = 7;

#[test]
fn calls_cross_the_link() {
    let folder = tempfile::tempdir().unwrap();
    let args = [
        "lab",
        "--loss",
        "0",
        "--rtt",
        "40ms",
        "--time",
        "1s",
        "--variants",
        "quic",
        "--loads",
        "open:50",
    ];
    let Some((output, stderr)) = output(command(folder.path(), &args)) else {
        return;
    };
    assert!(output.status.success(), "{stderr}");
    let report = String::from_utf8(output.stdout).unwrap();
    let row = report
        .lines()
        .find(|line| line.starts_with("| 0 % | quic/bounded |"));
    let cells: Vec<&str> = row.expect(&report).split('|').map(str::trim).collect();
    let p50: f64 = cells[3].replace(',', "").parse().expect(&report);
    assert!(p50 >= 40.0, "no call is faster than the link\n{report}");
    assert_eq!(nothing_of(folder.path()), Ok(()));
}

#[test]
fn a_folder_that_exists_is_refused_before_anything_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("report.md"), "an hour's work").unwrap();
    let output = command(
        folder.path(),
        &["compare", "--quick", "--out", out.to_str().unwrap()],
    )
    .output();
    let output = output.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && stderr.contains("exists already") && stderr.contains("--out"),
        "{stderr}"
    );
    assert_eq!(
        fs::read_to_string(out.join("report.md")).unwrap(),
        "an hour's work"
    );
}

#[test]
fn a_machine_without_tools_is_told_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path(), &["lab"]);
    let output = command.env("PATH", folder.path()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && stderr.contains("install util-linux"),
        "{stderr}"
    );
    assert_eq!(nothing_of(folder.path()), Ok(()));
}

/// As on a machine that gives us no namespaces: in one whose limit is none.
#[test]
fn a_machine_without_namespaces_is_told_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut limited = Command::new("unshare");
    limited
        .args(["--user", "--map-root-user", "sh", "-c"])
        .arg("echo 0 >/proc/sys/user/max_net_namespaces && exec \"$0\" lab")
        .arg(env!("CARGO_BIN_EXE_adit-bench"))
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null());
    let output = limited.output();
    let stderr = output.map_or_else(
        |error| error.to_string(),
        |output| String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    if !stderr.contains("adit-bench:") || stderr.contains("needs TUN devices") {
        eprintln!("skipped: no namespace to be without namespaces in: {stderr}");
        return;
    }
    assert!(
        stderr.contains("the lab needs namespaces") && stderr.contains("Run as root"),
        "{stderr}"
    );
    assert_eq!(nothing_of(folder.path()), Ok(()));
}

#[test]
fn an_unknown_controller_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let args = [
        "lab",
        "--variants",
        "tls/none-such",
        "--loads",
        "open:1",
        "--time",
        "1s",
    ];
    let Some((output, stderr)) = output(command(folder.path(), &args)) else {
        return;
    };
    assert!(!output.status.success(), "{stderr}");
    assert!(stderr.contains("modprobe tcp_none-such"), "{stderr}");
    assert_eq!(nothing_of(folder.path()), Ok(()));
}

#[test]
fn an_interrupted_lab_leaves_nothing() {
    if let Some(stderr) = end(&LAB, PROCESSES, |running| {
        kill_process(pid(running.child.id()), Signal::INT).unwrap();
    }) {
        assert!(
            stderr.contains("interrupted") && stderr.contains("are gone"),
            "{stderr}"
        );
    }
}

#[test]
fn a_killed_lab_leaves_nothing() {
    end(&LAB, PROCESSES, |running| {
        kill_process(pid(running.child.id()), Signal::KILL).unwrap();
    });
}

#[test]
fn a_lab_whose_inside_is_killed_leaves_nothing() {
    let stderr = end(&LAB, PROCESSES, |running| {
        let inside = running.processes();
        let inside = inside.iter().find(|process| is_first(**process));
        kill_process(pid(*inside.unwrap()), Signal::KILL).unwrap();
    });
    if let Some(stderr) = stderr {
        assert!(stderr.contains("killed"), "{stderr}");
    }
}
