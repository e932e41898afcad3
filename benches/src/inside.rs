//! Where a measurement has networks of its own: namespaces of networks and processes that end with it, however it ends.
//!
//! The command starts itself once more under `unshare`, as the first process of a process namespace: when that one is gone
//! the kernel ends all others in it, and with the last process in a network namespace its devices are gone. It ends with its
//! standard input, which the command outside holds, and is killed with `unshare`.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// What a measurement needs of the machine.
#[derive(Debug)]
pub(crate) struct Needs {
    /// Who needs it, as messages begin.
    pub(crate) who: &'static str,
    /// Commands beside those that make namespaces, and the packages that have them.
    pub(crate) tools: &'static [(&'static str, &'static str)],
    /// TUN devices.
    pub(crate) tun: bool,
    /// A command that works inside if all the rest will.
    pub(crate) trial: &'static [&'static str],
}

/// Set for the process inside: a folder for its files.
const FOLDER: &str = "ADIT_BENCH_LAB_FOLDER";

/// A file in it: the process inside has ended by itself, and says why if it did not do what it was to.
const ENDED: &str = "ended";

/// The device that makes devices.
const TUN: &str = "/dev/net/tun";

/// The commands that are always needed, and the packages that have them.
const TOOLS: [(&str, &str); 3] = [
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("ip", "iproute2"),
];

/// What makes the namespaces: for root, and for anybody where the kernel lets people be root among themselves.
const WAYS: [&[&str]; 2] = [
    &["--net", "--pid", "--mount-proc", "--fork", "--kill-child"],
    &[
        "--user",
        "--map-root-user",
        "--net",
        "--pid",
        "--mount-proc",
        "--fork",
        "--kill-child",
    ],
];

/// How long the process inside may take to end when it is told to.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `measure` inside, where it is given a folder for its files. `left` says what an interrupted run leaves on purpose.
pub(crate) fn enter(
    needs: &Needs,
    left: &str,
    measure: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    match std::env::var_os(FOLDER) {
        Some(folder) => {
            let folder = PathBuf::from(folder);
            end_with_input(folder.clone())?;
            let measured = measure(&folder);
            fs::write(folder.join(ENDED), "").context("cannot write to the temporary directory")?;
            measured
        }
        None => runtime()?.block_on(outside(needs, left)),
    }
}

/// Why [`enter`] would come to nothing on this machine, if it would. Inside, nothing is in the way.
pub(crate) fn check(needs: &Needs) -> anyhow::Result<()> {
    if std::env::var_os(FOLDER).is_none() {
        runtime()?.block_on(way_of(needs))?;
    }
    Ok(())
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Ends this process, and with it all inside, as soon as the one outside does.
fn end_with_input(folder: PathBuf) -> anyhow::Result<()> {
    let wait = move || {
        let mut input = io::stdin().lock();
        let mut ignored = [0; 64];
        while matches!(input.read(&mut ignored), Ok(1..)) {}
        // Outside they may have had no time to do it.
        let _ = fs::remove_dir_all(folder);
        std::process::exit(1);
    };
    thread::Builder::new()
        .name("end".to_owned())
        .spawn(wait)
        .context("cannot start a thread that waits for the end")?;
    Ok(())
}

async fn outside(needs: &Needs, left: &str) -> anyhow::Result<()> {
    let way = way_of(needs).await?;
    let folder = tempfile::tempdir().context("cannot make a temporary directory")?;
    let program = std::env::current_exe().context("cannot find this program's file")?;
    // In a group of its own: what is typed at the terminal is for this process, which ends the other one.
    let mut inside = Command::new("unshare")
        .args(way)
        .arg("--")
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(FOLDER, folder.path())
        .stdin(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("cannot start unshare")?;
    // Waiting would close it.
    let input = inside.stdin.take();
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let name = tokio::select! {
        status = inside.wait() => return ended(status.context("cannot wait for unshare")?, folder),
        _ = interrupts.recv() => "interrupted",
        _ = terminations.recv() => "terminated",
    };
    drop(input);
    if tokio::time::timeout(PATIENCE, inside.wait()).await.is_err() {
        let killed = inside.kill().await;
        killed.context("cannot kill unshare")?;
    }
    bail!("{name}: all processes, devices and network namespaces of the run are gone; {left}")
}

fn ended(status: ExitStatus, folder: TempDir) -> anyhow::Result<()> {
    // `unshare` does not always say that what it started was killed.
    let by_itself = folder.path().join(ENDED).exists();
    folder.close().context("cannot remove the temporary directory")?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) if by_itself => std::process::exit(code),
        _ => bail!("the run was killed ({status}): its processes, devices and network namespaces are gone"),
    }
}

/// What makes the namespaces, where there is all that is needed.
async fn way_of(needs: &Needs) -> anyhow::Result<&'static [&'static str]> {
    missing_tools(needs, std::env::var_os("PATH").as_deref())?;
    if needs.tun {
        tun(needs.who, Path::new(TUN))?;
    }
    way(needs).await
}

fn missing_tools(needs: &Needs, path: Option<&OsStr>) -> anyhow::Result<()> {
    for (tool, package) in TOOLS.iter().chain(needs.tools) {
        if on_path(path, tool).is_none() {
            let who = needs.who;
            bail!("{who} needs the command `{tool}`, and there is none on the PATH: install {package}");
        }
    }
    Ok(())
}

/// The file that a command is.
pub(crate) fn on_path(path: Option<&OsStr>, command: &str) -> Option<PathBuf> {
    let mut files = std::env::split_paths(path?).map(|folder| folder.join(command));
    // Its process may have another working directory.
    std::path::absolute(files.find(|file| file.is_file())?).ok()
}

fn tun(who: &str, device: &Path) -> anyhow::Result<()> {
    let Err(error) = OpenOptions::new().read(true).write(true).open(device) else {
        return Ok(());
    };
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => "run as root, or let others use it (chmod 666)",
        _ => "load the module (modprobe tun), or give the container the device (--device /dev/net/tun)",
    };
    Err(error).with_context(|| {
        format!(
            "{who} needs TUN devices, and {} cannot be opened: {remedy}",
            device.display()
        )
    })
}

/// The first way that works, tried with a command that does nothing.
async fn way(needs: &Needs) -> anyhow::Result<&'static [&'static str]> {
    let mut said = Vec::new();
    for way in WAYS {
        let tried = Command::new("unshare")
            .args(way)
            .arg("--")
            .args(needs.trial)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let tried = tokio::time::timeout(PATIENCE, tried)
            .await
            .with_context(|| format!("`unshare {}` did not end", way.join(" ")))?
            .context("cannot start unshare")?;
        if tried.status.success() {
            return Ok(way);
        }
        let stderr = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
        said.push(format!("`unshare {}`: {stderr}", way.join(" ")));
    }
    bail!(
        "{} needs namespaces of networks and processes, and can make none here:\n  {}\nRun as root; or let people \
         have namespaces of their own (sysctl kernel.unprivileged_userns_clone=1, \
         kernel.apparmor_restrict_unprivileged_userns=0); in a container, give it --privileged, or --cap-add SYS_ADMIN \
         --cap-add NET_ADMIN --device /dev/net/tun. A kernel without CONFIG_NET_NS cannot run it",
        needs.who,
        said.join("\n  ")
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    const NEEDS: Needs = Needs {
        who: "the test",
        tools: &[("tc", "iproute2")],
        tun: true,
        trial: &[],
    };

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let empty = tempfile::tempdir().unwrap();
        let error = missing_tools(&NEEDS, Some(empty.path().as_os_str()))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`unshare`") && error.contains("install util-linux"),
            "{error}"
        );
        fs::write(empty.path().join("unshare"), "").unwrap();
        fs::write(empty.path().join("nsenter"), "").unwrap();
        let error = missing_tools(&NEEDS, Some(empty.path().as_os_str()))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("`ip`") && error.contains("install iproute2"),
            "{error}"
        );
        fs::write(empty.path().join("ip"), "").unwrap();
        let error = missing_tools(&NEEDS, Some(empty.path().as_os_str()))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("the test needs the command `tc`"), "{error}");
        fs::write(empty.path().join("tc"), "").unwrap();
        missing_tools(&NEEDS, Some(empty.path().as_os_str())).unwrap();
        assert!(missing_tools(&NEEDS, None).is_err());

        let device = empty.path().join("tun");
        let error = tun(NEEDS.who, &device).unwrap_err().to_string();
        assert!(
            error.contains("modprobe tun") && error.contains("--device"),
            "{error}"
        );
        fs::write(&device, "").unwrap();
        tun(NEEDS.who, &device).unwrap();
    }
}
