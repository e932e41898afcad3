//! `adit-bench storm`: a hub that is started again, and a thousand agents that come back to it.
//!
//! The processes are those of `fleet`. The hub is stopped in order once, and killed once; each time another one takes its place
//! on the same ports, and is asked how many agents it has until it has all of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use adit_bench::certificates;
use adit_bench::figure::Figure;
use adit_bench::machine::Machine;
use adit_bench::open_files;
use adit_transport::Congestion;
use anyhow::{Context as _, ensure};

use crate::fleet::{EACH_CERTIFICATE, FILES_OF_EACH, LEAVE_PATIENCE, NO_HUGE_PAGES, OTHER_FILES, progress};
use crate::node::{Begun, HubPorts, agent_id};
use crate::operator::Operator;
use crate::processes::Process;

/// How often the hub is asked how many agents it has.
const POLL: Duration = Duration::from_millis(20);

/// How long the agents have to come.
const PATIENCE: Duration = Duration::from_secs(120);

/// A line of the histogram.
const STEP: Duration = Duration::from_millis(500);

/// The longest bar of it.
const BAR: u32 = 50;

#[derive(Debug, clap::Args)]
pub(crate) struct StormArgs {
    /// How many agents
    #[arg(long, default_value = "1000")]
    agents: NonZeroU32,
    /// How long they are there before the hub goes: after 30 s an agent takes its link for a stable one, and dials soon
    #[arg(long, value_parser = humantime::parse_duration, default_value = "35s")]
    idle: Duration,
    /// How long there is no hub after one was killed
    #[arg(long, value_parser = humantime::parse_duration, default_value = "1s")]
    down: Duration,
    /// Threads of the hub: 1 is tokio's current-thread runtime
    #[arg(long, default_value = "1")]
    workers: NonZeroUsize,
    /// Threads of the agents' process
    #[arg(long, default_value = "1")]
    agent_workers: NonZeroUsize,
    /// Congestion controller of the links' two ends: bbr, cubic or newreno
    #[arg(long, default_value_t)]
    congestion: Congestion,
    /// A folder for the logs of hubs and agents, which are not kept otherwise
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
}

/// How a hub goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Drained,
    Killed,
}

/// How the agents came back.
#[derive(Debug)]
struct Return {
    way: Way,
    /// From the word to go, or the kill, until the new hub listened.
    down: Duration,
    /// How many more agents were there, and when, since then.
    arrivals: Vec<(Duration, u32)>,
    /// Links by their carriers, at the end.
    carriers: BTreeMap<String, usize>,
    /// Handshakes that the new hub refused, because too many were under way.
    refused: usize,
}

struct Lab<'a> {
    args: &'a StormArgs,
    certs: &'a Path,
    logs: &'a Path,
    hubs: u32,
}

/// Measures and reports, on standard output; progress goes to standard error. Fails where an agent does not come back.
pub(crate) fn run(args: &StormArgs) -> anyhow::Result<()> {
    let agents = args.agents.get();
    open_files::allow(u64::from(agents) * FILES_OF_EACH + OTHER_FILES)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let machine = Machine::describe();
    let files = tempfile::tempdir().context("cannot make a temporary directory for the certificates")?;
    progress(&format!("issuing {agents} certificates"));
    let ids = (0..agents).map(agent_id).collect::<anyhow::Result<Vec<_>>>()?;
    certificates::make_for(files.path(), ids)?;
    let logs = args.logs.as_deref().unwrap_or(files.path());
    fs::create_dir_all(logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let lab = Lab {
        args,
        certs: files.path(),
        logs,
        hubs: 0,
    };
    let returns = runtime.block_on(lab.measure())?;
    report(&mut io::stdout().lock(), &machine, args, &returns)?;
    Ok(())
}

impl Lab<'_> {
    async fn measure(mut self) -> anyhow::Result<Vec<Return>> {
        let agents = self.args.agents.get();
        let mut hub = self.hub(None)?;
        let ports: HubPorts = hub.hear(Duration::ZERO).await?;
        progress(&format!("starting {agents} agents"));
        let these = [
            format!("--hub={}", ports.agents),
            format!("--agents={agents}"),
            "--over=0s".to_owned(),
        ];
        let fleet = self.node("fleet", self.args.agent_workers, &these);
        let log = self.logs.join("agents.log");
        let mut fleet = Process::start_logging(fleet, &[NO_HUGE_PAGES], &log)?;
        let _: Begun = fleet.hear(EACH_CERTIFICATE * agents).await?;
        arrivals(&ports, agents).await?;
        let mut returns = Vec::new();
        for way in [Way::Drained, Way::Killed] {
            progress(&format!(
                "all are attached; the hub is {} after {:?}",
                way.name(),
                self.args.idle
            ));
            tokio::time::sleep(self.args.idle).await;
            let gone = Instant::now();
            match way {
                Way::Drained => hub.end(Duration::ZERO).await?,
                Way::Killed => {
                    hub.kill().await?;
                    tokio::time::sleep(self.args.down).await;
                }
            }
            hub = self.hub(Some(&ports))?;
            let _: HubPorts = hub.hear(Duration::ZERO).await?;
            let down = gone.elapsed();
            let (arrivals, carriers) = arrivals(&ports, agents).await?;
            returns.push(Return {
                way,
                down,
                arrivals,
                carriers,
                refused: self.refused()?,
            });
        }
        fleet.end(LEAVE_PATIENCE).await?;
        Ok(returns)
    }

    /// The next hub, with a log of its own.
    fn hub(&mut self, at: Option<&HubPorts>) -> anyhow::Result<Process> {
        let mut more = vec!["--drain".to_owned()];
        if let Some(at) = at {
            more.push(format!("--at={}", serde_json::to_string(at)?));
        }
        self.hubs += 1;
        let hub = self.node("hub", self.args.workers, &more);
        Process::start_logging(hub, &[], &self.hub_log())
    }

    fn hub_log(&self) -> PathBuf {
        self.logs.join(format!("hub-{}.log", self.hubs))
    }

    fn refused(&self) -> anyhow::Result<usize> {
        let log = self.hub_log();
        let text = fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
        Ok(text.matches("too many handshakes").count())
    }

    fn node(&self, role: &str, workers: NonZeroUsize, more: &[String]) -> Vec<OsString> {
        let mut all: Vec<OsString> = vec![format!("--workers={workers}").into(), role.into()];
        all.push(format!("--congestion={}", self.args.congestion).into());
        all.extend(["--certs".into(), self.certs.into()]);
        all.extend(more.iter().map(OsString::from));
        all
    }
}

/// Asks a hub how many agents it has until it has all, and in the end what their links run over.
async fn arrivals(
    ports: &HubPorts,
    agents: u32,
) -> anyhow::Result<(Vec<(Duration, u32)>, BTreeMap<String, usize>)> {
    let begun = Instant::now();
    let mut operator = Operator::connect(ports.admin).await?;
    let mut arrivals = Vec::new();
    let mut there = 0;
    loop {
        let now = operator.status().await?.agents;
        let elapsed = begun.elapsed();
        if now > there {
            arrivals.push((elapsed, now - there));
            there = now;
        }
        if there >= agents {
            break;
        }
        ensure!(
            elapsed < PATIENCE,
            "{now} of {agents} agents were attached after {elapsed:.0?}: see the logs, with --logs DIR"
        );
        tokio::time::sleep(POLL).await;
    }
    let mut carriers = BTreeMap::new();
    for link in operator.links().await? {
        *carriers.entry(link.carrier).or_default() += 1;
    }
    Ok((arrivals, carriers))
}

impl Way {
    /// What all agents may take to be back.
    fn within(self) -> Duration {
        Duration::from_secs(match self {
            Self::Drained => 10,
            Self::Killed => 20,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Killed => "killed",
        }
    }
}

/// When so many were there.
fn when(arrivals: &[(Duration, u32)], count: u32) -> Duration {
    let mut there = 0;
    let reached = arrivals.iter().find(|(_, more)| {
        there += more;
        there >= count
    });
    reached.map_or(Duration::MAX, |(at, _)| *at)
}

/// How many came in each step.
fn histogram(arrivals: &[(Duration, u32)]) -> Vec<u32> {
    let mut steps = Vec::new();
    for (at, more) in arrivals {
        let step = usize::try_from(at.as_millis() / STEP.as_millis()).unwrap_or(usize::MAX);
        if steps.len() <= step {
            steps.resize(step + 1, 0);
        }
        steps[step] += more;
    }
    steps
}

fn report(out: &mut impl Write, machine: &Machine, args: &StormArgs, returns: &[Return]) -> io::Result<()> {
    let agents = args.agents.get();
    write!(out, "{machine}")?;
    writeln!(
        out,
        "- one process for the hub (workers: {}) and one for all {} agents (workers: {}), each with a link of its own, mutual \
         TLS 1.3, {}, idle for {:?} before\n\
         - times from the moment when the new hub listens\n",
        args.workers,
        Figure(agents.into()),
        args.agent_workers,
        args.congestion,
        args.idle
    )?;
    writeln!(
        out,
        "| the hub was | no hub for s | first back after s | half | 99 % | all | may take | handshakes refused | links over \
         |\n|---|---|---|---|---|---|---|---|---|"
    )?;
    for Return {
        way,
        down,
        arrivals,
        carriers,
        refused,
    } in returns
    {
        let [first, half, most, all] = [1, agents.div_ceil(2), agents - agents / 100, agents]
            .map(|count| when(arrivals, count).as_secs_f64());
        let carriers: Vec<_> = carriers
            .iter()
            .map(|(carrier, count)| format!("{carrier}: {count}"))
            .collect();
        writeln!(
            out,
            "| {} | {:.2} | {first:.2} | {half:.2} | {most:.2} | {all:.2} | {} | {refused} | {} |",
            way.name(),
            down.as_secs_f64(),
            way.within().as_secs(),
            carriers.join(", ")
        )?;
    }
    for Return { way, arrivals, .. } in returns {
        writeln!(
            out,
            "\nBack after the hub was {}, each {STEP:?}:\n\n```",
            way.name()
        )?;
        let steps = histogram(arrivals);
        let highest = steps.iter().copied().max().unwrap_or(1).max(1);
        for (step, count) in (0..).zip(steps) {
            let bar = "#".repeat((count * BAR).div_ceil(highest) as usize);
            writeln!(out, "{:5.1} s {count:5} {bar}", (STEP * step).as_secs_f64())?;
        }
        writeln!(out, "```")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_counted_by_time() {
        let arrivals =
            [(100, 1), (450, 2), (500, 3), (1700, 4)].map(|(at, more)| (Duration::from_millis(at), more));
        assert_eq!(histogram(&arrivals), [3, 3, 0, 4]);
        assert_eq!(when(&arrivals, 1), Duration::from_millis(100));
        assert_eq!(when(&arrivals, 4), Duration::from_millis(500));
        assert_eq!(when(&arrivals, 10), Duration::from_millis(1700));
        assert_eq!(when(&arrivals, 11), Duration::MAX);
    }
}
