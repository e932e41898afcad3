//! An agent that comes and goes over and over, in every way, is nobody's trouble but its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_proto::failure::Reason;
use adit_proto::hub::v1::Link;
use adit_transport::{Dialer, Tuning};
use http::Request;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;

use crate::world::operator::{Operator, ready};
use crate::world::raw::{RawClient, message, request, to};
use crate::world::relay::{Lost, Relay};
use crate::world::upstream::Server;
use crate::world::{World, soon};

/// How often the agent comes and goes.
const TIMES: usize = 24;

/// Between two calls of a steady client.
const PACE: Duration = Duration::from_millis(10);

/// What no call takes: a dead link is given up within 5 s.
const HANG: Duration = Duration::from_secs(10);

/// How the agent goes.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// It is told to stop.
    InOrder,
    /// It is dropped with all that it does.
    AtOnce,
    /// Nobody is told, as when its machine loses power.
    Silently,
    /// It was there for a handshake only.
    BeforeHello,
}

/// Whether the link of a call may end under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    /// Only steady agents can have it.
    Steady,
    /// The one that comes and goes can have it, too.
    Any,
}

/// Calls at a steady rate until they are stopped.
struct Steady {
    stop: CancellationToken,
    task: AbortOnDropHandle<Tally>,
}

/// What became of them.
#[derive(Debug, Default)]
struct Tally {
    succeeded: usize,
    lost: usize,
    slowest: Duration,
}

impl Steady {
    fn start(hub: SocketAddr, share: Share, request: impl Fn() -> Request<()> + Send + 'static) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let calling = async move {
            let client = Arc::new(RawClient::connect(hub).await);
            let (mut running, mut tally) = (JoinSet::new(), Tally::default());
            let mut pace = tokio::time::interval(PACE);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !stopped.is_cancelled() {
                tokio::select! {
                    _ = pace.tick() => {
                        let (client, request) = (Arc::clone(&client), request());
                        running.spawn(async move { call(&client, request, share).await });
                    }
                    Some(call) = running.join_next() => tally.add(call.unwrap()),
                    () = stopped.cancelled() => {}
                }
            }
            while let Some(call) = soon(running.join_next()).await {
                tally.add(call.unwrap());
            }
            tally
        };
        Self {
            stop,
            task: AbortOnDropHandle::new(tokio::spawn(calling)),
        }
    }

    async fn stop(self) -> Tally {
        self.stop.cancel();
        soon(self.task).await.unwrap()
    }
}

/// Makes one call: how long it took, and whether it succeeded. If not, its link was lost under it.
async fn call(client: &RawClient, request: Request<()>, share: Share) -> (Duration, bool) {
    let begun = Instant::now();
    let reply = client.call(request, message(b"x")).await.unwrap();
    let took = begun.elapsed();
    assert!(took < HANG, "{share:?}: a call took {took:?}: {reply:?}");
    if share == Share::Steady || reply.told()["grpc-status"] == "0" {
        assert_eq!(reply.succeeded(), b"x", "{share:?}");
        return (took, true);
    }
    reply.failed(Reason::LinkLost, Code::Unavailable, "maybe");
    (took, false)
}

impl Tally {
    fn add(&mut self, (took, succeeded): (Duration, bool)) {
        match succeeded {
            true => self.succeeded += 1,
            false => self.lost += 1,
        }
        self.slowest = self.slowest.max(took);
    }
}

/// A call for the agent with a label.
fn by_label(label: &str) -> Request<()> {
    request("/a.B/C").header("adit-select", label).body(()).unwrap()
}

#[tokio::test]
async fn an_agent_that_comes_and_goes_disturbs_no_other() {
    let world = World::new();
    let hub = world.hub().await;
    let server = Server::echo().await;
    let agent = |address, id: &str, kind: &str| {
        world.agent_with(address, id, &[&server.url()], |agent| {
            agent.advertise("a.B").label(kind.parse().unwrap())
        })
    };
    let _steady = [
        agent(hub.agents, "site-a", "kind=steady"),
        agent(hub.agents, "site-b", "kind=other"),
    ];
    let steady = Operator::of(&hub).await.sees(ready(2)).await;
    let other = Steady::start(hub.clients, Share::Steady, || to("site-b", "/a.B/C"));
    let replica = Steady::start(hub.clients, Share::Steady, || by_label("kind=steady"));
    let shared = Steady::start(hub.clients, Share::Any, || to("site-a", "/a.B/C"));

    let ways = [
        Leaves::InOrder,
        Leaves::AtOnce,
        Leaves::Silently,
        Leaves::BeforeHello,
    ];
    let client = Arc::new(RawClient::connect(hub.clients).await);
    let mut last_calls = JoinSet::new();
    for (time, leaves) in ways.into_iter().cycle().take(TIMES).enumerate() {
        if matches!(leaves, Leaves::BeforeHello) {
            let tls = world.agent_credentials("site-a").client_config().unwrap();
            let dialer = Dialer::new(tls, Tuning::default()).unwrap();
            drop(soon(dialer.dial(hub.agents, "127.0.0.1")).await.unwrap());
            continue;
        }
        let relay = Relay::to(hub.agents).await;
        let way = match leaves {
            Leaves::Silently => relay.address,
            _ => hub.agents,
        };
        let label = format!("time={time}");
        let flapping = agent(way, "site-a", &label);
        // It has calls, too, before it goes.
        client.get(by_label(&label)).await.succeeded();
        match leaves {
            Leaves::InOrder => flapping.stop().await,
            Leaves::AtOnce => drop(flapping),
            Leaves::Silently => {
                relay.loses(Lost::Everything);
                drop(flapping);
                let client = Arc::clone(&client);
                last_calls.spawn(async move { call(&client, by_label(&label), Share::Any).await });
            }
            Leaves::BeforeHello => unreachable!(),
        }
    }

    for (_, succeeded) in soon(last_calls.join_all()).await {
        assert!(!succeeded, "nobody was there to answer");
    }
    // Asked anew: what was seen before all this looked the same.
    let left = Operator::of(&hub).await.sees(ready(2)).await;
    let ids = |links: &[Link]| links.iter().map(|link| link.id).collect::<Vec<_>>();
    assert_eq!(ids(&left), ids(&steady));
    for calls in [other, replica] {
        let tally = calls.stop().await;
        assert!(tally.succeeded > TIMES && tally.lost == 0, "{tally:?}");
    }
    let tally = shared.stop().await;
    assert!(tally.succeeded > tally.lost, "{tally:?}");
}
