//! `adit-bench storm`: a hub that is started again, and a thousand agents that come back to it.
//!
//! The processes are those of `fleet`. The hub is stopped in order once, and killed once; each time another one takes its place
//! on the same ports, and is asked how many agents it has until it has all of them.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use adit_bench::figure::Figure;
use adit_bench::machine::Machine;
use anyhow::ensure;

use crate::ground::{self, Ground, GroundArgs, HubProcess, LEAVE_PATIENCE, progress};
use crate::node::HubPorts;
use crate::operator::Operator;

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
    #[command(flatten)]
    ground: GroundArgs,
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

/// Measures and reports, on standard output; progress goes to standard error. Fails where an agent does not come back.
pub(crate) fn run(args: &StormArgs) -> anyhow::Result<()> {
    let machine = Machine::describe();
    let ground = Ground::new(&args.ground, args.agents.get())?;
    let returns = ground::block_on(measure(args, &ground))??;
    Ok(report(&mut io::stdout().lock(), &machine, args, &returns)?)
}

async fn measure(args: &StormArgs, ground: &Ground<'_>) -> anyhow::Result<Vec<Return>> {
    let agents = args.agents.get();
    let mut hub = ground.draining_hub("hub-1.log", None).await?;
    let fleet = ground.agents(&hub.ports, agents, Duration::ZERO).await?;
    arrivals(&hub.ports, agents).await?;
    let mut returns = Vec::new();
    for (way, log) in [(Way::Drained, "hub-2.log"), (Way::Killed, "hub-3.log")] {
        progress(&format!(
            "all are attached; the hub is {} after {:?}",
            way.name(),
            args.idle
        ));
        tokio::time::sleep(args.idle).await;
        let HubProcess {
            mut process, ports, ..
        } = hub;
        let gone = Instant::now();
        match way {
            Way::Drained => process.end(Duration::ZERO).await?,
            Way::Killed => {
                process.kill().await?;
                tokio::time::sleep(args.down).await;
            }
        }
        hub = ground.draining_hub(log, Some(&ports)).await?;
        let down = gone.elapsed();
        let (arrivals, carriers) = arrivals(&ports, agents).await?;
        returns.push(Return {
            way,
            down,
            arrivals,
            carriers,
            refused: hub.refused()?,
        });
    }
    fleet.end(LEAVE_PATIENCE).await?;
    Ok(returns)
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
        args.ground.workers,
        Figure(agents.into()),
        args.ground.agent_workers,
        args.ground.congestion,
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
