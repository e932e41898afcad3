//! Load: calls of the echo service over one HTTP/2 connection, measured at the client.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};

use crate::cpu;
use crate::echo::pb::echo_client::EchoClient;
use crate::echo::pb::{DownloadRequest, Payload};
use crate::latencies::Latencies;

/// HTTP/2 windows of the client, on every path: those that the hub has for its clients.
pub const STREAM_WINDOW: u32 = 2 << 20;

/// The same over all streams of the connection.
pub const CONNECTION_WINDOW: u32 = 16 << 20;

/// Bytes of a small call's payload.
pub const PAYLOAD: usize = 100;

/// Bytes of a streamed message's payload.
pub const MESSAGE: u32 = 64 << 10;

/// How long the load runs before it is measured: caches, congestion windows and path MTU settle.
pub(crate) const WARM_UP: Duration = Duration::from_millis(500);

/// What is called, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Load {
    /// Small unary calls in a closed loop: so many at a time, each followed by the next.
    Calls {
        /// Calls at a time.
        concurrency: NonZeroUsize,
    },
    /// One call that is answered with messages of 64 KiB without end.
    Download,
}

/// What a load did in the measured time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Calls, or messages of a download.
    pub count: u64,
    /// The measured time.
    pub elapsed: Duration,
    /// From a call's beginning to its answer. A download has none.
    pub latency: Option<Latency>,
    /// Processor time of this process in the measured time.
    pub cpu: Duration,
}

/// Percentiles of latency.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// The median.
    pub p50: Duration,
    /// Nine of ten are faster.
    pub p90: Duration,
    /// Ninety-nine of a hundred are faster.
    pub p99: Duration,
}

impl Latency {
    pub(crate) fn of(latencies: &Latencies) -> Self {
        Self {
            p50: latencies.at(0.5),
            p90: latencies.at(0.9),
            p99: latencies.at(0.99),
        }
    }
}

impl Outcome {
    /// Calls or messages per second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "no run counts to 2^53")]
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }
}

/// Connects to `address` and runs `load` there for `time`; `agent` is the metadata that a hub routes by. `begin` is
/// called when the measured time begins.
///
/// # Errors
/// There is no connection, or a call failed: figures of a path that fails mean nothing.
pub async fn run(
    load: Load,
    address: SocketAddr,
    agent: MetadataValue<Ascii>,
    time: Duration,
    begin: impl FnOnce(),
) -> anyhow::Result<Outcome> {
    let channel = connect(address).await?;
    let client = Client {
        echo: EchoClient::new(channel),
        agent,
    };
    match load {
        Load::Calls { concurrency } => client.calls(concurrency, time, begin).await,
        Load::Download => client.download(time, begin).await,
    }
}

/// A client's connection to `address`, as every measured one is.
///
/// # Errors
/// Nobody listens there.
pub async fn connect(address: SocketAddr) -> anyhow::Result<Channel> {
    Endpoint::from_shared(format!("http://{address}"))?
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect()
        .await
        .with_context(|| format!("cannot connect to {address}"))
}

#[derive(Clone)]
struct Client {
    echo: EchoClient<Channel>,
    agent: MetadataValue<Ascii>,
}

impl Client {
    async fn calls(
        self,
        concurrency: NonZeroUsize,
        time: Duration,
        begin: impl FnOnce(),
    ) -> anyhow::Result<Outcome> {
        let latencies = Arc::new(Mutex::new(Latencies::new()?));
        let from = Instant::now() + WARM_UP;
        let until = from + time;
        let mut loops = JoinSet::new();
        for _ in 0..concurrency.get() {
            loops.spawn(self.clone().call_until(from, until, Arc::clone(&latencies)));
        }
        let window = Window::wait(from, begin).await?;
        while let Some(ended) = loops.join_next().await {
            ended??;
        }
        // The last calls ended with the measured time, give or take one call.
        let cpu = window.cpu()?;
        let latencies = latencies.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Outcome {
            count: latencies.count(),
            elapsed: time,
            latency: Some(Latency::of(&latencies)),
            cpu,
        })
    }

    /// One call after the other. Those that end within the measured time count.
    async fn call_until(
        mut self,
        from: Instant,
        until: Instant,
        latencies: Arc<Mutex<Latencies>>,
    ) -> anyhow::Result<()> {
        let payload = Bytes::from_static(&[b'a'; PAYLOAD]);
        loop {
            let request = self.request(Payload {
                data: payload.clone(),
            });
            let begun = Instant::now();
            self.echo.unary(request).await.context("a call failed")?;
            let ended = Instant::now();
            if ended >= until {
                return Ok(());
            }
            if ended >= from {
                latencies
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .record(ended - begun);
            }
        }
    }

    async fn download(mut self, time: Duration, begin: impl FnOnce()) -> anyhow::Result<Outcome> {
        let request = self.request(DownloadRequest { size: MESSAGE });
        let mut messages = self
            .echo
            .download(request)
            .await
            .context("a call failed")?
            .into_inner();
        receive_until(&mut messages, Instant::now() + WARM_UP).await?;
        begin();
        let window = Window::open()?;
        let from = Instant::now();
        let count = receive_until(&mut messages, from + time).await?;
        Ok(Outcome {
            count,
            elapsed: from.elapsed(),
            latency: None,
            cpu: window.cpu()?,
        })
    }

    /// Every path is sent the metadata that one of them needs, so that all calls are the same.
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("adit-agent", self.agent.clone());
        request
    }
}

async fn receive_until(messages: &mut Streaming<Payload>, until: Instant) -> anyhow::Result<u64> {
    let mut count = 0;
    while Instant::now() < until {
        messages
            .message()
            .await
            .context("a download broke off")?
            .context("a download ended by itself")?;
        count += 1;
    }
    Ok(count)
}

/// Processor time since a moment.
pub(crate) struct Window {
    used: Duration,
}

impl Window {
    fn open() -> anyhow::Result<Self> {
        Ok(Self {
            used: cpu::used_by_self()?,
        })
    }

    pub(crate) async fn wait(from: Instant, begin: impl FnOnce()) -> anyhow::Result<Self> {
        tokio::time::sleep_until(from.into()).await;
        begin();
        Self::open()
    }

    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        Ok(cpu::used_by_self()?.saturating_sub(self.used))
    }
}
