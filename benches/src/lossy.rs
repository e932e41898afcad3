//! A path that delays and loses packets: a relay for UDP between an agent and its hub.
//!
//! It stands where no network namespace can be made. Loss is random, independent in each direction and seeded; there is
//! no limit of rate and no queue.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// The largest datagram.
const DATAGRAM: usize = 64 << 10;

/// Datagrams under way in one direction; further ones are lost, as in a router.
const UNDER_WAY: usize = 100_000;

/// What the path does to packets, the same in both directions.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// One way.
    pub delay: Duration,
    /// Of each packet: 0 to 1.
    pub loss: f64,
    /// Which packets are lost.
    pub seed: u64,
}

/// What a path was given, lost packets among it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// By the agent.
    pub to_hub: Count,
    /// By the hub.
    pub to_agent: Count,
}

/// What one end gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// UDP datagrams.
    pub packets: u64,
    /// Bytes in them, without the headers of UDP and IP.
    pub bytes: u64,
}

/// A [`Count`] that goes on.
#[derive(Debug, Default)]
struct Counter {
    packets: AtomicU64,
    bytes: AtomicU64,
}

/// A relay; dropping it ends the path.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    /// To the hub, and to the agent.
    counters: [Arc<Counter>; 2],
    _directions: JoinSet<()>,
}

impl Relay {
    /// Opens a path to `hub` for one agent.
    ///
    /// # Errors
    /// There is no socket.
    pub async fn open(hub: SocketAddr, path: Path) -> anyhow::Result<Self> {
        let front = Arc::new(
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
                .await
                .context("cannot open the path")?,
        );
        let back = Arc::new(
            UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
                .await
                .context("cannot open the path")?,
        );
        back.connect(hub)
            .await
            .with_context(|| format!("cannot open the path to {hub}"))?;
        let address = front.local_addr()?;
        let agent = Arc::new(Mutex::new(None));
        let mut directions = JoinSet::new();
        let counters = [Arc::<Counter>::default(), Arc::default()];
        let ways = [(Towards::Hub, &front, &back), (Towards::Agent, &back, &front)];
        for ((towards, from, to), counter) in ways.into_iter().zip(&counters) {
            let direction = Direction {
                counter: Arc::clone(counter),
                towards,
                from: Arc::clone(from),
                to: Arc::clone(to),
                agent: Arc::clone(&agent),
                dice: StdRng::seed_from_u64(path.seed.wrapping_add(towards as u64)),
            };
            directions.spawn(direction.carry(path));
        }
        Ok(Self {
            address,
            counters,
            _directions: directions,
        })
    }

    /// Where the agent dials.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was given so far.
    #[must_use]
    pub fn carried(&self) -> Carried {
        let [to_hub, to_agent] = self.counters.each_ref().map(|counter| counter.now());
        Carried { to_hub, to_agent }
    }
}

impl Counter {
    fn add(&self, bytes: usize) {
        self.packets.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn now(&self) -> Count {
        Count {
            packets: self.packets.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

#[derive(Clone, Copy)]
enum Towards {
    Hub,
    Agent,
}

struct Direction {
    towards: Towards,
    from: Arc<UdpSocket>,
    to: Arc<UdpSocket>,
    counter: Arc<Counter>,
    /// Where the agent's packets come from.
    agent: Arc<Mutex<Option<SocketAddr>>>,
    dice: StdRng,
}

impl Direction {
    async fn carry(mut self, path: Path) {
        let mut under_way: VecDeque<(Instant, Box<[u8]>)> = VecDeque::new();
        let mut packet = vec![0; DATAGRAM];
        loop {
            let due = under_way.front().map(|(due, _)| *due);
            tokio::select! {
                received = self.from.recv_from(&mut packet) => {
                    // An unreachable port is told to the sender's next read, and is no end of the path.
                    let Ok((len, sender)) = received else { continue };
                    self.counter.add(len);
                    if matches!(self.towards, Towards::Hub) {
                        *self.agent() = Some(sender);
                    }
                    if under_way.len() < UNDER_WAY && !self.dice.random_bool(path.loss) {
                        under_way.push_back((Instant::now() + path.delay, packet[..len].into()));
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    while let Some((_, packet)) = under_way.pop_front_if(|(due, _)| *due <= Instant::now()) {
                        self.deliver(&packet).await;
                    }
                }
            }
        }
    }

    /// A packet that cannot be delivered is one more that is lost.
    async fn deliver(&self, packet: &[u8]) {
        let agent = *self.agent();
        let _ = match (self.towards, agent) {
            (Towards::Hub, _) => self.to.send(packet).await,
            (Towards::Agent, Some(agent)) => self.to.send_to(packet, agent).await,
            (Towards::Agent, None) => Ok(0),
        };
    }

    fn agent(&self) -> MutexGuard<'_, Option<SocketAddr>> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
