//! How a process is told to end: SIGINT and SIGTERM.

use std::future::Future;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

/// What the sockets of a process that stops at once are given to send their last words.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Hears SIGINT and SIGTERM, from its making on.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// A process that the first signal drains, and a second one stops.
#[derive(Debug)]
pub(crate) struct Stopping {
    drain: CancellationToken,
    stop: CancellationToken,
    _hears: AbortOnDropHandle<()>,
}

impl Signals {
    /// # Errors
    ///
    /// The system refuses to tell of signals.
    pub(crate) fn hear() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
        })
    }

    /// The name of the next one.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

impl Stopping {
    /// Hears signals from now on. Draining, by whoever waits for it, takes up to `drain_timeout`.
    ///
    /// # Errors
    ///
    /// The system refuses to tell of signals.
    pub(crate) fn on_signals(drain_timeout: Duration) -> anyhow::Result<Self> {
        let mut signals = Signals::hear()?;
        let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
        let (draining, stopping) = (drain.clone(), stop.clone());
        let hears = tokio::spawn(async move {
            let signal = signals.next().await;
            let drain_timeout = humantime::format_duration(drain_timeout);
            info!(signal, %drain_timeout, "draining: running calls may end; a second signal stops at once");
            draining.cancel();
            let signal = signals.next().await;
            warn!(signal, "stopping at once");
            stopping.cancel();
        });
        Ok(Self {
            drain,
            stop,
            _hears: AbortOnDropHandle::new(hears),
        })
    }

    /// Ready from the first signal on.
    pub(crate) fn drain(&self) -> impl Future<Output = ()> + 'static {
        self.drain.clone().cancelled_owned()
    }

    /// Ready from the second signal on.
    pub(crate) fn stop(&self) -> impl Future<Output = ()> + 'static {
        self.stop.clone().cancelled_owned()
    }

    /// Lets the sockets of a process that was stopped at once say why: to be waited for before the runtime ends.
    pub(crate) async fn last_words(self) {
        if self.stop.is_cancelled() {
            tokio::time::sleep(LAST_WORDS).await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    fn send(signal: &str) {
        let id = std::process::id().to_string();
        let sent = std::process::Command::new("kill").args([signal, &id]).status();
        assert!(sent.unwrap().success());
    }

    #[tokio::test]
    async fn the_first_signal_drains_and_a_second_of_either_kind_stops() {
        for [first, second] in [["-TERM", "-INT"], ["-INT", "-TERM"], ["-TERM", "-TERM"]] {
            let stopping = Stopping::on_signals(Duration::from_secs(30)).unwrap();
            assert!(!stopping.drain.is_cancelled());
            send(first);
            stopping.drain().await;
            assert!(!stopping.stop.is_cancelled());
            send(second);
            stopping.stop().await;
            stopping.last_words().await;
        }
    }
}
