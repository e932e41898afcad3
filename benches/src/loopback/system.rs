//! The processes that wait for load, and the load itself.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use adit_bench::certificates;
use adit_bench::load::{Load, Outcome};
use adit_certs::AgentId;
use adit_transport::{Carrier, Congestion};
use anyhow::Context as _;

use super::network::Network;
use super::veth::Flow;
use super::way::{Service, Task, Way, agent_id};
use crate::node::{Begun, HubPorts};
use crate::processes::Process;

/// The id of agents that come and go.
const VISITOR: &str = "visitor";

/// The share of the measured time after which what crossed the network is counted.
const COUNTED: f64 = 0.9;

/// Who is behind the load generator, in the order in which their costs are told.
pub(super) const ROLES: [&str; 3] = ["hub", "agent", "server"];

/// What one measurement came to.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) outcome: Outcome,
    /// Processor time of those of [`ROLES`] that had a part in it.
    pub(super) cpu: [Option<Duration>; 3],
    /// What crossed the network in most of the measured time: from clients and hub, and to them.
    pub(super) wire: Option<[Flow; 2]>,
}

/// A server, a hub, and an agent for each way through it. Who has nothing to do costs next to nothing.
pub(super) struct System<'a> {
    network: &'a Network,
    folder: &'a Path,
    workers: usize,
    server: Process,
    direct: SocketAddr,
    hub: Process,
    ports: HubPorts,
    agents: Vec<(Carrier, Service, Process)>,
}

/// Makes the certificates of everybody.
pub(super) fn certify(folder: &Path, network: &Network, ways: &[Way]) -> anyhow::Result<()> {
    let agents = ways.iter().filter_map(|way| match way {
        Way::Direct => None,
        Way::Tunnel { carrier, service } => Some(agent_id(*carrier, *service)),
    });
    let ids = agents.chain([VISITOR.to_owned()]).map(|id| id.parse());
    let ids = ids.collect::<Result<Vec<AgentId>, _>>()?;
    certificates::make_at(folder, network.near(), ids)
}

impl<'a> System<'a> {
    pub(super) async fn start(
        network: &'a Network,
        folder: &'a Path,
        workers: usize,
        ways: &[Way],
        congestion: Congestion,
    ) -> anyhow::Result<Self> {
        let far = network.at_far();
        let congestion = congestion.to_string();
        let certs = folder.to_string_lossy();
        let start =
            |before: &[OsString], name: &str, args: &[&str]| start(folder, workers, before, name, args);

        let listen = network.far().to_string();
        let mut server = start(&far, "server", &["server", "--listen", &listen])?;
        let direct: SocketAddr = server.hear(Duration::ZERO).await?;
        let listen = network.near().to_string();
        let secured = ["--certs", &certs, "--congestion", &congestion];
        let mut hub = start(
            &[],
            "hub",
            &[&["hub", "--listen", &listen], &secured[..]].concat(),
        )?;
        let ports: HubPorts = hub.hear(Duration::ZERO).await?;
        let to_hub = ports.agents.to_string();
        let upstream = format!("http://{direct}");
        let mut agents = Vec::new();
        for way in ways {
            let Way::Tunnel { carrier, service } = *way else {
                continue;
            };
            let id = agent_id(carrier, service);
            let mut args = vec!["agent", "--id", &id, "--hub", &to_hub];
            args.extend(["--carrier", carrier.as_str()]);
            args.extend(secured);
            if service == Service::Upstream {
                args.extend(["--upstream", &upstream]);
            }
            agents.push((carrier, service, start(&far, &id, &args)?));
        }
        Ok(Self {
            network,
            folder,
            workers,
            server,
            direct,
            hub,
            ports,
            agents,
        })
    }

    /// Which of [`ROLES`] have a part in it.
    fn behind(&self, task: Task) -> [Option<&Process>; 3] {
        match task {
            Task::Handshakes { .. } => [Some(&self.hub), None, None],
            Task::Load { way: Way::Direct, .. } => [None, None, Some(&self.server)],
            Task::Load {
                way: Way::Tunnel { carrier, service },
                ..
            } => {
                let mut agents = self.agents.iter();
                let agent = agents.find(|agent| (agent.0, agent.1) == (carrier, service));
                let server = (service == Service::Upstream).then_some(&self.server);
                [Some(&self.hub), agent.map(|agent| &agent.2), server]
            }
        }
    }

    fn generator(&self, task: Task, time: Duration) -> anyhow::Result<Process> {
        let time = time.as_secs_f64().to_string();
        match task {
            Task::Load { load, way } => {
                let (target, agent) = match way {
                    // Nobody is routed there, and all requests are to be as long.
                    Way::Direct => (self.direct, agent_id(Carrier::Quic, Service::InProcess)),
                    Way::Tunnel { carrier, service } => (self.ports.clients, agent_id(carrier, service)),
                };
                let target = target.to_string();
                let mut args = vec!["load", "--target", &target, "--agent", &agent, "--seconds", &time];
                let concurrency = match load {
                    Load::Calls { concurrency } => Some(concurrency.to_string()),
                    Load::Download => None,
                };
                if let Some(concurrency) = &concurrency {
                    args.extend(["--concurrency", concurrency]);
                }
                start(self.folder, self.workers, &[], "load", &args)
            }
            Task::Handshakes { carrier, at_a_time } => {
                let (hub, at_a_time) = (self.ports.agents.to_string(), at_a_time.to_string());
                let certs = self.folder.to_string_lossy();
                let mut args = vec!["handshakes", "--id", VISITOR, "--certs", &certs, "--hub", &hub];
                args.extend(["--carrier", carrier.as_str(), "--at-a-time", &at_a_time]);
                args.extend(["--seconds", &time]);
                start(self.folder, self.workers, &self.network.at_far(), VISITOR, &args)
            }
        }
    }

    /// Has it done, and measures what it costs everybody.
    pub(super) async fn measure(&self, task: Task, time: Duration) -> anyhow::Result<Measured> {
        let behind = self.behind(task);
        let measured = self.watch(self.generator(task, time)?, behind, time).await;
        measured.with_context(|| {
            let mut said = format!("{}, {}", task.what(), task.way());
            for (role, process) in ROLES.iter().zip(behind) {
                if let Some(process) = process {
                    let _ = write!(said, "\nthe {role} says {}", process.last_lines());
                }
            }
            said
        })
    }

    async fn watch(
        &self,
        mut generator: Process,
        behind: [Option<&Process>; 3],
        time: Duration,
    ) -> anyhow::Result<Measured> {
        let _: Begun = generator.hear(Duration::ZERO).await?;
        let begun = Instant::now();
        let cpu_before = cpu(behind)?;
        // Reading takes its time, on a busy machine above all: what went by is divided by the time between both readings,
        // and both are made while the load runs.
        let wire_before = self.network.read()?;
        tokio::time::sleep_until((begun + time.mul_f64(COUNTED)).into()).await;
        let wire_after = self.network.read()?;
        let outcome = generator.hear(time).await?;
        let cpu_after = cpu(behind)?;
        let mut used = [None; 3];
        for ((used, before), after) in used.iter_mut().zip(cpu_before).zip(cpu_after) {
            *used = before
                .zip(after)
                .map(|(before, after)| after.saturating_sub(before));
        }
        let wire = wire_before.zip(wire_after);
        Ok(Measured {
            outcome,
            cpu: used,
            wire: wire.map(|(before, after)| [after[0] - before[0], after[1] - before[1]]),
        })
    }
}

fn start(
    folder: &Path,
    workers: usize,
    before: &[OsString],
    name: &str,
    args: &[&str],
) -> anyhow::Result<Process> {
    let workers = workers.to_string();
    let args = [&["--workers", &workers], args].concat();
    Process::start_after(before, args, &folder.join(name).with_extension("log"))
}

fn cpu(processes: [Option<&Process>; 3]) -> anyhow::Result<[Option<Duration>; 3]> {
    let mut used = [None; 3];
    for (used, process) in used.iter_mut().zip(processes) {
        *used = process.map(Process::cpu).transpose()?;
    }
    Ok(used)
}
