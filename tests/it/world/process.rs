//! The command as a process, whose log is read as it comes. It is killed when it is dropped.

use std::net::SocketAddr;
use std::process::{ExitStatus, Output, Stdio};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::{World, soon};

/// A process of the command.
pub(crate) struct Process {
    child: Child,
    /// What it has written so far, standard output and standard error.
    lines: watch::Receiver<Vec<String>>,
}

/// A hub as a process, and where it listens.
pub(crate) struct HubProcess {
    pub(crate) process: Process,
    pub(crate) agents: SocketAddr,
    pub(crate) clients: SocketAddr,
    pub(crate) admin: SocketAddr,
    tcp: Option<SocketAddr>,
}

/// A folder that there is not.
pub(crate) const NOWHERE: &str = "/nonexistent";

/// The command, without variables of this process that would change what it does.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    for (name, _) in std::env::vars_os() {
        let shown = name.to_string_lossy().to_uppercase();
        if shown.starts_with("ADIT_") || shown.ends_with("_PROXY") || shown == "SSLKEYLOGFILE" {
            command.env_remove(name);
        }
    }
    // Nor what earlier calls have learnt of servers that are gone.
    command.env("ADIT_CALL_NO_CACHE", "true");
    // Nor the settings of whoever runs the tests.
    command.env("XDG_CONFIG_HOME", NOWHERE);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// What a command that ends by itself has printed.
pub(crate) async fn output(arguments: &[&str]) -> Output {
    output_with(arguments, &[]).await
}

/// The same, with environment variables.
pub(crate) async fn output_with(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = command(arguments);
    command.envs(environment.iter().copied());
    soon(command.output()).await.unwrap()
}

/// The same, with standard input.
pub(crate) async fn output_of_input(arguments: &[&str], input: &str) -> Output {
    let mut child = command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may have seen enough before the end.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    soon(child.wait_with_output()).await.unwrap()
}

/// What is printed about a failure with `code`.
pub(crate) async fn fails(arguments: &[&str], code: i32) -> String {
    let output = output(arguments).await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    stderr
}

/// What a command does whose output nobody reads.
pub(crate) async fn without_reader(arguments: &[&str]) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = command(arguments);
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    soon(child.wait_with_output()).await.unwrap()
}

impl Process {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// With environment variables.
    pub(crate) fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = command(arguments)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = watch::channel(Vec::new());
        tokio::spawn(read(child.stdout.take().unwrap(), sender.clone()));
        tokio::spawn(read(child.stderr.take().unwrap(), sender));
        Self { child, lines }
    }

    /// The first line that has all of `words`, waited for.
    pub(crate) async fn says(&self, words: &[&str]) -> String {
        self.says_times(words, 1).await
    }

    /// The last of so many lines that have all of `words`, waited for.
    pub(crate) async fn says_times(&self, words: &[&str], times: usize) -> String {
        let mut lines = self.lines.clone();
        let nth = |lines: &Vec<String>| {
            let mut with = lines
                .iter()
                .filter(|line| words.iter().all(|word| line.contains(word)));
            with.nth(times - 1).cloned()
        };
        match tokio::time::timeout(super::PATIENCE, lines.wait_for(|lines| nth(lines).is_some())).await {
            Ok(Ok(lines)) => nth(&lines).unwrap(),
            _ => panic!("{words:?} is not said {times} times: {:#?}", *self.lines.borrow()),
        }
    }

    /// How many lines so far have all of `words`.
    pub(crate) fn said(&self, words: &[&str]) -> usize {
        let lines = self.lines.borrow();
        lines
            .iter()
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .count()
    }

    /// SIGKILL: it has no last word.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM, and how it ended.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM").await;
        self.ended().await
    }

    /// Sends a signal, such as `INT`.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.await.unwrap().success());
    }

    /// How it ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        soon(self.child.wait()).await.unwrap()
    }

    /// Memory that it holds, in bytes (VmRSS of proc(5)).
    pub(crate) fn memory(&self) -> usize {
        let id = self.child.id().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    /// Whether it runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl HubProcess {
    /// On free ports, with more arguments if wanted.
    pub(crate) async fn start(world: &World, arguments: &[&str]) -> Self {
        let ports = ["127.0.0.1:0"; 3];
        Self::start_on(world, ports, arguments).await
    }

    /// On the ports of an earlier one.
    pub(crate) async fn again(&self, world: &World, arguments: &[&str]) -> Self {
        let ports = [self.agents, self.clients, self.admin].map(|address| address.to_string());
        let [agents, clients, admin] = &ports;
        Self::start_on(world, [agents, clients, admin], arguments).await
    }

    async fn start_on(world: &World, [agents, clients, admin]: [&str; 3], arguments: &[&str]) -> Self {
        let mut all = vec!["hub", "--certs", world.dir()];
        all.extend(["--agents", agents, "--clients", clients, "--admin", admin]);
        all.extend(arguments);
        Self::listening(Process::start(&all)).await
    }

    /// Waits until its ports are known.
    pub(crate) async fn listening(process: Process) -> Self {
        let line = process.says(&["the hub listens"]).await;
        let told = |name: &str| {
            let value = line.split(' ').find_map(|field| field.strip_prefix(name));
            value.map(|value| value.trim_matches(['[', ']']).parse().unwrap())
        };
        let address = |name: &str| told(name).unwrap_or_else(|| panic!("no {name} in {line}"));
        Self {
            agents: address("agents="),
            clients: address("clients="),
            admin: address("admin="),
            tcp: told("tcp="),
            process,
        }
    }

    /// Its port for raw TCP.
    pub(crate) fn tcp(&self) -> SocketAddr {
        self.tcp.expect("it has none")
    }

    /// An agent of this hub as a process, connected or not yet.
    pub(crate) fn agent(&self, world: &World, id: &str, arguments: &[&str]) -> Process {
        let hub = self.agents.to_string();
        Process::start(&world.agent_arguments(id, &hub, arguments))
    }

    /// Waits until `id` is connected.
    pub(crate) async fn has(&self, id: &str) {
        self.process
            .says(&["an agent is connected", &format!("agent={id} ")])
            .await;
    }
}

async fn read(from: impl AsyncRead + Unpin, lines: watch::Sender<Vec<String>>) {
    let mut from = BufReader::new(from).lines();
    while let Ok(Some(line)) = from.next_line().await {
        lines.send_modify(|lines| lines.push(line));
    }
}
