//! The measured processes, seen from the one that starts them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use adit_bench::cpu;
use adit_bench::memory::{self, Memory};
use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long a process may take to say what it is asked for, beside the time that it measures.
const PATIENCE: Duration = Duration::from_secs(30);

/// So many lines of a process's log are shown when it fails.
const LAST_LINES: usize = 10;

/// A process of any program. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    child: Child,
    /// Where its log goes, instead of to this process's standard error.
    log: Option<PathBuf>,
}

/// This program again, in another role. It is killed when this is dropped, and ends by itself when this process does.
#[derive(Debug)]
pub(crate) struct Process {
    program: Program,
    /// Its input, with which it ends. Apart, or whoever waits for its end would close it.
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    /// With all that it says in `log`, and with no input. What it is called in messages is `name`.
    #[cfg(target_os = "linux")]
    pub(crate) fn start(name: &str, mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let file = file_for(log)?;
        let both = file
            .try_clone()
            .with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(both)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name} by {:?}", command.as_std()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: Some(log.to_owned()),
        })
    }

    /// Waits for its end, which is the error.
    #[cfg(target_os = "linux")]
    pub(crate) async fn ended(&mut self) -> anyhow::Error {
        match self.child.wait().await {
            Ok(status) => anyhow::anyhow!("{:?} ended ({status})", self.name),
            Err(error) => {
                anyhow::Error::new(error).context(format!("cannot tell whether {:?} runs", self.name))
            }
        }
    }

    /// SIGKILL: it has no last word.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        let killed = self.child.kill().await;
        killed.with_context(|| format!("cannot kill {:?}", self.name))
    }

    /// Processor time that it has used so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu::used_by(self.pid()?)
    }

    /// Memory that it holds.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        memory::of(self.pid()?)
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        let pid = self.child.id();
        pid.with_context(|| format!("{:?} has ended", self.name))
    }

    /// The end of its log, for a message.
    pub(crate) fn last_lines(&self) -> String {
        let Some(log) = &self.log else {
            return "above why".to_owned();
        };
        let text = fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        format!("in {}:\n{}", log.display(), last.join("\n"))
    }
}

impl Process {
    pub(crate) fn start<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> anyhow::Result<Self> {
        Self::spawn(&[], args, &[], None)
    }

    /// By a command that becomes it, such as one that enters a namespace, and with a file for its log.
    #[cfg(target_os = "linux")]
    pub(crate) fn start_after<A: Into<OsString>>(
        before: &[OsString],
        args: impl IntoIterator<Item = A>,
        log: &Path,
    ) -> anyhow::Result<Self> {
        Self::spawn(before, args, &[], Some(log.to_owned()))
    }

    /// With variables of its environment, and a file for its log, which is too long to be shown.
    pub(crate) fn start_logging<A: Into<OsString>>(
        args: impl IntoIterator<Item = A>,
        environment: &[(&str, &str)],
        log: &Path,
    ) -> anyhow::Result<Self> {
        Self::spawn(&[], args, environment, Some(log.to_owned()))
    }

    fn spawn<A: Into<OsString>>(
        before: &[OsString],
        args: impl IntoIterator<Item = A>,
        environment: &[(&str, &str)],
        log: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        let name = args
            .iter()
            .map(|arg| arg.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ");
        let program = std::env::current_exe().context("cannot find this program's file")?;
        let stderr = match &log {
            Some(path) => file_for(path)?.into(),
            None => Stdio::inherit(),
        };
        let mut command = match before {
            [] => Command::new(&program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(&program);
                command
            }
        };
        let mut child = command
            .arg("node")
            .args(args)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {} node {name}", program.display()))?;
        let input = child.stdin.take();
        let stdout = child
            .stdout
            .take()
            .context("a process was started without a standard output")?;
        Ok(Self {
            program: Program { name, child, log },
            input,
            lines: BufReader::new(stdout).lines(),
        })
    }

    /// The next thing that it says, which may take it `time` and some patience.
    pub(crate) async fn hear<T: DeserializeOwned>(&mut self, time: Duration) -> anyhow::Result<T> {
        let said = tokio::time::timeout(time + PATIENCE, self.lines.next_line()).await;
        match said {
            Ok(Ok(Some(line))) => {
                serde_json::from_str(&line).with_context(|| format!("{:?} said {line:?}", self.program.name))
            }
            Ok(Ok(None)) => bail!(
                "{:?} ended: it says {}",
                self.program.name,
                self.program.last_lines()
            ),
            Ok(Err(error)) => Err(error).with_context(|| format!("cannot hear {:?}", self.program.name)),
            Err(_) => bail!(
                "{:?} said nothing for {:?}; it says {}",
                self.program.name,
                time + PATIENCE,
                self.program.last_lines()
            ),
        }
    }

    /// Has it end by itself, which may take it `time` and some patience.
    pub(crate) async fn end(mut self, time: Duration) -> anyhow::Result<()> {
        drop(self.input.take());
        match tokio::time::timeout(time + PATIENCE, self.program.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => bail!(
                "{:?} ended with {status}: it says {}",
                self.program.name,
                self.program.last_lines()
            ),
            Ok(Err(error)) => Err(error).with_context(|| format!("cannot wait for {:?}", self.program.name)),
            Err(_) => bail!("{:?} did not end within {:?}", self.program.name, time + PATIENCE),
        }
    }

    /// It, as any program.
    #[cfg(target_os = "linux")]
    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// Waits for its end, which is the error.
    #[cfg(target_os = "linux")]
    pub(crate) async fn ended(&mut self) -> anyhow::Error {
        self.program.ended().await
    }

    /// SIGKILL: it has no last word.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        self.program.kill().await
    }

    /// Processor time that it has used so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        self.program.cpu()
    }

    /// Memory that it holds.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        self.program.memory()
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.program.pid()
    }

    /// The end of its log, for a message.
    pub(crate) fn last_lines(&self) -> String {
        self.program.last_lines()
    }
}

fn file_for(log: &Path) -> anyhow::Result<File> {
    File::create(log).with_context(|| format!("cannot write {}", log.display()))
}
