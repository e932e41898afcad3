//! Calls that begin at fixed times, whether or not earlier ones have ended: a system that stands still must not slow the
//! clock that measures it.

use std::future::Future;
use std::num::NonZeroU32;
use std::pin::pin;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Calls whose time has come, and which the runtime has not begun.
const LATE: usize = 1024;

/// The time for one call.
#[derive(Clone, Copy, Debug)]
pub struct Tick {
    /// Counted from 0.
    pub number: u32,
    /// When the call was meant to begin.
    pub at: Instant,
}

/// What became of the calls.
#[derive(Debug)]
pub struct Ended<T> {
    /// How many were begun.
    pub begun: u32,
    /// What those that ended said.
    pub outcomes: Vec<T>,
}

impl<T> Ended<T> {
    /// How many had not ended when the patience was over.
    #[must_use]
    pub fn unended(&self) -> usize {
        (self.begun as usize).saturating_sub(self.outcomes.len())
    }
}

/// Begins so many calls a second until `until` is ready. Those that run then have `patience` to end.
///
/// # Errors
/// A call panicked, or there is no thread for the clock.
pub async fn run<T, F>(
    rate: NonZeroU32,
    until: impl Future<Output = ()>,
    patience: Duration,
    call: impl Fn(Tick) -> F,
) -> anyhow::Result<Ended<T>>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let mut ticks = clock(Duration::from_secs(1) / rate.get())?;
    let mut until = pin!(until);
    let mut calls = JoinSet::new();
    let mut ended = Ended {
        begun: 0,
        outcomes: Vec::new(),
    };
    loop {
        tokio::select! {
            biased;
            () = &mut until => break,
            tick = ticks.recv() => {
                calls.spawn(call(tick.context("the clock of the calls stopped")?));
                ended.begun += 1;
            }
            Some(outcome) = calls.join_next() => ended.outcomes.push(outcome?),
        }
    }
    let give_up = tokio::time::Instant::now() + patience;
    while let Ok(Some(outcome)) = tokio::time::timeout_at(give_up, calls.join_next()).await {
        ended.outcomes.push(outcome?);
    }
    Ok(ended)
}

/// Ticks, from now on, until nobody listens.
///
/// On a thread of its own: the runtime's timers count whole milliseconds, which is more than a call takes on one machine.
fn clock(every: Duration) -> anyhow::Result<mpsc::Receiver<Tick>> {
    let (sender, ticks) = mpsc::channel(LATE);
    let run = move || {
        let begin = Instant::now();
        for number in 0..u32::MAX {
            let at = begin + every * number;
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if sender.blocking_send(Tick { number, at }).is_err() {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("clock".to_owned())
        .spawn(run)
        .context("cannot start a thread for the clock of the calls")?;
    Ok(ticks)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn calls_begin_at_their_times_and_those_that_do_not_end_are_counted() {
        let (begun, enough) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        let until = Arc::clone(&enough);
        let rate = NonZeroU32::new(1000).unwrap();
        let ended = run(
            rate,
            async move { until.notified().await },
            Duration::ZERO,
            move |tick| {
                if begun.fetch_add(1, Ordering::Relaxed) == 20 {
                    enough.notify_one();
                }
                async move {
                    if tick.number % 2 == 1 {
                        pending::<()>().await;
                    }
                    tick
                }
            },
        );
        let mut ended = ended.await.unwrap();
        assert_eq!(ended.begun, 21);
        assert!(ended.unended() >= 10, "{ended:?}");
        ended.outcomes.sort_by_key(|tick| tick.number);
        let first = ended.outcomes[0];
        assert_eq!(first.number, 0);
        for tick in &ended.outcomes {
            assert_eq!(tick.at, first.at + Duration::from_millis(tick.number.into()));
            assert!(tick.at <= Instant::now(), "it began before its time");
        }
    }
}
