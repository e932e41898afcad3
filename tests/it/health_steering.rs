//! What an upstream says of its health, and whether it is there at all, decides which of several equal agents has a
//! call, and never which agent is meant.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use adit_examples::ledger::Ledger;
use adit_examples::route_guide::{self, RouteGuideClient};
use adit_examples::serve::{Address, Listener};
use adit_proto::hub::v1::Link;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as Said;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::{HealthReporter, health_reporter};

use crate::world::operator::{Operator, channel, ready};
use crate::world::sample::{self, get_feature};
use crate::world::{ANY_PORT, Agent, Hub, World, soon};

/// The service whose health is told.
const SERVICE: &str = route_guide::SERVICE_NAME;

/// Calls that are made at once. Of calls that follow one another, the replica that seems nearer may have all.
const CALLS: u64 = 20;

/// RouteGuide as an upstream, with a health that can be set.
struct Upstream {
    address: SocketAddr,
    ledger: Ledger,
    health: HealthReporter,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Upstream {
    /// One that serves.
    async fn start() -> Self {
        Self::start_at(ANY_PORT).await
    }

    async fn start_at(address: SocketAddr) -> Self {
        let ledger = Ledger::default();
        let (health, service) = health_reporter();
        health.set_service_status(SERVICE, ServingStatus::Serving).await;
        let routes = Routes::new(ledger.follow(route_guide::service())).add_service(service);
        let listener = Listener::bind(Address::Tcp(address)).await.unwrap();
        let Address::Tcp(address) = *listener.address() else {
            unreachable!();
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move { listener.serve(routes, stopped).await.unwrap() });
        Self {
            address,
            ledger,
            health,
            stop,
            task: AbortOnDropHandle::new(task),
        }
    }

    /// Says of a service, or with the empty name of the whole server, whether it serves.
    async fn says(&self, service: &str, status: ServingStatus) {
        self.health.set_service_status(service, status).await;
    }

    /// Calls so far.
    fn calls(&self) -> u64 {
        self.ledger.calls().borrow().begun
    }

    /// Stops it in order, as a new version of a service takes the place of an old one.
    async fn stop(self) -> SocketAddr {
        self.stop.cancel();
        soon(self.task).await.unwrap();
        self.address
    }
}

/// A hub, and two replicas of `site-a`, each with an upstream of its own.
struct Pair {
    client: RouteGuideClient<Channel>,
    operator: Operator,
    upstreams: [Upstream; 2],
    _agents: [Agent; 2],
    hub: Hub,
    _world: World,
}

impl Pair {
    async fn start() -> Self {
        let world = World::new();
        let hub = world.hub().await;
        let upstreams = [Upstream::start().await, Upstream::start().await];
        let agents = upstreams
            .each_ref()
            .map(|upstream| agent(&world, &hub, "site-a", upstream));
        let mut operator = Operator::of(&hub).await;
        operator.sees(ready(2)).await;
        Self {
            client: sample::client(hub.clients),
            operator,
            upstreams,
            _agents: agents,
            hub,
            _world: world,
        }
    }

    /// Makes calls, which have to succeed: how many of them each upstream had.
    async fn call(&mut self) -> [u64; 2] {
        let before = self.calls();
        calls_at(&self.client, "site-a").await;
        let after = self.calls();
        [after[0] - before[0], after[1] - before[1]]
    }

    fn calls(&self) -> [u64; 2] {
        self.upstreams.each_ref().map(Upstream::calls)
    }

    /// Calls until both have had some.
    async fn both_have_calls(&mut self) {
        let mut had = [0; 2];
        soon(async {
            while had.contains(&0) {
                let more = self.call().await;
                had = [had[0] + more[0], had[1] + more[1]];
            }
        })
        .await;
    }
}

/// Makes calls at an agent, all at once. Each has to succeed.
async fn calls_at(client: &RouteGuideClient<Channel>, agent: &str) {
    let calls = (0..CALLS).map(|_| {
        let mut client = client.clone();
        async move { get_feature(&mut client, Some(agent)).await.unwrap() }
    });
    join_all(calls).await;
}

fn agent(world: &World, hub: &Hub, id: &str, upstream: &Upstream) -> Agent {
    let address = format!("http://{}", upstream.address);
    world.agent_with(hub.agents, id, &[&address], |agent| {
        agent.advertise(SERVICE).label("kind=guide".parse().unwrap())
    })
}

/// So many links whose service takes no calls.
fn not_serving(count: usize) -> impl Fn(&[Link]) -> bool {
    move |links| links.iter().filter(|link| link.serving_count == 0).count() == count
}

/// What happens to calls at a pair when one upstream, and then both, say that they do not serve.
async fn steered_by(service: &str) {
    let mut pair = Pair::start().await;
    pair.both_have_calls().await;

    for sick in [0, 1] {
        let well = 1 - sick;
        pair.upstreams[sick]
            .says(service, ServingStatus::NotServing)
            .await;
        let links = pair.operator.sees(not_serving(1)).await;
        assert!(
            links
                .iter()
                .all(|link| link.down == (service.is_empty() && link.serving_count == 0)),
            "{links:#?}"
        );
        let had = pair.call().await;
        assert_eq!((had[sick], had[well]), (0, CALLS));

        pair.upstreams[sick].says(service, ServingStatus::Serving).await;
        pair.operator.sees(not_serving(0)).await;
        pair.both_have_calls().await;
    }

    // Neither is better than the other, and the agent that is meant is this one: its upstreams decide.
    for upstream in &pair.upstreams {
        upstream.says(service, ServingStatus::NotServing).await;
    }
    pair.operator.sees(not_serving(2)).await;
    pair.both_have_calls().await;
    get_feature(&mut pair.client, None).await.unwrap();

    pair.upstreams[1].says(service, ServingStatus::Serving).await;
    pair.operator.sees(not_serving(1)).await;
    assert_eq!(pair.call().await, [0, CALLS]);
}

#[tokio::test]
async fn a_replica_whose_service_does_not_serve_has_no_calls_while_another_does() {
    steered_by(SERVICE).await;
}

#[tokio::test]
async fn a_replica_whose_server_does_not_serve_has_no_calls_while_another_does() {
    steered_by("").await;
}

#[tokio::test]
async fn a_service_that_does_not_serve_leaves_its_neighbours_their_calls() {
    let mut pair = Pair::start().await;
    pair.upstreams[0].says(SERVICE, ServingStatus::NotServing).await;
    pair.operator.sees(not_serving(1)).await;
    // The health service itself is such a neighbour, and tells who answered.
    let health = HealthClient::new(channel(pair.hub.clients));
    let ask = || {
        let mut health = health.clone();
        async move {
            let service = SERVICE.to_owned();
            let question = sample::request(Some("site-a"), HealthCheckRequest { service });
            health.check(question).await.unwrap().into_inner().status()
        }
    };
    soon(async {
        let mut heard = Vec::new();
        while !(heard.contains(&Said::Serving) && heard.contains(&Said::NotServing)) {
            heard.extend(join_all((0..CALLS).map(|_| ask())).await);
        }
    })
    .await;
    assert_eq!(pair.call().await, [0, CALLS]);
}

#[tokio::test]
async fn health_chooses_among_agents_that_are_equal_and_never_another_than_is_meant() {
    let world = World::new();
    let hub = world.hub().await;
    let upstreams = [Upstream::start().await, Upstream::start().await];
    let _agents = [
        agent(&world, &hub, "sick", &upstreams[0]),
        agent(&world, &hub, "well", &upstreams[1]),
    ];
    let mut operator = Operator::of(&hub).await;
    operator.sees(ready(2)).await;
    upstreams[0].says("", ServingStatus::NotServing).await;
    operator.sees(not_serving(1)).await;

    let mut client = sample::client(hub.clients);
    calls_at(&client, "sick").await;
    assert_eq!(upstreams.each_ref().map(Upstream::calls), [CALLS, 0]);
    for _ in 0..CALLS {
        let mut any = sample::request(None, sample::a_place().location.unwrap());
        any.metadata_mut()
            .insert("adit-select", "kind=guide".parse().unwrap());
        soon(client.get_feature(any)).await.unwrap();
    }
    assert_eq!(upstreams.each_ref().map(Upstream::calls), [CALLS, CALLS]);
    // Of two ids none is chosen for being well.
    let refused = get_feature(&mut client, None).await.unwrap_err();
    assert_eq!(refused.metadata().get("adit-error").unwrap(), "ambiguous-route");
}

#[tokio::test]
async fn no_call_fails_when_an_upstream_stops_and_comes_back() {
    let mut pair = Pair::start().await;
    pair.both_have_calls().await;
    let stop = Arc::new(AtomicBool::new(false));
    let calling = {
        let (client, stop) = (sample::client(pair.hub.clients), Arc::clone(&stop));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                calls_at(&client, "site-a").await;
            }
        })
    };
    let calling = AbortOnDropHandle::new(calling);
    for _ in 0..3 {
        let [stops, stays] = pair.upstreams;
        let address = stops.stop().await;
        pair.operator
            .sees(|links| links.iter().filter(|link| link.down).count() == 1)
            .await;
        let before = stays.calls();
        calls_at(&pair.client, "site-a").await;
        assert!(stays.calls() >= before + CALLS);

        let back = Upstream::start_at(address).await;
        pair.operator.sees(not_serving(0)).await;
        // Each in its turn.
        pair.upstreams = [stays, back];
        pair.both_have_calls().await;
    }
    stop.store(true, Ordering::Relaxed);
    soon(calling).await.unwrap();
}
