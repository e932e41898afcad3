//! What a process costs: processor time and packets, as Linux counts them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

/// Processor time that the threads of a process have had, in user space and in the kernel.
///
/// From `/proc/PID/task/*/schedstat`, in nanoseconds; `/proc/PID/stat` counts in hundredths of a second. A thread that
/// has ended is not counted, so that only differences over a time in which none ends mean anything.
///
/// # Errors
/// The process is gone, or the kernel keeps no such statistics.
pub fn used_by(pid: u32) -> anyhow::Result<Duration> {
    threads(Path::new(&format!("/proc/{pid}/task")))
}

/// As [`used_by`], of this process.
///
/// # Errors
/// The kernel keeps no such statistics.
pub fn used_by_self() -> anyhow::Result<Duration> {
    threads(Path::new("/proc/self/task"))
}

fn threads(tasks: &Path) -> anyhow::Result<Duration> {
    let mut total = 0;
    for task in
        fs::read_dir(tasks).with_context(|| format!("cannot list the threads in {}", tasks.display()))?
    {
        let path = task?.path().join("schedstat");
        let line = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let nanoseconds = line
            .split_whitespace()
            .next()
            .and_then(|word| word.parse::<u64>().ok());
        total += nanoseconds
            .with_context(|| format!("{} says {line:?}, not a time in nanoseconds", path.display()))?;
    }
    Ok(Duration::from_nanos(total))
}

/// UDP sends of this network namespace so far: system calls, each of one packet or, with segmentation offload, of
/// several.
///
/// # Errors
/// `/proc/net/snmp` cannot be read or has no UDP.
pub fn udp_sends() -> anyhow::Result<u64> {
    let snmp = fs::read_to_string("/proc/net/snmp").context("cannot read /proc/net/snmp")?;
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = lines
        .next()
        .zip(lines.next())
        .context("/proc/net/snmp does not speak of UDP")?;
    let sends = names
        .split(' ')
        .zip(values.split(' '))
        .find(|(name, _)| *name == "OutDatagrams");
    let (_, sends) = sends.context("/proc/net/snmp does not count sent datagrams")?;
    sends
        .parse()
        .with_context(|| format!("/proc/net/snmp counts {sends:?} sent datagrams"))
}
