//! The link's properties that are the same in all of a run.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;

use super::link::{Conditions, Loss, Queue, Reordering};

/// Beside loss and round-trip time.
#[derive(Clone, Debug, Args, Serialize)]
pub(crate) struct LinkArgs {
    /// Lose packets in runs of so many in the mean, instead of one by one
    #[arg(long, value_name = "PACKETS", value_parser = run_length)]
    burst: Option<f64>,
    /// Up to so much more delay, each way; it changes no order
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0ms")]
    jitter: Duration,
    /// What the link carries each way: kbit, mbit or gbit a second, or `none` for no limit
    #[arg(long, default_value = "100mbit")]
    rate: Rate,
    /// What waits before the link at the most: packets (2000p) or bytes (64kb)
    #[arg(long, default_value = "2000p")]
    queue: QueueLength,
    /// Packets that are held back while others overtake them, in percent
    #[arg(long, value_name = "PERCENT", default_value = "0", value_parser = percent)]
    reorder: f64,
    /// How long they are
    #[arg(long, value_parser = humantime::parse_duration, default_value = "5ms")]
    reorder_by: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Rate(Option<u64>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct QueueLength(Queue);

impl LinkArgs {
    /// With a loss in percent.
    pub(crate) fn conditions(&self, loss: f64, rtt: Duration) -> Conditions {
        let share = loss / 100.0;
        Conditions {
            delay: rtt / 2,
            jitter: self.jitter,
            loss: match self.burst {
                Some(length) => Loss::bursts(share, length),
                None => Loss::random(share),
            },
            rate: self.rate.0,
            queue: self.queue.0,
            reordering: Reordering {
                share: self.reorder / 100.0,
                held_back: self.reorder_by,
            },
        }
    }

    /// Without anything that happens by chance.
    pub(crate) fn quiet(&self, rtt: Duration) -> Conditions {
        let quiet = Self {
            jitter: Duration::ZERO,
            reorder: 0.0,
            ..self.clone()
        };
        quiet.conditions(0.0, rtt)
    }
}

impl fmt::Display for LinkArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.burst {
            Some(length) => write!(f, "losses in runs of {length} packets in the mean")?,
            None => f.write_str("random losses")?,
        }
        match self.rate.0 {
            Some(_) => write!(f, " each way, {}, queue of {}", self.rate, self.queue)?,
            None => f.write_str(" each way, no limit of rate")?,
        }
        if !self.jitter.is_zero() {
            write!(f, ", up to {:?} more delay", self.jitter)?;
        }
        if self.reorder > 0.0 {
            write!(
                f,
                ", {} % of packets held back by {:?}",
                self.reorder, self.reorder_by
            )?;
        }
        Ok(())
    }
}

/// A share of packets in percent. All of them would be no link.
pub(crate) fn percent(text: &str) -> anyhow::Result<f64> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    let percent: f64 = number
        .parse()
        .with_context(|| format!("{text:?} is not a number of percent"))?;
    anyhow::ensure!(
        (0.0..=90.0).contains(&percent),
        "use 0 to 90 percent, not {percent}"
    );
    Ok(percent)
}

fn run_length(text: &str) -> anyhow::Result<f64> {
    let length: f64 = text
        .parse()
        .with_context(|| format!("{text:?} is not a number of packets"))?;
    anyhow::ensure!(
        (1.0..=1000.0).contains(&length),
        "use runs of 1 to 1000 packets, not {length}"
    );
    Ok(length)
}

impl FromStr for Rate {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text == "none" {
            return Ok(Self(None));
        }
        let units = [("kbit", 1_000), ("mbit", 1_000_000), ("gbit", 1_000_000_000)];
        for (unit, bits) in units {
            if let Some(number) = text.strip_suffix(unit) {
                let number: u64 = number.parse().with_context(|| format!("{text:?} is no rate"))?;
                let bits = number.checked_mul(bits).filter(|bits| *bits > 0);
                return Ok(Self(Some(bits.with_context(|| format!("{text:?} is no rate"))?)));
            }
        }
        bail!("{text:?} is no rate: use a number of kbit, mbit or gbit a second, as in 100mbit, or none")
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("none"),
            Some(bits) if bits % 1_000_000 == 0 => write!(f, "{} Mbit/s", bits / 1_000_000),
            Some(bits) => write!(f, "{} kbit/s", bits / 1_000),
        }
    }
}

impl FromStr for QueueLength {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let number = |number: &str| {
            let number = number.parse::<usize>();
            number.with_context(|| format!("{text:?} is no length of a queue"))
        };
        if let Some(packets) = text.strip_suffix('p') {
            Ok(Self(Queue::Packets(number(packets)?)))
        } else if let Some(kilobytes) = text.strip_suffix("kb") {
            Ok(Self(Queue::Bytes(number(kilobytes)?.saturating_mul(1000))))
        } else {
            bail!("{text:?} is no length of a queue: use packets, as in 2000p, or bytes, as in 64kb")
        }
    }
}

impl fmt::Display for QueueLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Queue::Packets(packets) => write!(f, "{packets} packets"),
            Queue::Bytes(bytes) => write!(f, "{} kB", bytes / 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn numbers_have_units_and_bounds() {
        assert_eq!("100mbit".parse::<Rate>().unwrap(), Rate(Some(100_000_000)));
        assert_eq!("512kbit".parse::<Rate>().unwrap().to_string(), "512 kbit/s");
        assert_eq!("none".parse::<Rate>().unwrap(), Rate(None));
        for rate in ["", "100", "0mbit", "mbit", "99999999999gbit", "-1kbit"] {
            rate.parse::<Rate>().unwrap_err();
        }
        assert_eq!("64kb".parse::<QueueLength>().unwrap().0, Queue::Bytes(64_000));
        assert_eq!("0p".parse::<QueueLength>().unwrap().0, Queue::Packets(0));
        for queue in ["", "p", "12", "-1p"] {
            queue.parse::<QueueLength>().unwrap_err();
        }
        assert_eq!(percent("1.5 %").unwrap(), 1.5);
        for loss in ["91", "-1", "NaN", "some"] {
            percent(loss).unwrap_err();
        }
        for length in ["0", "0.5", "inf"] {
            run_length(length).unwrap_err();
        }
    }
}
