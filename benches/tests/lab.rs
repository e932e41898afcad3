//! The lab as people start it, and end it: whatever happens, nothing of it is left.
//!
//! Where this machine has no namespaces or TUN devices for us, it says so, and that is all that is checked.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say why they check nothing"
)]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(20);

/// What the lab says where it cannot be.
const NOT_HERE: [&str; 2] = ["the lab needs namespaces", "the lab needs TUN devices"];

/// The lab's files go to `folder`, which also tells its processes from others.
fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit-bench"));
    command.args(args).env("TMPDIR", folder).stdin(Stdio::null());
    command
}

/// None where the lab cannot be.
fn output(mut command: Command) -> Option<(Output, String)> {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if NOT_HERE.iter().any(|reason| stderr.contains(reason)) {
        eprintln!("skipped: {stderr}");
        return None;
    }
    Some((output, stderr))
}

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
    if !stderr.contains("adit-bench:") || stderr.contains(NOT_HERE[1]) {
        eprintln!("skipped: no namespace to be without namespaces in: {stderr}");
        return;
    }
    assert!(
        stderr.contains(NOT_HERE[0]) && stderr.contains("Run as root"),
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
    if let Some(stderr) = end(|running| kill_process(pid(running.child.id()), Signal::INT).unwrap()) {
        assert!(
            stderr.contains("interrupted") && stderr.contains("are gone"),
            "{stderr}"
        );
    }
}

#[test]
fn a_killed_lab_leaves_nothing() {
    end(|running| kill_process(pid(running.child.id()), Signal::KILL).unwrap());
}

#[test]
fn a_lab_whose_inside_is_killed_leaves_nothing() {
    let stderr = end(|running| {
        let inside = running.processes();
        let inside = inside.iter().find(|process| is_first(**process));
        kill_process(pid(*inside.unwrap()), Signal::KILL).unwrap();
    });
    if let Some(stderr) = stderr {
        assert!(stderr.contains("killed"), "{stderr}");
    }
}

struct Running {
    folder: tempfile::TempDir,
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Running {
    /// All of its processes, the one outside included.
    fn processes(&self) -> BTreeSet<u32> {
        let mut processes = of(self.folder.path());
        processes.insert(self.child.id());
        processes
    }
}

/// Ends a lab that measures, by what `how` does to it; what it says then. None where there is no lab.
fn end(how: impl FnOnce(&Running)) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path(), &["lab", "--time", "10min", "--variants", "quic"]);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let mut running = Running {
        folder,
        child,
        stderr,
    };
    let mut line = String::new();
    running.stderr.read_line(&mut line).unwrap();
    if NOT_HERE.iter().any(|reason| line.contains(reason)) {
        eprintln!("skipped: {line}");
        running.child.wait().unwrap();
        return None;
    }
    // unshare, the lab, the other end's keeper, hub, agent, load, and the one outside.
    let all = wait_for(|| Some(running.processes()).filter(|processes| processes.len() >= 7));
    let namespaces: BTreeSet<PathBuf> = all.iter().filter_map(|process| network_of(*process)).collect();
    let ours = network_of(std::process::id()).unwrap();
    assert!(
        namespaces.len() >= 3,
        "not of two networks beside ours: {namespaces:?}"
    );
    how(&running);
    running.child.wait().unwrap();
    wait_for(|| nothing_of(running.folder.path()).ok());
    for process in everybody() {
        let network = network_of(process);
        assert!(
            network
                .as_ref()
                .is_none_or(|network| *network == ours || !namespaces.contains(network)),
            "{process} is left in {network:?}"
        );
    }
    let mut rest = String::new();
    for line in running.stderr.lines() {
        rest.push_str(&line.unwrap());
    }
    Some(rest)
}

fn wait_for<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(there) = what() {
            return there;
        }
        assert!(Instant::now() < give_up, "not within {PATIENCE:?}");
        thread::sleep(POLL);
    }
}

/// No processes, and no files.
fn nothing_of(folder: &Path) -> Result<(), String> {
    let processes = of(folder);
    let files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    if processes.is_empty() && files.is_empty() {
        return Ok(());
    }
    Err(format!("left: {processes:?} {files:?}"))
}

/// The processes whose files are in `folder`.
fn of(folder: &Path) -> BTreeSet<u32> {
    let mut variable = b"TMPDIR=".to_vec();
    variable.extend(folder.as_os_str().as_bytes());
    let has_it = |process: &u32| {
        let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == variable)
    };
    everybody().filter(has_it).collect()
}

fn everybody() -> impl Iterator<Item = u32> {
    let number = |name: &OsStr| name.to_str()?.parse().ok();
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(move |entry| number(&entry.ok()?.file_name()))
}

/// Whether it is the first process of its namespace.
fn is_first(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    inner.is_some_and(|pids| {
        pids.split_whitespace().count() > 1 && pids.split_whitespace().last() == Some("1")
    })
}

fn network_of(process: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/net")).ok()
}

fn pid(process: u32) -> Pid {
    Pid::from_raw(process.cast_signed()).unwrap()
}
