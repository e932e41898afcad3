//! What a measurement is started as, how it is ended, and what is left of it then.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;

const PATIENCE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(20);

/// What a measurement says where it cannot be.
const NOT_HERE: [&str; 3] = [
    "the lab needs namespaces",
    "the lab needs TUN devices",
    "a veth pair needs",
];

pub(crate) fn cannot_be(said: &str) -> bool {
    NOT_HERE.iter().any(|reason| said.contains(reason))
}

/// Its files go to `folder`, which also tells its processes from others.
pub(crate) fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit-bench"));
    command.args(args).env("TMPDIR", folder).stdin(Stdio::null());
    command
}

/// None where it cannot be.
pub(crate) fn output(mut command: Command) -> Option<(Output, String)> {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if cannot_be(&stderr) {
        eprintln!("skipped: {stderr}");
        return None;
    }
    Some((output, stderr))
}

pub(crate) struct Running {
    folder: tempfile::TempDir,
    pub(crate) child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Running {
    /// All of its processes, the one outside included.
    pub(crate) fn processes(&self) -> BTreeSet<u32> {
        let mut processes = of(self.folder.path());
        processes.insert(self.child.id());
        processes
    }
}

/// Ends a measurement once it has so many processes, by what `how` does to it; what it says then. None where it cannot be.
pub(crate) fn end(args: &[&str], processes: usize, how: impl FnOnce(&Running)) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path(), args);
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
    if cannot_be(&line) {
        eprintln!("skipped: {line}");
        running.child.wait().unwrap();
        return None;
    }
    let all = wait_for(|| Some(running.processes()).filter(|all| all.len() >= processes));
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

pub(crate) fn wait_for<T>(mut what: impl FnMut() -> Option<T>) -> T {
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
pub(crate) fn nothing_of(folder: &Path) -> Result<(), String> {
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
pub(crate) fn of(folder: &Path) -> BTreeSet<u32> {
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
pub(crate) fn is_first(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    inner.is_some_and(|pids| {
        pids.split_whitespace().count() > 1 && pids.split_whitespace().last() == Some("1")
    })
}

fn network_of(process: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/net")).ok()
}

pub(crate) fn pid(process: u32) -> Pid {
    Pid::from_raw(process.cast_signed()).unwrap()
}
