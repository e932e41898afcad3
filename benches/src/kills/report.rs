//! The report of `adit-bench kills`, in Markdown.

use std::io::{self, Write};
use std::time::Duration;

use adit_bench::agreement::{Agreement, Ending};
use adit_bench::figure::{Figure, median};
use adit_bench::latencies::Latencies;
use adit_bench::load::PAYLOAD;
use adit_bench::machine::Machine;

use super::{Call, Kill, KillsArgs, REPLICAS};

/// So many calls are named whose clients were told what is not true.
const NAMED: usize = 20;

pub(super) fn write(
    out: &mut impl Write,
    machine: &Machine,
    args: &KillsArgs,
    calls: &[Call],
    kills: &[Kill],
    agreement: &Agreement,
) -> anyhow::Result<()> {
    write!(out, "{machine}")?;
    let deadline = match args.deadline {
        Some(deadline) => format!("given up after {deadline:?}"),
        None => "without deadlines".to_owned(),
    };
    writeln!(
        out,
        "- {} unary calls/s of {PAYLOAD} bytes in an open loop, {deadline}, on one HTTP/2 connection, to one agent id \
         with {REPLICAS} replicas; hub, replicas, and an upstream behind each that takes {:?} for a call, are processes of \
         their own; QUIC, mutual TLS 1.3, {}\n\
         - {} times a replica was killed (SIGKILL), and started again at once; the next one after both had taken calls, and \
         the dead link was given up, for {:?}\n",
        args.rate,
        args.work,
        args.congestion,
        kills.len(),
        args.pause
    )?;
    outcomes(out, agreement)?;
    latencies(out, calls)?;
    each_kill(out, calls, kills)?;
    if agreement.disagreements.is_empty() {
        writeln!(
            out,
            "What clients were told is true of all {} calls.",
            calls.len()
        )?;
    }
    for disagreement in agreement.disagreements.iter().take(NAMED) {
        writeln!(out, "- not true: {disagreement}")?;
    }
    if let Some(more @ 1..) = agreement.disagreements.len().checked_sub(NAMED) {
        writeln!(out, "- and {more} more")?;
    }
    Ok(())
}

fn outcomes(out: &mut impl Write, agreement: &Agreement) -> io::Result<()> {
    writeln!(
        out,
        "| what the client was told | seen by upstreams | calls |\n|---|---|---|"
    )?;
    for ((ending, seen), count) in &agreement.counts {
        let seen = match seen {
            0 => "never".to_owned(),
            1 => "once".to_owned(),
            more => format!("{more} times"),
        };
        writeln!(out, "| {ending} | {seen} | {count} |")?;
    }
    writeln!(out)
}

fn latencies(out: &mut impl Write, calls: &[Call]) -> anyhow::Result<()> {
    writeln!(
        out,
        "| calls | count | p50 ms | p99 | p99.9 | max |\n|---|---|---|---|---|---|"
    )?;
    let (mut answered, mut failed) = (Latencies::new()?, Latencies::new()?);
    for call in calls {
        let latency = call.ended.saturating_duration_since(call.at);
        match call.ending {
            Ending::Answered => answered.record(latency),
            Ending::Failed { .. } | Ending::Garbled | Ending::GivenUp => failed.record(latency),
            Ending::Unended => {}
        }
    }
    for (name, latencies) in [("answered", answered), ("failed or given up", failed)] {
        let count = latencies.count();
        if count == 0 {
            continue;
        }
        write!(out, "| {name} | {count} |")?;
        for quantile in [0.5, 0.99, 0.999, 1.0] {
            write!(out, " {:.2} |", latencies.at(quantile).as_secs_f64() * 1e3)?;
        }
        writeln!(out)?;
    }
    writeln!(out)?;
    Ok(())
}

/// What one kill did to the calls.
#[derive(Debug, Default, PartialEq, Eq)]
struct Losses {
    /// Calls that failed and were under way when the replica died,
    under_way: usize,
    /// that began between its death and the hub's suspicion,
    before_suspicion: usize,
    /// and that began later.
    after_suspicion: usize,
}

impl Losses {
    /// Of calls that failed after `kill` and before the next one: when each began, and ended.
    fn of(kill: &Kill, next: Option<&Kill>, failed: &[&Call]) -> Self {
        let mut losses = Self::default();
        let mine = |call: &&&Call| call.ended >= kill.at && next.is_none_or(|next| call.ended < next.at);
        for call in failed.iter().filter(mine) {
            match call.begun.checked_duration_since(kill.at) {
                None => losses.under_way += 1,
                Some(after) if kill.suspect.is_none_or(|suspect| after < suspect) => {
                    losses.before_suspicion += 1;
                }
                Some(_) => losses.after_suspicion += 1,
            }
        }
        losses
    }
}

fn each_kill(out: &mut impl Write, calls: &[Call], kills: &[Kill]) -> io::Result<()> {
    let failed: Vec<&Call> = calls
        .iter()
        .filter(|call| matches!(call.ending, Ending::Failed { .. } | Ending::GivenUp))
        .collect();
    writeln!(
        out,
        "| kill | replica back after ms | dead link suspect after s | given up after s | calls lost: under way | begun before \
         the suspicion | begun later |\n|---|---|---|---|---|---|---|"
    )?;
    for (index, kill) in kills.iter().enumerate() {
        let losses = Losses::of(kill, kills.get(index + 1), &failed);
        writeln!(
            out,
            "| {} | {:.0} | {} | {:.2} | {} | {} | {} |",
            index + 1,
            kill.back.as_secs_f64() * 1e3,
            kill.suspect
                .map_or_else(|| "–".to_owned(), |time| format!("{:.2}", time.as_secs_f64())),
            kill.given_up.as_secs_f64(),
            losses.under_way,
            losses.before_suspicion,
            losses.after_suspicion
        )?;
    }
    let seconds = |of: fn(&Kill) -> Option<Duration>| {
        median(kills.iter().filter_map(of).map(|time| time.as_secs_f64()))
    };
    writeln!(
        out,
        "| median | {} | {:.2} | {:.2} | | | |\n",
        Figure(seconds(|kill| Some(kill.back)).0 * 1e3),
        seconds(|kill| kill.suspect).0,
        seconds(|kill| Some(kill.given_up)).0,
    )
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn losses_are_told_by_when_their_calls_began() {
        let zero = Instant::now();
        let after = |seconds: u64| zero + Duration::from_secs(seconds);
        let kill = |at, suspect| Kill {
            at: after(at),
            back: Duration::ZERO,
            suspect,
            given_up: Duration::from_secs(5),
        };
        let call = |begun, ended| Call {
            id: 0,
            at: after(begun),
            begun: after(begun),
            ended: after(ended),
            ending: Ending::Unended,
        };
        let first = kill(10, Some(Duration::from_secs(2)));
        let second = kill(20, None);
        let calls = [
            call(1, 5),
            call(9, 15),
            call(11, 15),
            call(12, 16),
            call(13, 15),
            call(19, 25),
            call(24, 25),
        ];
        let failed: Vec<&Call> = calls.iter().collect();
        let losses = |under_way, before_suspicion, after_suspicion| Losses {
            under_way,
            before_suspicion,
            after_suspicion,
        };
        assert_eq!(Losses::of(&first, Some(&second), &failed), losses(1, 1, 2));
        assert_eq!(Losses::of(&second, None, &failed), losses(1, 1, 0));
    }
}
