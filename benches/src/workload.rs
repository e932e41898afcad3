//! What the lab's clients do: calls in an open or a closed loop, streams, and both beside each other.
//!
//! Unlike those of [`load`](crate::load), calls that fail are counted and do not end the run: on a link that loses packets
//! that is part of the result.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout_at};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::echo::pb::echo_client::EchoClient;
use crate::echo::pb::{DownloadRequest, Payload};
use crate::latencies::Latencies;
use crate::load::{MESSAGE, connect};
use crate::open_loop;

/// Bytes of a call's payload, each way.
pub const PAYLOAD: usize = 1024;

/// How long a load runs before it is measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// The same beside a bulk stream, which has to find out how much the link carries.
const WARM_UP_OF_BULK: Duration = Duration::from_secs(2);

/// A bulk stream that broke off is begun again after this.
const AGAIN: Duration = Duration::from_millis(100);

/// How long the first call may take: the agent's handshake crosses a bad link, too.
const FIRST_CALL: Duration = Duration::from_secs(20);

/// Who calls, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Workload {
    /// Calls at fixed times, so many a second.
    Open(NonZeroU32),
    /// The same with so few that nothing follows a lost packet.
    Sparse(NonZeroU32),
    /// So many at a time, each followed by the next.
    Closed(NonZeroUsize),
    /// One stream from the agent to the client, as fast as it goes.
    Down,
    /// One to the agent.
    Up,
    /// One from the agent, and beside it so many calls a second at fixed times.
    Mixed(NonZeroU32),
}

/// What became of it in the measured time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Of calls, from the times at which they were meant to begin. One that did not end is here with the time that it had
    /// waited when it was given up.
    pub latency: Latencies,
    /// Calls that failed or did not end, and streams that broke off.
    pub failed: u64,
    /// Bytes that streams carried.
    pub streamed: u64,
    /// The measured time.
    pub elapsed: Duration,
}

/// A name that is no workload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown load {0:?}: use open:CALLS-A-SECOND, sparse:CALLS-A-SECOND, closed:CALLS-AT-A-TIME, down, up or \
     mixed:CALLS-A-SECOND; the numbers may be left out"
)]
pub struct UnknownWorkload(String);

impl Workload {
    /// Whether it has calls of which latency means something.
    #[must_use]
    pub fn has_calls(self) -> bool {
        !matches!(self, Self::Down | Self::Up)
    }

    /// Whether it has a stream that fills the link.
    #[must_use]
    pub fn has_stream(self) -> bool {
        matches!(self, Self::Down | Self::Up | Self::Mixed(_))
    }

    /// How long it runs before it is measured.
    #[must_use]
    pub fn warm_up(self) -> Duration {
        if self.has_stream() {
            WARM_UP_OF_BULK
        } else {
            WARM_UP
        }
    }
}

/// Runs a workload at `address` and measures it for `time`; calls that have not ended then have `patience`. `begin` is called
/// when the measured time begins, and `end` when it ends.
///
/// # Errors
/// There is no connection, or the first call failed: then there is nothing to measure.
pub async fn run(
    workload: Workload,
    address: SocketAddr,
    agent: MetadataValue<Ascii>,
    time: Duration,
    patience: Duration,
    begin: impl FnOnce(),
    end: impl FnOnce(),
) -> anyhow::Result<Measured> {
    let client = Client {
        echo: EchoClient::new(connect(address).await?),
        agent,
    };
    let first = tokio::time::timeout(FIRST_CALL, client.clone().call()).await;
    first
        .with_context(|| format!("the first call did not end within {FIRST_CALL:?}"))?
        .context("the first call failed")?;
    let from = Instant::now() + workload.warm_up();
    let window = Window {
        from,
        until: from + time,
        patience,
        counted: Arc::new(Mutex::new(Counted {
            latency: Latencies::new()?,
            failed: 0,
            streamed: 0,
        })),
    };
    let mut marks = Marks {
        window: &window,
        begin: Some(begin),
        end: Some(end),
    };
    let work = async {
        match workload {
            Workload::Open(rate) | Workload::Sparse(rate) => client.at_fixed_times(rate, &window).await,
            Workload::Closed(concurrency) => client.in_turns(concurrency, &window).await,
            Workload::Down => {
                client.down(&window).await;
                Ok(())
            }
            Workload::Up => {
                client.up(&window).await;
                Ok(())
            }
            Workload::Mixed(rate) => {
                let calls = client.clone().at_fixed_times(rate, &window);
                tokio::join!(calls, client.down(&window)).0
            }
        }
    };
    let ((), worked) = tokio::join!(marks.tell(), work);
    worked?;
    let counted = window.counted();
    Ok(Measured {
        latency: counted.latency.clone(),
        failed: counted.failed,
        streamed: counted.streamed,
        elapsed: time,
    })
}

/// The measured time.
#[derive(Clone, Debug)]
struct Window {
    from: Instant,
    until: Instant,
    patience: Duration,
    counted: Arc<Mutex<Counted>>,
}

#[derive(Debug)]
struct Counted {
    latency: Latencies,
    failed: u64,
    streamed: u64,
}

struct Marks<'a, B, E> {
    window: &'a Window,
    begin: Option<B>,
    end: Option<E>,
}

impl<B: FnOnce(), E: FnOnce()> Marks<'_, B, E> {
    async fn tell(&mut self) {
        sleep_until(self.window.from.into()).await;
        if let Some(begin) = self.begin.take() {
            begin();
        }
        sleep_until(self.window.until.into()).await;
        if let Some(end) = self.end.take() {
            end();
        }
    }
}

impl Window {
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holds(&self, moment: Instant) -> bool {
        (self.from..self.until).contains(&moment)
    }

    /// A call that was meant to begin then has ended.
    fn call_ended(&self, at: Instant, ended: &Result<(), Status>) {
        if self.holds(at) {
            let mut counted = self.counted();
            counted.latency.record(at.elapsed());
            counted.failed += u64::from(ended.is_err());
        }
    }

    fn streamed(&self, bytes: u64) {
        if self.holds(Instant::now()) {
            self.counted().streamed += bytes;
        }
    }
}

#[derive(Clone)]
struct Client {
    echo: EchoClient<Channel>,
    agent: MetadataValue<Ascii>,
}

impl Client {
    async fn call(mut self) -> Result<(), Status> {
        let data = Bytes::from_static(&[b'a'; PAYLOAD]);
        let request = self.request(Payload { data });
        self.echo.unary(request).await.map(drop)
    }

    async fn at_fixed_times(self, rate: NonZeroU32, window: &Window) -> anyhow::Result<()> {
        let begun: Arc<Mutex<HashMap<u32, Instant>>> = Arc::default();
        let until = sleep_until(window.until.into());
        let calls = open_loop::run(rate, until, window.patience, |tick| {
            lock(&begun).insert(tick.number, tick.at);
            let (client, window, begun) = (self.clone(), window.clone(), Arc::clone(&begun));
            async move {
                let ended = client.call().await;
                lock(&begun).remove(&tick.number);
                window.call_ended(tick.at, &ended);
            }
        });
        calls.await?;
        let given_up = Status::deadline_exceeded("given up");
        for at in lock(&begun).values() {
            window.call_ended(*at, &Err(given_up.clone()));
        }
        Ok(())
    }

    async fn in_turns(self, concurrency: NonZeroUsize, window: &Window) -> anyhow::Result<()> {
        let mut loops = JoinSet::new();
        for _ in 0..concurrency.get() {
            let (client, window) = (self.clone(), window.clone());
            loops.spawn(async move {
                while Instant::now() < window.until {
                    let begun = Instant::now();
                    let give_up = (window.until + window.patience).into();
                    let ended = timeout_at(give_up, client.clone().call()).await;
                    let ended = ended.unwrap_or_else(|_| Err(Status::deadline_exceeded("given up")));
                    window.call_ended(begun, &ended);
                    if ended.is_err() {
                        // What fails at once must not be called in a tight loop.
                        sleep(AGAIN).await;
                    }
                }
            });
        }
        while let Some(ended) = loops.join_next().await {
            ended?;
        }
        Ok(())
    }

    /// Receives until the measured time is over.
    async fn down(self, window: &Window) {
        let receive = async |mut client: Self| {
            let request = client.request(DownloadRequest { size: MESSAGE });
            let mut messages = client.echo.download(request).await?.into_inner();
            while let Some(message) = messages.message().await? {
                window.streamed(message.data.len() as u64);
            }
            Ok::<(), Status>(())
        };
        self.until_over(window, receive).await;
    }

    /// Sends until it is over; what counts is what the service has received.
    async fn up(self, window: &Window) {
        let send = async |mut client: Self| {
            let data = Bytes::from(vec![0; MESSAGE as usize]);
            let request = client.request(stream::repeat(Payload { data }));
            let mut received = client.echo.upload(request).await?.into_inner();
            while let Some(message) = received.message().await? {
                window.streamed(message.size.into());
            }
            Ok::<(), Status>(())
        };
        self.until_over(window, send).await;
    }

    async fn until_over(self, window: &Window, stream: impl AsyncFn(Self) -> Result<(), Status>) {
        let streams = async {
            loop {
                // No stream ends by itself.
                let _ = stream(self.clone()).await;
                window.counted().failed += 1;
                sleep(AGAIN).await;
            }
        };
        let _ = timeout_at(window.until.into(), streams).await;
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("adit-agent", self.agent.clone());
        request
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(rate) => write!(f, "open:{rate}"),
            Self::Sparse(rate) => write!(f, "sparse:{rate}"),
            Self::Closed(concurrency) => write!(f, "closed:{concurrency}"),
            Self::Down => f.write_str("down"),
            Self::Up => f.write_str("up"),
            Self::Mixed(rate) => write!(f, "mixed:{rate}"),
        }
    }
}

impl FromStr for Workload {
    type Err = UnknownWorkload;

    fn from_str(text: &str) -> Result<Self, UnknownWorkload> {
        let unknown = || UnknownWorkload(text.to_owned());
        let (name, number) = match text.split_once(':') {
            Some((name, number)) => (name, Some(number)),
            None => (text, None),
        };
        let number = |default: u32| match number {
            Some(number) => number.parse::<NonZeroU32>().map_err(|_| unknown()),
            None => NonZeroU32::new(default).ok_or_else(unknown),
        };
        match name {
            "open" => Ok(Self::Open(number(500)?)),
            "sparse" => Ok(Self::Sparse(number(5)?)),
            "closed" => {
                let concurrency = usize::try_from(number(16)?.get()).ok();
                let concurrency = concurrency.and_then(NonZeroUsize::new);
                Ok(Self::Closed(concurrency.ok_or_else(unknown)?))
            }
            "mixed" => Ok(Self::Mixed(number(200)?)),
            "down" if text == name => Ok(Self::Down),
            "up" if text == name => Ok(Self::Up),
            _ => Err(unknown()),
        }
    }
}

impl From<Workload> for String {
    fn from(workload: Workload) -> Self {
        workload.to_string()
    }
}

impl TryFrom<String> for Workload {
    type Error = UnknownWorkload;

    fn try_from(text: String) -> Result<Self, UnknownWorkload> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;
    use tonic::transport::Server;
    use tonic::transport::server::TcpIncoming;

    use super::*;
    use crate::echo;

    #[test]
    fn workloads_are_named_by_what_they_do() {
        for name in ["open:500", "sparse:5", "closed:16", "down", "up", "mixed:200"] {
            assert_eq!(name.parse::<Workload>().unwrap().to_string(), name);
            let short = name.split(':').next().unwrap();
            assert_eq!(short.parse::<Workload>().unwrap().to_string(), name);
        }
        for name in ["", "opened", "open:0", "open:x", "open:", "down:3", "mixed:-1"] {
            let error = name.parse::<Workload>().unwrap_err().to_string();
            assert!(error.contains(&format!("{name:?}")), "{error}");
        }
    }

    #[tokio::test]
    async fn every_workload_measures_what_it_does() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder()
            .add_service(echo::service())
            .serve_with_incoming(TcpIncoming::from(listener));
        let server = tokio::spawn(server);
        let work = |name: &str| {
            let second = Duration::from_secs(1);
            let workload: Workload = name.parse().unwrap();
            let (mut begun, mut ended) = (false, false);
            async move {
                let run = run(
                    workload,
                    address,
                    "nobody".parse().unwrap(),
                    second,
                    second,
                    || begun = true,
                    || ended = true,
                );
                let measured = run.await.unwrap();
                assert!(begun && ended, "{workload}");
                assert_eq!(measured.failed, 0, "{workload}");
                assert_eq!(measured.latency.count() > 0, workload.has_calls(), "{workload}");
                assert_eq!(measured.streamed > 0, workload.has_stream(), "{workload}");
                measured
            }
        };
        let (open, ..) = tokio::join!(
            work("open:100"),
            work("sparse"),
            work("closed:2"),
            work("down"),
            work("up"),
            work("mixed:50")
        );
        assert!(
            (99..=101).contains(&open.latency.count()),
            "{}",
            open.latency.count()
        );
        server.abort();
    }

    /// A server that accepts connections and says nothing leaves calls that never end.
    #[tokio::test]
    async fn a_call_that_does_not_end_is_a_failed_one_that_took_long() {
        let window = Window {
            from: Instant::now(),
            until: Instant::now() + Duration::from_millis(100),
            patience: Duration::from_millis(50),
            counted: Arc::new(Mutex::new(Counted {
                latency: Latencies::new().unwrap(),
                failed: 0,
                streamed: 0,
            })),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .connect_lazy();
        let client = Client {
            echo: EchoClient::new(channel),
            agent: "nobody".parse().unwrap(),
        };
        client
            .at_fixed_times(NonZeroU32::new(100).unwrap(), &window)
            .await
            .unwrap();
        let counted = window.counted();
        assert_eq!(counted.failed, counted.latency.count());
        assert!((9..=11).contains(&counted.failed), "{}", counted.failed);
        assert!(counted.latency.at(0.0) >= Duration::from_millis(50));
    }
}
