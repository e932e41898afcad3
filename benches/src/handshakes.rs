//! Links that come and go: handshakes with a hub, measured at the agents' end.

use std::future::pending;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use adit_certs::Credentials;
use adit_transport::{Carrier, Code, Dialer, Reset, Tuning};
use anyhow::{Context as _, bail};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::latencies::Latencies;
use crate::load::{Latency, Outcome, WARM_UP, Window};

/// How long the hub may take to make its first call on a link.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes links to `hub` for `time`, so many at a time, each closed as soon as the hub makes its first call on it, which
/// says that it has taken the certificate; then follows the next. No handshake knows of an earlier one. `begin` is called
/// when the measured time begins.
///
/// # Errors
/// A link did not come to be.
pub async fn run(
    carrier: Carrier,
    hub: SocketAddr,
    credentials: &Credentials,
    at_a_time: NonZeroUsize,
    time: Duration,
    begin: impl FnOnce(),
) -> anyhow::Result<Outcome> {
    let tls = credentials
        .client_config()
        .context("cannot dial with these credentials")?;
    let dialer = Dialer::new(tls, Tuning::default())?;
    let latencies = Arc::new(Mutex::new(Latencies::new()?));
    let from = Instant::now() + WARM_UP;
    let until = from + time;
    let mut loops = JoinSet::new();
    for _ in 0..at_a_time.get() {
        let (dialer, latencies) = (dialer.clone(), Arc::clone(&latencies));
        loops.spawn(async move {
            loop {
                let begun = Instant::now();
                come_and_go(&dialer, carrier, hub).await?;
                let ended = Instant::now();
                if ended >= until {
                    return anyhow::Ok(());
                }
                if ended >= from {
                    let mut latencies = latencies.lock().unwrap_or_else(PoisonError::into_inner);
                    latencies.record(ended - begun);
                }
            }
        });
    }
    let window = Window::wait(from, begin).await?;
    while let Some(ended) = loops.join_next().await {
        ended??;
    }
    let cpu = window.cpu()?;
    let latencies = latencies.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Outcome {
        count: latencies.count(),
        elapsed: time,
        latency: Some(Latency::of(&latencies)),
        cpu,
    })
}

async fn come_and_go(dialer: &Dialer, carrier: Carrier, hub: SocketAddr) -> anyhow::Result<()> {
    let link = dialer.dial_by(carrier, hub, &hub.ip().to_string()).await?;
    let called = Arc::new(Notify::new());
    let calls = Arc::clone(&called);
    let handler = move |_| {
        calls.notify_one();
        pending::<Result<_, Reset>>()
    };
    tokio::select! {
        () = called.notified() => {}
        ended = link.serve(handler) => bail!("the hub did not want the link over {carrier}: {ended}"),
        () = tokio::time::sleep(PATIENCE) => {
            bail!("the hub made no call on a link over {carrier} within {PATIENCE:?}")
        }
    }
    link.close(Code::NO_ERROR, "measured");
    Ok(())
}
