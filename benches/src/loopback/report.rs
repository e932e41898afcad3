//! The report of `adit-bench loopback`, in Markdown.

use std::io::{self, Write};

use adit_bench::figure::Figure;
use adit_bench::load::{MESSAGE, PAYLOAD};
use adit_bench::machine::Machine;

use super::figures::Figures;
use super::network::Network;
use super::{LoopbackArgs, Sample};

/// What was measured just now.
pub(super) fn progress(sample: &Sample, rounds: usize) -> String {
    let Sample {
        workers, round, task, ..
    } = sample;
    format!(
        "workers {workers}, round {round} of {rounds}: {}, {}: {} {}",
        task.what(),
        task.way(),
        Figure(Figures::of(sample).speed),
        task.units().0
    )
}

/// Writes the medians over the rounds, beside those of the direct way.
pub(super) fn write(
    out: &mut impl Write,
    machine: &Machine,
    network: &Network,
    args: &LoopbackArgs,
    samples: &[Sample],
) -> io::Result<()> {
    write!(out, "{machine}")?;
    writeln!(
        out,
        "- network: {network}\n\
         - one HTTP/2 connection of a tonic client; unary echo of {PAYLOAD} bytes in a closed loop; download of \
         {MESSAGE}-byte messages on one stream\n\
         - direct: load generator ⇒ tonic server, TCP. A carrier: load generator → hub ⇒ agent with the service in its \
         process, mutual TLS 1.3, QUIC with {}. upstream: the agent → tonic server, TCP. ⇒ crosses the network\n\
         - one process each, all with the same runtime: 1 worker is tokio's current-thread runtime, 2 the \
         multi-thread one; nothing is pinned to a processor\n\
         - {} rounds of {:?} after half a second of warm-up, the ways in turns; medians\n",
        args.congestion,
        args.rounds(),
        args.time(),
    )?;
    for workers in args.workers.counts() {
        for tasks in args.tasks() {
            let rows: Vec<Row<'_>> = tasks
                .iter()
                .map(|task| {
                    let of_task = samples.iter().filter(|s| (s.workers, s.task) == (workers, *task));
                    Row::of(of_task.collect())
                })
                .collect();
            if let Some(first) = tasks.first() {
                writeln!(out, "Workers {workers}, {}:\n", first.what())?;
                costs(out, first.units(), &rows)?;
                on_the_wire(out, first.units().1, &rows)?;
            }
        }
    }
    Ok(())
}

/// One way's.
struct Row<'a> {
    samples: Vec<&'a Sample>,
    medians: Figures,
}

impl<'a> Row<'a> {
    fn of(samples: Vec<&'a Sample>) -> Self {
        Self {
            medians: Figures::median(&samples),
            samples,
        }
    }

    fn way(&self) -> String {
        self.samples.first().map(|s| s.task.way()).unwrap_or_default()
    }

    fn dropped(&self) -> u64 {
        let wires = self.samples.iter().filter_map(|s| s.measured.wire);
        wires.flatten().map(|flow| flow.counts.dropped).sum()
    }
}

fn costs(out: &mut impl Write, (speed, each): (&str, &str), rows: &[Row<'_>]) -> io::Result<()> {
    let base = rows.first().map(Row::way).unwrap_or_default();
    writeln!(
        out,
        "| | {speed} | lowest – highest | of {base} | p50 µs | p90 µs | p99 µs | CPU µs per {each}: load | hub | \
         agent | server | all |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
    )?;
    let first = rows.first().map_or(f64::NAN, |row| row.medians.speed);
    for row in rows {
        let speeds = row.samples.iter().map(|sample| Figures::of(sample).speed);
        let (low, high) = speeds.fold((f64::INFINITY, 0.0_f64), |(low, high), speed| {
            (low.min(speed), high.max(speed))
        });
        let medians = &row.medians;
        write!(
            out,
            "| {} | {} | {} – {} | {:.2} |",
            row.way(),
            Figure(medians.speed),
            Figure(low),
            Figure(high),
            medians.speed / first
        )?;
        let rest = medians
            .percentiles
            .into_iter()
            .chain([medians.load_cpu])
            .chain(medians.cpu)
            .chain([medians.all_cpu()]);
        for figure in rest {
            write!(out, " {} |", Figure(figure))?;
        }
        writeln!(out)?;
    }
    writeln!(out)
}

/// Nothing where nothing was counted.
fn on_the_wire(out: &mut impl Write, each: &str, rows: &[Row<'_>]) -> io::Result<()> {
    if rows.iter().all(|row| row.medians.wire[0].packets.is_nan()) {
        return Ok(());
    }
    writeln!(
        out,
        "| per {each} | packets there | back | bytes there | back | handed over there | back | dropped in all |\n\
         |---|---|---|---|---|---|---|---|"
    )?;
    for row in rows {
        write!(out, "| {} |", row.way())?;
        let [there, back] = row.medians.wire;
        // Many calls share a packet.
        for packets in [there.packets, back.packets] {
            write!(out, " {packets:.2} |")?;
        }
        for bytes in [there.bytes, back.bytes] {
            write!(out, " {} |", Figure(bytes))?;
        }
        for pieces in [there.pieces, back.pieces] {
            write!(out, " {pieces:.2} |")?;
        }
        writeln!(out, " {} |", row.dropped())?;
    }
    writeln!(out)
}
