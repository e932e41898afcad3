//! One measurement: hub, agent and load as processes of their own at the ends of the link, fresh each time.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adit_bench::certificates::{self, AGENT};
use adit_bench::workload::{Measured, Workload};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::ends::{Ends, HUB};
use super::link::{Conditions, Counts};
use super::variant::Variant;
use super::wire::Traffic;
use crate::node::{Begun, HubPorts};
use crate::processes::Process;

/// How long the first call of a load may take, and the load's warm-up.
const UNTIL_BEGUN: Duration = Duration::from_secs(25);

/// Two namespaces with a link between them, and what the processes there need.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) ends: Ends,
    folder: PathBuf,
}

/// What is measured.
#[derive(Clone, Debug)]
pub(crate) struct Measurement {
    pub(crate) variant: Variant,
    pub(crate) conditions: Conditions,
    pub(crate) seed: u64,
    pub(crate) load: Workload,
    pub(crate) time: Duration,
    pub(crate) patience: Duration,
}

/// What came out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) measured: Measured,
    /// What the link carried in the measured time: hub → agent, and back. IP packets, and their bytes.
    pub(crate) link: [Carried; 2],
    /// Processor time of hub and agent in the measured time.
    pub(crate) cpu: [Duration; 2],
    /// Of the link's whole life, the handshake included.
    pub(crate) traffic: Traffic,
}

/// Packets that were sent into one direction of the link, and their bytes.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Carried {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl Lab {
    /// Certificates and logs are in `folder`.
    pub(crate) async fn build(folder: &Path, conditions: Conditions, seed: u64) -> anyhow::Result<Self> {
        certificates::make_at(folder, IpAddr::V4(HUB), [AGENT.parse()?])?;
        Ok(Self {
            ends: Ends::join(conditions, seed, folder).await?,
            folder: folder.to_owned(),
        })
    }

    /// Its processes are gone afterwards, and the next one starts anew.
    pub(crate) async fn measure(&self, what: &Measurement) -> anyhow::Result<Outcome> {
        if let Some(controller) = what.variant.tcp() {
            self.ends.set_tcp(controller)?;
        }
        self.ends.replace_link(what.conditions, what.seed)?;
        let mut hub = self.start_hub(&what.variant)?;
        let HubPorts { agents, clients, .. } = hub.hear(Duration::ZERO).await?;
        let agent = self.start_agent(&what.variant, &agents.to_string())?;
        let mut load = self.start(
            &[],
            "load",
            &[
                "workload",
                "--target",
                &clients.to_string(),
                "--load",
                &what.load.to_string(),
                "--seconds",
                &what.time.as_secs_f64().to_string(),
                "--patience",
                &what.patience.as_secs_f64().to_string(),
            ],
        )?;
        let measured = self.watch(what, &hub, &agent, &mut load).await;
        measured.with_context(|| {
            format!(
                "the hub says {}\nthe agent says {}",
                hub.last_lines(),
                agent.last_lines()
            )
        })
    }

    async fn watch(
        &self,
        what: &Measurement,
        hub: &Process,
        agent: &Process,
        load: &mut Process,
    ) -> anyhow::Result<Outcome> {
        let _: Begun = load.hear(UNTIL_BEGUN).await?;
        let before = (self.ends.traffic()?, hub.cpu()?, agent.cpu()?);
        let _: Begun = load.hear(what.time).await?;
        let after = (self.ends.traffic()?, hub.cpu()?, agent.cpu()?);
        let measured = load.hear(what.patience).await?;
        let carried = |direction: usize| {
            let counts = |traffic: &Traffic| traffic.directions[direction];
            Carried::between(counts(&before.0), counts(&after.0))
        };
        Ok(Outcome {
            measured,
            link: [carried(0), carried(1)],
            cpu: [after.1.saturating_sub(before.1), after.2.saturating_sub(before.2)],
            traffic: self.ends.traffic()?,
        })
    }

    fn start_hub(&self, variant: &Variant) -> anyhow::Result<Process> {
        let listen = HUB.to_string();
        self.start(
            &[],
            "hub",
            &[
                "hub",
                "--certs",
                &self.folder.to_string_lossy(),
                "--congestion",
                &variant.congestion().to_string(),
                "--listen",
                &listen,
            ],
        )
    }

    fn start_agent(&self, variant: &Variant, hub: &str) -> anyhow::Result<Process> {
        self.start(
            &self.ends.at_agent(),
            "agent",
            &[
                "agent",
                "--certs",
                &self.folder.to_string_lossy(),
                "--congestion",
                &variant.congestion().to_string(),
                "--hub",
                hub,
                "--carrier",
                variant.carrier().as_str(),
            ],
        )
    }

    fn start(&self, before: &[OsString], name: &str, args: &[&str]) -> anyhow::Result<Process> {
        let args = ["--workers", "1"].iter().chain(args);
        Process::start_after(before, args, &self.folder.join(name).with_extension("log"))
    }
}

impl Carried {
    fn between(before: Counts, after: Counts) -> Self {
        Self {
            packets: after.sent - before.sent,
            bytes: after.sent_bytes - before.sent_bytes,
        }
    }
}
