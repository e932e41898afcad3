//! Links as they come and go, and what an operator does to them.

use adit_examples::route_guide::pb::{Point, RouteNote};
use adit_proto::failure::Reason;
use adit_proto::hub::v1::kick_request::Whom;
use adit_proto::hub::v1::link::State;
use futures_util::stream;
use tokio::sync::mpsc;
use tonic::{Code, Streaming};

use super::{Operator, ROUTE_GUIDE, list, ready};
use crate::world::sample::{self, Sample, get_feature};
use crate::world::{Hub, SHORT_GRACE, World, soon};

/// A call that goes on for as long as it is wanted.
pub(super) struct Chat {
    say: mpsc::Sender<RouteNote>,
    heard: Streaming<RouteNote>,
}

impl Chat {
    pub(super) async fn start(hub: &Hub, agent: &str) -> Self {
        let mut client = sample::client(hub.clients);
        let (say, said) = mpsc::channel(2);
        say.send(note("first")).await.unwrap();
        let notes = stream::unfold(said, |mut said| async { Some((said.recv().await?, said)) });
        let heard = soon(client.route_chat(sample::request(Some(agent), notes))).await;
        Self {
            say,
            heard: heard.unwrap().into_inner(),
        }
    }

    /// Says something, and hears what was said there first.
    pub(super) async fn says(&mut self, message: &str) {
        self.say.send(note(message)).await.unwrap();
        let heard = soon(self.heard.message()).await.unwrap();
        assert_eq!(heard.unwrap().message, "first");
    }
}

fn note(message: &str) -> RouteNote {
    RouteNote {
        // Nobody else says anything here: each test has a server of its own.
        location: Some(Point {
            latitude: 7,
            longitude: 7,
        }),
        message: message.to_owned(),
    }
}

#[tokio::test]
async fn agents_and_their_replicas_are_listed() {
    let world = World::new();
    let hub = world.hub().await;
    let sample = Sample::start().await;
    let _agents = [
        world.agent(&hub, "b", &sample.url()),
        world.agent(&hub, "a", &sample.url()),
        world.agent(&hub, "b", &sample.url()),
    ];
    let mut operator = Operator::of(&hub).await;
    operator.sees(ready(3)).await;
    get_feature(&mut sample::client(hub.clients), Some("a"))
        .await
        .unwrap();
    // A call ends at the hub when its client has the answer already.
    operator
        .sees(|links| links.len() == 3 && links[0].calls == 1 && links[0].calls_in_flight == 0)
        .await;

    let links = list(hub.admin, "", true).await;
    let agents: Vec<_> = links.iter().map(|link| link.agent.as_str()).collect();
    assert_eq!(agents, ["a", "b", "b"]);
    assert_eq!(links.iter().map(|link| link.calls).collect::<Vec<_>>(), [1, 0, 0]);
    assert!(links[1].id < links[2].id);
    assert_ne!(links[1].instance, links[2].instance);
    for link in &links {
        assert!(!link.instance.is_empty() && link.id > 0);
        assert_eq!((link.slot, link.exclusive, link.down), (0, false, false));
        assert_eq!(
            (link.version.as_str(), link.carrier.as_str()),
            (env!("CARGO_PKG_VERSION"), "quic")
        );
        assert!(
            link.services.iter().any(|service| service == ROUTE_GUIDE),
            "{link:?}"
        );
        assert_eq!(link.service_count as usize, link.services.len());
        assert_eq!(link.serving_count, link.service_count);
        assert!(link.remote_address.starts_with("127.0.0.1:"), "{link:?}");
        let connected = std::time::SystemTime::try_from(link.connected_at.unwrap()).unwrap();
        assert!(connected.elapsed().unwrap() < crate::world::PATIENCE);
        assert!(link.round_trip.unwrap().nanos > 0);
        assert_eq!(link.state(), State::Ready);
    }

    let of_a = list(hub.admin, "a", false).await;
    assert_eq!(of_a.len(), 1);
    assert_eq!(
        (of_a[0].services.len(), of_a[0].service_count),
        (0, links[0].service_count)
    );
}

#[tokio::test]
async fn a_watcher_sees_links_come_change_and_go() {
    let world = World::new();
    let hub = world.hub().await;
    let sample = Sample::start().await;
    let mut operator = Operator::of(&hub).await;
    soon(operator.next()).await.unwrap();
    assert!(
        operator.links.is_empty(),
        "the first response comes when there is nothing"
    );

    let a = world.agent(&hub, "a", &sample.url());
    let _b = world.agent(&hub, "b", &sample.url());
    let links = operator.sees(ready(2)).await;
    let first = links[0].id;

    assert_eq!(operator.drain("a", "").await.unwrap(), 1);
    operator.sees(|links| links[0].state() == State::Draining).await;
    assert_eq!(operator.resume("a", "").await.unwrap(), 1);
    operator.sees(|links| links[0].state() == State::Ready).await;
    assert_eq!(
        operator.resume("a", "").await.unwrap(),
        0,
        "it is as it should be"
    );

    assert_eq!(
        operator
            .kick(Some(Whom::Link(first)), "spring cleaning")
            .await
            .unwrap(),
        1
    );
    let links = operator
        .sees(|links| ready(2)(links) && links[0].id != first)
        .await;
    assert_eq!(links[0].agent, "a", "a kicked agent comes back");

    a.stop().await;
    let links = operator.sees(|links| links.len() == 1).await;
    assert_eq!(links[0].agent, "b");
}

#[tokio::test]
async fn a_drained_agent_ends_its_calls_and_gets_no_more() {
    let world = World::new();
    let hub = world.hub_with(|hub| hub.reconnect_grace(SHORT_GRACE)).await;
    let sample = Sample::start().await;
    let _agent = world.agent(&hub, "a", &sample.url());
    let mut operator = Operator::of(&hub).await;
    operator.sees(ready(1)).await;
    let mut chat = Chat::start(&hub, "a").await;

    assert_eq!(operator.drain("a", "").await.unwrap(), 1);
    let mut client = sample::client(hub.clients);
    let refused = get_feature(&mut client, Some("a")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert_eq!(
        refused.metadata().get("adit-error").unwrap(),
        Reason::Draining.as_str()
    );
    assert_eq!(refused.metadata().get("adit-delivered").unwrap(), "no");
    chat.says("still here").await;

    // It stays drained when it comes back.
    let old = operator.links.keys().copied().next().unwrap();
    assert_eq!(
        operator
            .kick(Some(Whom::Agent("a".to_owned())), "")
            .await
            .unwrap(),
        1
    );
    operator
        .sees(|links| links.len() == 1 && links[0].id != old && links[0].state() == State::Draining)
        .await;
    assert_eq!(operator.resume("a", "").await.unwrap(), 1);
    get_feature(&mut client, Some("a")).await.unwrap();
}

#[tokio::test]
async fn one_drained_instance_leaves_the_calls_to_the_others() {
    let world = World::new();
    let hub = world.hub().await;
    let samples = [Sample::start().await, Sample::start().await];
    let _agents = samples
        .each_ref()
        .map(|sample| world.agent(&hub, "a", &sample.url()));
    let mut operator = Operator::of(&hub).await;
    let links = operator.sees(ready(2)).await;

    assert_eq!(operator.drain("a", &links[0].instance).await.unwrap(), 1);
    let mut client = sample::client(hub.clients);
    for _ in 0..20 {
        get_feature(&mut client, Some("a")).await.unwrap();
    }
    let links = operator
        .sees(|links| links.iter().map(|link| link.calls).sum::<u64>() == 20)
        .await;
    assert_eq!((links[0].calls, links[1].calls), (0, 20));
    assert_eq!(
        operator.resume("a", "").await.unwrap(),
        2,
        "an agent is its instances"
    );
}
