//! Links that die at random moments under many short calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason as H2;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;

use super::{Call, Operator, Record, Upstream, named, path};
use crate::world::raw::{RawClient, Reply, message};
use crate::world::relay::{Relay, Towards};
use crate::world::{Agent, Hub, SHORT_GRACE, World, soon};

/// What is done when is drawn from this. Sockets and tasks add chance of their own.
const SEED: u64 = 0x5eed_ca11;

/// Links that die.
const DEATHS: usize = 40;

/// Clients that call at the same time, one call after another.
const CALLERS: u64 = 12;

/// What a call came to, as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The upstream's own answer, all of it.
    Answered,
    /// Certain that nobody saw it.
    Unseen,
    /// Nobody knows.
    Unknown,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_dies_no_client_is_told_what_is_not_so() {
    let world = World::new();
    // Too short for an agent that was kicked and waits a moment: some calls find no link.
    let hub = world.hub_with(|hub| hub.reconnect_grace(SHORT_GRACE)).await;
    let upstreams = [Upstream::start().await, Upstream::start().await];
    let over = Arc::new(AtomicBool::new(false));
    let made = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let client = RawClient::connect(hub.clients).await;
        let (over, made) = (Arc::clone(&over), Arc::clone(&made));
        callers.spawn(async move {
            let mut dice = StdRng::seed_from_u64(SEED ^ number);
            let mut ends = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let name = format!("{number}-{}", ends.len());
                let end = one_call(&client, &name, &mut dice).await;
                made.fetch_add(1, Ordering::Relaxed);
                ends.push((name, end));
            }
            ends
        });
    }

    let mut chaos = Chaos::start(&world, &hub, &upstreams).await;
    for _ in 0..DEATHS {
        // Some calls between two deaths, so that there are links again.
        let next = made.load(Ordering::Relaxed) + chaos.dice.random_range(0..20);
        soon(async {
            while made.load(Ordering::Relaxed) < next {
                chaos.pause().await;
            }
        })
        .await;
        chaos.kill().await;
    }
    over.store(true, Ordering::Relaxed);
    let mut ends = Vec::new();
    while let Some(caller) = soon(callers.join_next()).await {
        ends.extend(caller.unwrap());
    }
    // What is still on its way to an upstream arrives, or never will.
    chaos.end().await;
    hub.stop().await;
    judge(&ends, &upstreams.map(|upstream| upstream.record));
}

/// Has links die.
struct Chaos<'a> {
    world: &'a World,
    hub: &'a Hub,
    upstreams: &'a [Upstream; 2],
    /// The way of the first of the agents; the other one has none between it and the hub.
    way: Relay,
    agents: Vec<Agent>,
    /// Agents that drain or stop, which takes them a moment.
    leaving: JoinSet<()>,
    dice: StdRng,
}

impl<'a> Chaos<'a> {
    async fn start(world: &'a World, hub: &'a Hub, upstreams: &'a [Upstream; 2]) -> Self {
        let mut chaos = Self {
            world,
            hub,
            upstreams,
            way: Relay::to(hub.agents).await,
            agents: Vec::new(),
            leaving: JoinSet::new(),
            dice: StdRng::seed_from_u64(SEED),
        };
        chaos.agents = (0..2).map(|which| chaos.agent(which)).collect();
        chaos
    }

    fn agent(&self, which: usize) -> Agent {
        let hub = [self.way.address, self.hub.agents][which];
        self.upstreams[which].agent(self.world, hub)
    }

    /// One link dies, or an agent drains.
    async fn kill(&mut self) {
        let which = self.dice.random_range(0..2);
        match self.dice.random_range(0..7) {
            how @ (0 | 1) => {
                let next = self.agent(which);
                let left = std::mem::replace(&mut self.agents[which], next);
                self.leaving.spawn(async move {
                    match how {
                        0 => left.drain().await,
                        _ => left.stop().await,
                    }
                });
            }
            // There may be none just now.
            2 => {
                let mut operator = Operator::of(self.hub);
                let links = operator.links().await;
                if let Some(link) = links.get(which) {
                    operator.kick(link).await;
                }
            }
            // Its last words come late, or in the wrong order, and what was on its way to it as well.
            3 | 4 => {
                self.way.hold(Towards::Hub);
                self.way.hold(Towards::Agent);
                self.pause().await;
                self.agents[0] = self.agent(0);
                self.pause().await;
                self.way.release(Towards::Agent).await;
                self.way.release_last_first(Towards::Hub).await;
            }
            _ => self.agents[which] = self.agent(which),
        }
    }

    /// A random time, in which calls go on.
    async fn pause(&mut self) {
        let micros = self.dice.random_range(0..3000);
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }

    async fn end(mut self) {
        for agent in self.agents {
            agent.stop().await;
        }
        while let Some(left) = soon(self.leaving.join_next()).await {
            left.unwrap();
        }
    }
}

async fn one_call(client: &RawClient, name: &str, dice: &mut StdRng) -> End {
    let refused = dice.random_bool(0.2);
    let request = named(name, if refused { path::REFUSE } else { path::ECHO });
    let data = message(&vec![b'x'; dice.random_range(0..20_000)]);
    let mut call = Call::make(client, request, false).await;
    // In two parts, between which a link may die.
    let half = data.len() / 2;
    let sent = call.send.send_data(data.slice(..half), false);
    if sent.is_ok() {
        tokio::time::sleep(Duration::from_micros(dice.random_range(0..3000))).await;
        // It may have been answered already.
        let _ = call.send.send_data(data.slice(half..), true);
    }
    let reply = match call.try_end().await {
        Ok(reply) => reply,
        Err(error) if error.reason() == Some(H2::REFUSED_STREAM) => return End::Unseen,
        Err(error) => panic!("{name}: {error}"),
    };
    end(name, &reply, refused, &data)
}

fn end(name: &str, reply: &Reply, refused: bool, data: &Bytes) -> End {
    let told = reply.told();
    let status = told["grpc-status"].to_str().unwrap();
    let Some(reason) = told.get("adit-error") else {
        let all = match refused {
            true => (status, &reply.data[..]) == ("5", b""),
            false => (status, &reply.data) == ("0", data),
        };
        assert!(all, "{name}: {reply:?}");
        return End::Answered;
    };
    let reason = reason.to_str().unwrap();
    match told["adit-delivered"].to_str().unwrap() {
        "no" => {
            assert!(reply.data.is_empty(), "{name}: {reason}");
            End::Unseen
        }
        "maybe" => {
            assert_eq!((status, reason), ("14", "link-lost"), "{name}");
            End::Unknown
        }
        other => panic!("{name}: {reason}: {other}"),
    }
}

/// Holds what clients were told against what upstreams saw.
fn judge(ends: &[(String, End)], records: &[Record; 2]) {
    let mut counts = [0; 3];
    for (name, end) in ends {
        let [a, b] = records.each_ref().map(|record| record.of(name));
        let (begun, finished) = (a.begun + b.begun, a.finished + b.finished);
        let (kind, so) = match end {
            End::Answered => (0, (begun, finished) == (1, 1)),
            End::Unseen => (1, begun == 0),
            End::Unknown => (2, begun <= 1),
        };
        counts[kind] += 1;
        assert!(
            so,
            "call {name} is {end:?}, and the upstreams have {a:?} and {b:?} of it"
        );
    }
    let [answered, _, unknown] = counts;
    assert!(
        answered >= 50 && unknown > 0,
        "{counts:?} calls answered, unseen and unknown are no test of anything"
    );
}
