//! One measurement: a tunnel and a load as processes of their own at the ends of the link, fresh each time.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adit_bench::certificates::{self, AGENT};
use adit_bench::cpu;
use adit_bench::workload::{Measured, Workload};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::ends::{Ends, HUB};
use super::link::{Conditions, Counts};
use super::tunnel::{Tunnel, start_node};
use super::variant::Variant;
use super::wire::Traffic;
use crate::node::Begun;
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

    /// Whether something that is not of this project starts, and a call passes it: over the link as it is now.
    pub(crate) async fn try_out(&self, variant: &Variant) -> anyhow::Result<()> {
        let mut tunnel = Tunnel::start(&self.ends, &self.folder, variant).await?;
        let ready = tunnel.ready().await;
        let ready = ready.map_err(|error| tunnel.explain(&error));
        tunnel.end().await?;
        ready.with_context(|| format!("{variant} does not work"))
    }

    /// Its processes are gone afterwards, and the next one starts anew.
    pub(crate) async fn measure(&self, what: &Measurement) -> anyhow::Result<Outcome> {
        if let Some(controller) = what.variant.tcp() {
            self.ends.set_tcp(controller)?;
        }
        self.ends.replace_link(what.conditions, what.seed)?;
        let mut tunnel = Tunnel::start(&self.ends, &self.folder, &what.variant).await?;
        let measured = self.load(what, &mut tunnel).await;
        let measured = measured.map_err(|error| tunnel.explain(&error));
        tunnel.end().await?;
        measured
    }

    async fn load(&self, what: &Measurement, tunnel: &mut Tunnel) -> anyhow::Result<Outcome> {
        tunnel.ready().await?;
        let mut load = start_node(
            &[],
            &self.folder,
            "load",
            &[
                "workload",
                "--target",
                &tunnel.clients().to_string(),
                "--load",
                &what.load.to_string(),
                "--seconds",
                &what.time.as_secs_f64().to_string(),
                "--patience",
                &what.patience.as_secs_f64().to_string(),
            ],
        )?;
        let pids = tunnel.pids()?;
        tokio::select! {
            // First, because it is why whatever else failed. Calls alone may fail until the time is over, as a result.
            biased;
            ended = tunnel.ended() => Err(ended),
            measured = self.watch(what, &pids, &mut load) => measured,
        }
    }

    async fn watch(
        &self,
        what: &Measurement,
        tunnel: &[Vec<u32>; 2],
        load: &mut Process,
    ) -> anyhow::Result<Outcome> {
        let _: Begun = load.hear(UNTIL_BEGUN).await?;
        let before = (self.ends.traffic()?, used_by(tunnel)?);
        let _: Begun = load.hear(what.time).await?;
        let after = (self.ends.traffic()?, used_by(tunnel)?);
        let measured = load.hear(what.patience).await?;
        let carried = |direction: usize| {
            let counts = |traffic: &Traffic| traffic.directions[direction];
            Carried::between(counts(&before.0), counts(&after.0))
        };
        Ok(Outcome {
            measured,
            link: [carried(0), carried(1)],
            cpu: [0, 1].map(|end| after.1[end].saturating_sub(before.1[end])),
            traffic: self.ends.traffic()?,
        })
    }
}

/// Processor time that the processes of each end have used so far.
fn used_by(ends: &[Vec<u32>; 2]) -> anyhow::Result<[Duration; 2]> {
    let mut used = [Duration::ZERO; 2];
    for (used, pids) in used.iter_mut().zip(ends) {
        for pid in pids {
            *used += cpu::used_by(*pid)?;
        }
    }
    Ok(used)
}

impl Carried {
    fn between(before: Counts, after: Counts) -> Self {
        Self {
            packets: after.sent - before.sent,
            bytes: after.sent_bytes - before.sent_bytes,
        }
    }
}
