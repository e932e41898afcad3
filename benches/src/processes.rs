//! The measured processes, seen from the one that starts them.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use adit_bench::cpu;
use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// How long a process may take to say what it is asked for, beside the time that it measures.
const PATIENCE: Duration = Duration::from_secs(30);

/// This program again, in another role. It is killed when this is dropped, and ends by itself when this process does.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    pub(crate) fn start<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> anyhow::Result<Self> {
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        let name = args
            .iter()
            .map(|arg| arg.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ");
        let program = std::env::current_exe().context("cannot find this program's file")?;
        let mut child = Command::new(&program)
            .arg("node")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {} node {name}", program.display()))?;
        let stdout = child
            .stdout
            .take()
            .context("a process was started without a standard output")?;
        Ok(Self {
            name,
            child,
            lines: BufReader::new(stdout).lines(),
        })
    }

    /// The next thing that it says, which may take it `time` and some patience.
    pub(crate) async fn hear<T: DeserializeOwned>(&mut self, time: Duration) -> anyhow::Result<T> {
        let said = tokio::time::timeout(time + PATIENCE, self.lines.next_line()).await;
        match said {
            Ok(Ok(Some(line))) => {
                serde_json::from_str(&line).with_context(|| format!("{:?} said {line:?}", self.name))
            }
            Ok(Ok(None)) => bail!("{:?} ended: it says above why", self.name),
            Ok(Err(error)) => Err(error).with_context(|| format!("cannot hear {:?}", self.name)),
            Err(_) => bail!("{:?} said nothing for {:?}", self.name, time + PATIENCE),
        }
    }

    /// Processor time that it has used so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let pid = self
            .child
            .id()
            .with_context(|| format!("{:?} has ended", self.name))?;
        cpu::used_by(pid)
    }
}
