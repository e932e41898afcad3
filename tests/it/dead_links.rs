//! A link whose network goes dark, as when a cable is pulled: nobody is told, and nothing comes any more.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_proto::failure::Reason;
use adit_proto::hub::v1::Link;
use adit_proto::hub::v1::link::State;
use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::task::JoinSet;
use tonic::Code;

use crate::world::operator::{Operator, ready};
use crate::world::raw::{RawClient, Reply, message, next_message, request, to};
use crate::world::relay::{Lost, Relay};
use crate::world::upstream::Server;
use crate::world::{SHORT_GRACE, World, soon};

/// What a call on a dead link has to end within. It does within 5 s, plus what a busy machine takes.
const HANG: Duration = Duration::from_secs(10);

/// Between two calls of a steady client.
const PACE: Duration = Duration::from_millis(20);

/// Calls that run on a good link, so that a bad one without as many looks better.
const BUSY: usize = 100;

/// A call to an echo that goes on.
struct Running {
    body: RecvStream,
    send: SendStream<Bytes>,
}

impl Running {
    /// Begins a call, which is at the upstream then.
    async fn begin(client: &RawClient, request: Request<()>) -> Self {
        let (response, mut send) = client.send(request, false).await;
        send.send_data(message(b"begin"), false).unwrap();
        let body = soon(response).await.unwrap().into_body();
        let mut running = Self { body, send };
        assert_eq!(next_message(&mut running.body).await, message(b"begin"));
        running
    }

    fn say(&mut self, text: &[u8]) {
        self.send.send_data(message(text), false).unwrap();
    }

    async fn hears(&mut self, text: &[u8]) {
        assert_eq!(next_message(&mut self.body).await, message(text));
    }

    /// The trailers, where nothing else comes before them.
    async fn ended(mut self) -> HeaderMap {
        if let Some(data) = soon(self.body.data()).await {
            panic!("{data:?}");
        }
        soon(self.body.trailers()).await.unwrap().unwrap()
    }
}

/// Unary calls, of which several run at once.
struct Calls {
    client: Arc<RawClient>,
    running: JoinSet<Call>,
}

/// One that has ended.
struct Call {
    reply: Reply,
    begun: Instant,
    took: Duration,
}

impl Calls {
    fn of(client: &Arc<RawClient>) -> Self {
        Self {
            client: Arc::clone(client),
            running: JoinSet::new(),
        }
    }

    fn begin(&mut self, request: Request<()>) {
        let (client, begun) = (Arc::clone(&self.client), Instant::now());
        self.running.spawn(async move {
            let reply = client.get(request).await;
            let took = begun.elapsed();
            Call { reply, begun, took }
        });
    }

    /// Begins one after another for `site-a` until `waiting` is ready.
    async fn while_waiting<T>(&mut self, waiting: impl Future<Output = T>) -> T {
        let mut waiting = pin!(waiting);
        let mut pace = tokio::time::interval(PACE);
        loop {
            tokio::select! {
                ready = &mut waiting => return ready,
                _ = pace.tick() => self.begin(to("site-a", "/a.B/C")),
            }
        }
    }

    async fn ended(self) -> Vec<Call> {
        soon(self.running.join_all()).await
    }
}

/// Whether one of the links is in doubt.
fn suspect(links: &[Link]) -> bool {
    links.iter().any(|link| link.state() == State::Suspect)
}

/// Checks that a call was lost with its link.
fn was_lost(told: &HeaderMap) {
    assert_eq!(told["grpc-status"], "14", "{told:?}");
    assert_eq!(told["adit-error"], "link-lost", "{told:?}");
    assert_eq!(told["adit-delivered"], "maybe", "{told:?}");
}

/// A call for the link with a label.
fn by_label(label: &str) -> Request<()> {
    request("/a.B/C").header("adit-select", label).body(()).unwrap()
}

/// The link goes dark under a call, and comes back once it was given up.
async fn goes_dark(lost: Lost) {
    let world = World::new();
    let hub = world.hub_with(|hub| hub.reconnect_grace(SHORT_GRACE)).await;
    let server = Server::echo().await;
    let relay = Relay::to(hub.agents).await;
    let _agent = world.agent_with(relay.address, "site-a", &[&server.url()], |agent| {
        agent.advertise("a.B")
    });
    let mut operator = Operator::of(&hub).await;
    let links = operator.sees(ready(1)).await;
    let client = RawClient::connect(hub.clients).await;
    let running = Running::begin(&client, to("site-a", "/a.B/C")).await;

    relay.loses(lost);
    let begun = Instant::now();
    let (running, first) = tokio::join!(running.ended(), client.get_at("site-a", "/a.B/C"));
    let took = begun.elapsed();
    was_lost(&running);
    let said = first.failed_at_once(Reason::LinkLost, Code::Unavailable, "maybe");
    assert!(said.contains("agent site-a"), "{said}");
    assert!(took < HANG, "{lost:?}: the calls ended after {took:?}");

    // Nobody waits for it a second time.
    operator.sees(|links| links.is_empty()).await;
    let begun = Instant::now();
    let next = client.get_at("site-a", "/a.B/C").await;
    next.failed_at_once(Reason::AgentOffline, Code::Unavailable, "no");
    assert!(begun.elapsed() < HANG / 2, "{lost:?}: {:?}", begun.elapsed());

    relay.loses(Lost::Nothing);
    let again = operator.sees(ready(1)).await;
    assert_ne!(again[0].id, links[0].id);
    assert_eq!(again[0].instance, links[0].instance, "it is the same process");
    client.get_at("site-a", "/a.B/C").await.succeeded();
    let mut running = Running::begin(&client, to("site-a", "/a.B/C")).await;
    running.say(b"more");
    running.hears(b"more").await;
}

#[tokio::test]
async fn calls_on_a_link_that_goes_dark_end_and_the_agent_comes_back() {
    tokio::join!(
        goes_dark(Lost::Everything),
        goes_dark(Lost::TowardsAgent),
        goes_dark(Lost::TowardsHub)
    );
}

#[tokio::test]
async fn a_gap_that_is_short_loses_nothing() {
    let world = World::new();
    let hub = world.hub().await;
    let server = Server::echo().await;
    let relay = Relay::to(hub.agents).await;
    let _agent = world.agent_with(relay.address, "site-a", &[&server.url()], |agent| {
        agent.advertise("a.B")
    });
    let mut operator = Operator::of(&hub).await;
    let before = operator.sees(ready(1)).await;
    let client = Arc::new(RawClient::connect(hub.clients).await);
    let mut running = Running::begin(&client, to("site-a", "/a.B/C")).await;

    relay.loses(Lost::Everything);
    running.say(b"into the gap");
    let mut calls = Calls::of(&client);
    let through = async {
        operator.sees(suspect).await;
        relay.loses(Lost::Nothing);
        operator.sees(ready(1)).await
    };
    let after = calls.while_waiting(through).await;
    for call in calls.ended().await {
        call.reply.succeeded();
    }
    running.hears(b"into the gap").await;
    assert_eq!(after[0].id, before[0].id, "it is the same link");
}

#[tokio::test]
async fn a_replica_with_a_good_link_has_the_calls_of_one_that_goes_dark() {
    let world = World::new();
    let hub = world.hub_with(|hub| hub.reconnect_grace(SHORT_GRACE)).await;
    let server = Server::echo().await;
    let relay = Relay::to(hub.agents).await;
    let agent = |address, way: &str| {
        world.agent_with(address, "site-a", &[&server.url()], |agent| {
            agent.advertise("a.B").label(way.parse().unwrap())
        })
    };
    let _agents = [agent(relay.address, "way=relay"), agent(hub.agents, "way=direct")];
    let mut operator = Operator::of(&hub).await;
    let links = operator.sees(ready(2)).await;
    let direct = links.iter().find(|link| link.labels["way"] == "direct").unwrap();
    let client = Arc::new(RawClient::connect(hub.clients).await);
    let dark = Running::begin(&client, by_label("way=relay")).await;
    let mut well = Vec::new();
    for _ in 0..BUSY {
        well.push(Running::begin(&client, by_label("way=direct")).await);
    }

    relay.loses(Lost::Everything);
    let mut calls = Calls::of(&client);
    // One for the dead link itself, and others for either, until the dead one is gone. It has fewer calls, and would
    // have most of them, were it not in doubt.
    calls.begin(by_label("way=relay"));
    let watched = async {
        operator.sees(suspect).await;
        let doubted = Instant::now();
        (doubted, operator.sees(|links| links.len() == 1).await)
    };
    let (doubted, left) = calls.while_waiting(watched).await;
    assert_eq!(left[0].id, direct.id);
    calls.begin(to("site-a", "/a.B/C"));

    was_lost(&dark.ended().await);
    let (mut lost, mut succeeded) = (0, 0);
    for Call { reply, begun, took } in calls.ended().await {
        assert!(took < HANG, "a call took {took:?}: {reply:?}");
        if reply.told()["grpc-status"] == "0" {
            succeeded += 1;
        } else {
            reply.failed_at_once(Reason::LinkLost, Code::Unavailable, "maybe");
            assert!(begun < doubted, "a link in doubt had a call");
            lost += 1;
        }
    }
    assert!(lost >= 1 && succeeded >= 1, "{lost} lost, {succeeded} not");
    for call in &mut well {
        call.say(b"all the while");
        call.hears(b"all the while").await;
    }
    // The one that is gone is no target any more.
    let reply = client.get(by_label("way=relay")).await;
    reply.failed_at_once(Reason::AgentOffline, Code::Unavailable, "no");

    relay.loses(Lost::Nothing);
    operator.sees(ready(2)).await;
    client.get(by_label("way=relay")).await.succeeded();
}
