//! So many at once, and so many a second: a token bucket.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// Holds tokens, which come back at a steady rate.
#[derive(Debug)]
pub(super) struct Bucket {
    burst: f64,
    rate: f64,
    level: Mutex<Level>,
}

#[derive(Debug)]
struct Level {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// Full: with `burst` tokens, and `rate` more each second up to that number.
    pub(super) fn new(burst: u32, rate: u32) -> Self {
        let burst = f64::from(burst);
        Self {
            burst,
            rate: f64::from(rate),
            level: Mutex::new(Level {
                tokens: burst,
                at: Instant::now(),
            }),
        }
    }

    /// Takes one token, if there is one.
    pub(super) fn take(&self) -> bool {
        self.take_many(1)
    }

    /// Takes so many tokens, if they are there.
    pub(super) fn take_many(&self, count: u32) -> bool {
        count == 0 || self.take_at(f64::from(count), Instant::now())
    }

    fn take_at(&self, count: f64, now: Instant) -> bool {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(level.at).as_secs_f64();
        level.tokens = self.burst.min(level.tokens + passed * self.rate);
        level.at = level.at.max(now);
        let there = level.tokens >= count;
        if there {
            level.tokens -= count;
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let bucket = Bucket::new(100, 10);
        let start = Instant::now();
        let taken = |at| (0..1000).filter(|_| bucket.take_at(1.0, at)).count();
        assert_eq!(taken(start), 100);
        assert_eq!(taken(start), 0);
        assert_eq!(taken(start + Duration::from_millis(500)), 5);
        assert_eq!(taken(start + Duration::from_millis(550)), 0);
        // A pause never saves up more than a burst.
        assert_eq!(taken(start + Duration::from_secs(3600)), 100);
        // A clock read earlier, on another thread, gives nothing twice.
        assert_eq!(taken(start), 0);
        assert_eq!(taken(start + Duration::from_secs(3600)), 0);
    }

    proptest! {
        /// Never more than the burst and the rate allow, over any stretch of time from the start.
        #[test]
        fn it_never_gives_more_than_it_has(
            burst in 1_u32..50,
            rate in 0_u32..50,
            steps in prop::collection::vec(0_u64..400, 1..200),
        ) {
            let bucket = Bucket::new(burst, rate);
            let start = Instant::now();
            let (mut now, mut taken) = (start, 0_u32);
            for step in steps {
                now += Duration::from_millis(step);
                taken += u32::from(bucket.take_at(1.0, now));
                let most = f64::from(burst) + (now - start).as_secs_f64() * f64::from(rate);
                prop_assert!(f64::from(taken) <= most + 0.01, "{taken} of {most}");
            }
        }
    }
}
