//! How long calls took.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest time that is told from longer ones.
const LONGEST: Duration = Duration::from_secs(600);

/// Many times, each kept to three digits.
#[derive(Clone, Debug)]
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

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
