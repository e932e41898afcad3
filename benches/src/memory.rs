//! What a process holds of the machine's memory.

use std::fs;

use anyhow::Context as _;

/// The memory of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What it holds now (VmRSS of proc(5)).
    pub resident: u64,
    /// The most that it has held (VmHWM).
    pub peak: u64,
}

/// What a process holds.
///
/// # Errors
/// The process is gone, or the kernel does not say.
pub fn of(pid: u32) -> anyhow::Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse(&status).with_context(|| format!("{path} does not say how much memory the process holds"))
}

fn parse(status: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = value.strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes << 10)
    };
    Some(Memory {
        resident: bytes("VmRSS:")?,
        peak: bytes("VmHWM:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Memory, parse};

    #[test]
    fn memory_is_what_the_kernel_says() {
        let status = "Name:\thub\nVmPeak:\t  999 kB\nVmHWM:\t   34820 kB\nVmRSS:\t   31244 kB\nThreads:\t1\n";
        let memory = Memory {
            resident: 31_244 << 10,
            peak: 34_820 << 10,
        };
        assert_eq!(parse(status), Some(memory));
        // A process that has just ended has none.
        assert_eq!(parse("Name:\thub\nState:\tZ (zombie)\n"), None);
    }
}
