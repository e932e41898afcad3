//! A network namespace beside this process's own, and what both need before anything is measured between them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::node::Begun;
use crate::processes::Process;

/// The namespace, and the process that keeps it.
#[derive(Debug)]
pub(crate) struct Namespace {
    file: File,
    keeper: u32,
    _keeper: Process,
}

impl Namespace {
    /// Makes one with nothing in it. Its keeper logs to `log`.
    pub(crate) async fn beside(log: &Path) -> anyhow::Result<Self> {
        let apart = ["unshare", "--net", "--"].map(Into::into);
        let mut keeper = Process::start_after(&apart, ["--workers", "1", "keeper"], log)?;
        let _: Begun = keeper.hear(Duration::ZERO).await?;
        let pid = keeper.pid()?;
        let path = format!("/proc/{pid}/ns/net");
        Ok(Self {
            file: File::open(&path).with_context(|| format!("cannot open {path}"))?,
            keeper: pid,
            _keeper: keeper,
        })
    }

    /// The process that keeps it.
    pub(crate) fn keeper(&self) -> u32 {
        self.keeper
    }

    /// What stands before a command that runs there.
    pub(crate) fn before(&self) -> Vec<OsString> {
        vec![
            "nsenter".into(),
            format!("--net=/proc/{}/ns/net", self.keeper).into(),
            "--".into(),
        ]
    }

    /// Does something there: only the thread that does it is there, and what that starts.
    pub(crate) fn within<T: Send>(
        &self,
        what: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
                    .context("cannot enter the network namespace of the other end")?;
                what()
            });
            there
                .join()
                .unwrap_or_else(|_| bail!("the thread at the other end panicked"))
        })
    }
}

/// Makes the namespace of this thread one in which only what is measured happens, with a loopback device that works.
pub(crate) fn quiet() -> anyhow::Result<()> {
    // What the kernel itself sends there would take the places of packets that are measured.
    set_if_there("net/ipv6/conf/all/disable_ipv6", "1")?;
    set_if_there("net/ipv6/conf/default/disable_ipv6", "1")?;
    // What TCP learned of the link before must not help or hinder the next measurement.
    set("net/ipv4/tcp_no_metrics_save", "1")?;
    say_to("ip", &["link", "set", "lo", "up"])?;
    Ok(())
}

/// Runs a command in the namespace of this thread, and has what it prints.
pub(crate) fn say_to(command: &str, args: &[&str]) -> anyhow::Result<Vec<u8>> {
    let said = Command::new(command).args(args).output();
    let said = said.with_context(|| format!("cannot start {command}"))?;
    if !said.status.success() {
        bail!(
            "`{command} {}`: {}",
            args.join(" "),
            String::from_utf8_lossy(&said.stderr).trim()
        );
    }
    Ok(said.stdout)
}

/// Changes a setting of the kernel (`/proc/sys`) where the kernel has it.
fn set_if_there(name: &str, value: &str) -> anyhow::Result<()> {
    if Path::new("/proc/sys").join(name).exists() {
        set(name, value)?;
    }
    Ok(())
}

/// Changes a setting of the kernel.
pub(crate) fn set(name: &str, value: &str) -> anyhow::Result<()> {
    let path = Path::new("/proc/sys").join(name);
    fs::write(&path, value).with_context(|| format!("cannot write {value:?} to {}", path.display()))
}

/// Reads one.
pub(crate) fn get(name: &str) -> anyhow::Result<String> {
    let path = Path::new("/proc/sys").join(name);
    let value = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(value.trim().to_owned())
}
