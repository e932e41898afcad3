//! How long calls took.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest time that is told from longer ones.
const LONGEST: Duration = Duration::from_secs(600);

/// Many times, each kept to three digits. Serialized they are pairs of nanoseconds and how often.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    ///
    /// # Errors
    /// The histogram's bounds are wrong, which they are not.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, nanoseconds(LONGEST), 3)?))
    }

    /// Adds one.
    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(nanoseconds(time));
    }

    /// Adds those of another.
    ///
    /// # Errors
    /// The histogram's bounds are wrong, which they are not.
    pub fn add(&mut self, others: &Self) -> anyhow::Result<()> {
        Ok(self.0.add(&others.0)?)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that this share of the calls did not exceed: 0.5 is the median, 1 the longest.
    #[must_use]
    pub fn at(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(quantile))
    }
}

impl TryFrom<Vec<(u64, u64)>> for Latencies {
    type Error = anyhow::Error;

    fn try_from(counted: Vec<(u64, u64)>) -> anyhow::Result<Self> {
        let mut latencies = Self::new()?;
        for (time, count) in counted {
            latencies.0.saturating_record_n(time, count);
        }
        Ok(latencies)
    }
}

impl From<Latencies> for Vec<(u64, u64)> {
    fn from(latencies: Latencies) -> Self {
        let recorded = latencies.0.iter_recorded();
        recorded
            .map(|step| (step.value_iterated_to(), step.count_at_value()))
            .collect()
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn latencies_are_the_same_after_they_were_written_and_read() {
        let mut latencies = Latencies::new().unwrap();
        for micros in [1, 40_123, 40_123, 41_000, 7_000_000] {
            latencies.record(Duration::from_micros(micros));
        }
        let written = serde_json::to_string(&latencies).unwrap();
        let read: Latencies = serde_json::from_str(&written).unwrap();
        assert_eq!(read.0, latencies.0, "{written}");

        let mut both = read;
        both.add(&latencies).unwrap();
        assert_eq!(both.count(), 10);
        assert_eq!(both.at(0.5), latencies.at(0.5));
    }
}
