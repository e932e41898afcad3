//! Where figures were measured: no table is worth anything without it.

use std::fmt;
use std::fs;
use std::process::Command;

/// The machine and the build, as a Markdown list.
#[derive(Clone, Debug)]
pub struct Machine {
    processor: String,
    processors: usize,
    kernel: String,
    commit: String,
    tcp_congestion: String,
    udp_buffer: String,
    load: String,
}

impl Machine {
    /// Looks at this machine, as it is before it is kept busy.
    #[must_use]
    pub fn describe() -> Self {
        Self {
            processor: processor(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: setting("kernel/osrelease"),
            commit: commit(),
            tcp_congestion: setting("net/ipv4/tcp_congestion_control"),
            udp_buffer: setting("net/core/rmem_max"),
            load: load(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            processor,
            processors,
            kernel,
            commit,
            tcp_congestion,
            udp_buffer,
            load,
        } = self;
        let allocator = if cfg!(feature = "mimalloc") {
            "mimalloc"
        } else {
            "the system's"
        };
        let build = if cfg!(debug_assertions) {
            "debug: its figures mean nothing"
        } else {
            "release"
        };
        writeln!(f, "- machine: {processors} × {processor}, Linux {kernel}")?;
        writeln!(f, "- commit {commit}, {build} build, allocator: {allocator}")?;
        writeln!(
            f,
            "- TCP congestion control {tcp_congestion}; net.core.rmem_max {udp_buffer}; load average at the beginning \
             {load}"
        )
    }
}

fn processor() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned())
}

fn setting(name: &str) -> String {
    let value = fs::read_to_string(format!("/proc/sys/{name}"));
    value.map_or_else(|_| "unknown".to_owned(), |value| value.trim().to_owned())
}

/// What else the machine has to do: processes that ran or waited to, in the mean of the last minute.
fn load() -> String {
    let averages = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let last_minute = averages.split(' ').next().filter(|average| !average.is_empty());
    last_minute.unwrap_or("unknown").to_owned()
}

/// The commit of the sources' folder, marked when it has changes.
fn commit() -> String {
    let mut git = Command::new("git");
    git.args([
        "-C",
        env!("CARGO_MANIFEST_DIR"),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=10",
    ]);
    let said = git.output().ok().filter(|output| output.status.success());
    said.map_or_else(
        || "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
