//! What the measurements of many agents stand on: their certificates, the process of a hub, and one process that is all of
//! the agents.

use std::ffi::OsString;
use std::fs;
use std::future::Future;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adit_bench::certificates;
use adit_bench::open_files;
use adit_transport::Congestion;
use anyhow::Context as _;
use tempfile::TempDir;

use crate::node::{Begun, HubPorts, agent_id};
use crate::processes::Process;

/// Files of a process beside its agents'.
const OTHER_FILES: u64 = 64;

/// Files of an agent: its socket, and the one by which the kernel tells it of changes to the network.
const FILES_OF_EACH: u64 = 2;

/// What a certificate takes to be read, at the most.
const EACH_CERTIFICATE: Duration = Duration::from_millis(20);

/// For the agents' process. Each of its QUIC endpoints has a buffer of 3 MiB of which little is ever used, and mimalloc,
/// where it is the allocator, has the kernel make all of it real: thousands of them then keep the machine busy with that.
const NO_HUGE_PAGES: (&str, &str) = ("MIMALLOC_ALLOW_THP", "0");

/// How long the agents have to take their leave.
pub(crate) const LEAVE_PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(crate) struct GroundArgs {
    /// Threads of the hub: 1 is tokio's current-thread runtime
    #[arg(long, default_value = "1")]
    pub(crate) workers: NonZeroUsize,
    /// Threads of the agents' process
    #[arg(long, default_value = "1")]
    pub(crate) agent_workers: NonZeroUsize,
    /// Congestion controller of the links' two ends: bounded, bbr, cubic or newreno
    #[arg(long, default_value_t)]
    pub(crate) congestion: Congestion,
    /// A folder for the logs of hubs and agents, which are not kept otherwise
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
}

/// Certificates and a place for logs. With it go the certificates.
#[derive(Debug)]
pub(crate) struct Ground<'a> {
    args: &'a GroundArgs,
    certs: TempDir,
}

/// The process of a hub that listens.
#[derive(Debug)]
pub(crate) struct HubProcess {
    pub(crate) process: Process,
    pub(crate) ports: HubPorts,
    log: PathBuf,
}

impl<'a> Ground<'a> {
    /// For as many agents at the most, whose certificates are issued now.
    pub(crate) fn new(args: &'a GroundArgs, agents: u32) -> anyhow::Result<Self> {
        open_files::allow(u64::from(agents) * FILES_OF_EACH + OTHER_FILES)?;
        let certs = tempfile::tempdir().context("cannot make a temporary directory for the certificates")?;
        progress(&format!("issuing {agents} certificates"));
        let ids = (0..agents).map(agent_id).collect::<anyhow::Result<Vec<_>>>()?;
        certificates::make_for(certs.path(), ids)?;
        let ground = Self { args, certs };
        let logs = ground.logs();
        fs::create_dir_all(logs).with_context(|| format!("cannot make {}", logs.display()))?;
        Ok(ground)
    }

    /// A hub at free ports, with a log of this name.
    pub(crate) async fn hub(&self, log: &str) -> anyhow::Result<HubProcess> {
        self.start_hub(log, &[]).await
    }

    /// One that drains before it ends, at the ports of an earlier one if there was any.
    pub(crate) async fn draining_hub(&self, log: &str, at: Option<&HubPorts>) -> anyhow::Result<HubProcess> {
        let mut more = vec!["--drain".to_owned()];
        if let Some(at) = at {
            more.push(format!("--at={}", serde_json::to_string(at)?));
        }
        self.start_hub(log, &more).await
    }

    async fn start_hub(&self, log: &str, more: &[String]) -> anyhow::Result<HubProcess> {
        let log = self.logs().join(log);
        let node = self.node("hub", self.args.workers, more);
        let mut process = Process::start_logging(node, &[], &log)?;
        let ports = process.hear(Duration::ZERO).await?;
        Ok(HubProcess { process, ports, log })
    }

    /// So many agents, of which the first dials at once and the last after this time.
    pub(crate) async fn agents(&self, hub: &HubPorts, count: u32, over: Duration) -> anyhow::Result<Process> {
        progress(&format!("starting {count} agents"));
        let these = [
            format!("--hub={}", hub.agents),
            format!("--agents={count}"),
            format!("--over={}", humantime::format_duration(over)),
        ];
        let node = self.node("fleet", self.args.agent_workers, &these);
        let mut agents = Process::start_logging(node, &[NO_HUGE_PAGES], &self.logs().join("agents.log"))?;
        let _: Begun = agents.hear(EACH_CERTIFICATE * count).await?;
        Ok(agents)
    }

    fn node(&self, role: &str, workers: NonZeroUsize, more: &[String]) -> Vec<OsString> {
        let mut all: Vec<OsString> = vec![format!("--workers={workers}").into(), role.into()];
        all.push(format!("--congestion={}", self.args.congestion).into());
        all.extend(["--certs".into(), self.certs.path().into()]);
        all.extend(more.iter().map(OsString::from));
        all
    }

    fn logs(&self) -> &Path {
        self.args.logs.as_deref().unwrap_or(self.certs.path())
    }
}

impl HubProcess {
    /// Handshakes that it has refused so far, because too many were under way: their agents dialled again.
    pub(crate) fn refused(&self) -> anyhow::Result<usize> {
        let log = &self.log;
        let text = fs::read_to_string(log).with_context(|| format!("cannot read {}", log.display()))?;
        Ok(text.matches("too many handshakes").count())
    }
}

/// Runs a measurement, which only looks on: the work is the processes'.
pub(crate) fn block_on<F: Future>(measurement: F) -> anyhow::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    Ok(runtime.block_on(measurement))
}

pub(crate) fn progress(what: &str) {
    // Nobody is left to be told that standard error is closed.
    let _ = writeln!(std::io::stderr(), "{what}");
}
