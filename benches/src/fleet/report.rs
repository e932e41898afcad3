//! The report of `adit-bench fleet`, in Markdown.

use std::io::{self, Write};
use std::time::Duration;

use adit_bench::figure::Figure;
use adit_bench::machine::Machine;

use super::{FleetArgs, SETTLE, Sample};

/// Writes a line for each number of agents, in three tables.
pub(super) fn write(
    out: &mut impl Write,
    machine: &Machine,
    args: &FleetArgs,
    samples: &[Sample],
) -> io::Result<()> {
    write!(out, "{machine}")?;
    writeln!(
        out,
        "- one process for the hub (workers: {}) and one for all agents (workers: {}), each agent with a QUIC link of its \
         own, mutual TLS 1.3, {}; the first dials at once and the last {:?} later\n\
         - idle from {SETTLE:?} after the last was attached\n",
        args.ground.workers, args.ground.agent_workers, args.ground.congestion, args.over
    )?;
    coming(out, samples)?;
    memory(out, samples)?;
    idle(out, samples)
}

fn coming(out: &mut impl Write, samples: &[Sample]) -> io::Result<()> {
    writeln!(
        out,
        "| agents | half attached after s | 99 % | all | handshakes refused | hub CPU s | µs per agent | agents' process CPU s \
         | µs per agent |\n|---|---|---|---|---|---|---|---|---|"
    )?;
    for sample in samples {
        let each = |time: Duration| Figure(time.as_secs_f64() * 1e6 / f64::from(sample.agents));
        writeln!(
            out,
            "| {} | {:.2} | {:.2} | {:.2} | {} | {:.2} | {} | {:.2} | {} |",
            Figure(sample.agents.into()),
            sample.half.as_secs_f64(),
            sample.most.as_secs_f64(),
            sample.all.as_secs_f64(),
            sample.refused,
            sample.hub_cpu.as_secs_f64(),
            each(sample.hub_cpu),
            sample.agents_cpu.as_secs_f64(),
            each(sample.agents_cpu),
        )?;
    }
    writeln!(out)
}

fn memory(out: &mut impl Write, samples: &[Sample]) -> io::Result<()> {
    writeln!(
        out,
        "| agents | hub's memory before, MiB | all attached | after idling | KiB per idle agent | most that it ever held, MiB \
         |\n|---|---|---|---|---|---|"
    )?;
    for sample in samples {
        let (before, after) = (sample.before.resident, sample.after_idle.resident);
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} |",
            Figure(sample.agents.into()),
            mebibytes(before),
            mebibytes(sample.attached.resident),
            mebibytes(after),
            Figure(bytes(after.saturating_sub(before)) / 1024.0 / f64::from(sample.agents)),
            mebibytes(sample.after_idle.peak),
        )?;
    }
    writeln!(out)
}

fn idle(out: &mut impl Write, samples: &[Sample]) -> io::Result<()> {
    writeln!(
        out,
        "| agents | idle s | hub CPU ms per s | µs per agent and s | agents' process CPU ms per s | called then, all answered | \
         p50 ms | max ms | left within s |\n|---|---|---|---|---|---|---|---|---|"
    )?;
    for sample in samples {
        let each_second = |time: Duration| time.as_secs_f64() * 1e3 / sample.idle.as_secs_f64();
        let hub = each_second(sample.hub_idle);
        writeln!(
            out,
            "| {} | {:.0} | {} | {} | {} | {} | {:.2} | {:.2} | {:.2} |",
            Figure(sample.agents.into()),
            sample.idle.as_secs_f64(),
            Figure(hub),
            Figure(hub * 1e3 / f64::from(sample.agents)),
            Figure(each_second(sample.agents_idle)),
            sample.calls.count(),
            sample.calls.at(0.5).as_secs_f64() * 1e3,
            sample.calls.at(1.0).as_secs_f64() * 1e3,
            sample.left.as_secs_f64(),
        )?;
    }
    Ok(())
}

fn mebibytes(size: u64) -> Figure {
    Figure(bytes(size) / f64::from(1 << 20))
}

#[expect(clippy::cast_precision_loss, reason = "no process holds 2^53 bytes")]
fn bytes(size: u64) -> f64 {
    size as f64
}
