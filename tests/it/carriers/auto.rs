//! Agents that choose their carrier: QUIC wherever it works, and otherwise whatever does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use adit_agent::Carriers;
use adit_proto::hub::v1::Link;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::world::operator::Operator;
use crate::world::raw::{RawClient, message, to};
use crate::world::relay::{Lost, Relay};
use crate::world::tcp_path::{Far, TcpPath};
use crate::world::upstream::Server;
use crate::world::{Agent, Hub, World, soon};

/// Between two calls of a client that makes 500 a second.
const PACE: Duration = Duration::from_millis(2);

/// A way to a hub by UDP and TCP on one port, of which either can be lost.
struct Network {
    udp: Relay,
    _tcp: TcpPath,
}

impl Network {
    async fn to(hub: &Hub) -> Self {
        let tcp = TcpPath::to(Far::Tcp(hub.agents)).await;
        Self {
            udp: Relay::on(tcp.address, hub.agents).await,
            _tcp: tcp,
        }
    }

    fn agent(&self, world: &World, echo: &Server, first_probe: Duration) -> Agent {
        world.agent_with(self.udp.address, "site-a", &[&echo.url()], |agent| {
            agent
                .advertise("echo.Echo")
                .carriers(Carriers::Auto)
                .first_probe(first_probe)
        })
    }
}

async fn echoes(client: &RawClient) {
    let reply = soon(client.call(to("site-a", "/echo.Echo/Say"), message(b"hello"))).await;
    assert_eq!(reply.unwrap().succeeded(), b"hello");
}

#[tokio::test]
async fn quic_is_what_an_agent_chooses_where_it_works() {
    let world = World::new();
    let (hub, echo) = (world.hub().await, Server::echo().await);
    let network = Network::to(&hub).await;
    let _agent = network.agent(&world, &echo, Duration::from_secs(20));
    let mut operator = Operator::of(&hub).await;
    let links = operator.sees(|links| !links.is_empty()).await;
    assert_eq!(
        (links[0].carrier.as_str(), links[0].carrier_reason.as_str()),
        ("quic", "")
    );
    assert_eq!(links[0].carrier_moves, 0);
    echoes(&RawClient::connect(hub.clients).await).await;
}

#[tokio::test]
async fn an_agent_whose_network_drops_udp_falls_back_and_returns_without_losing_a_call() {
    let world = World::new();
    let (hub, echo) = (world.hub().await, Server::echo().await);
    let network = Network::to(&hub).await;
    network.udp.loses(Lost::Everything);
    let _agent = network.agent(&world, &echo, Duration::from_secs(2));
    let mut operator = Operator::of(&hub).await;
    let links = operator.sees(|links| !links.is_empty()).await;
    assert_eq!(links[0].carrier, "tls");
    assert!(
        links[0].carrier_reason.starts_with("quic: no answer within"),
        "{}",
        links[0].carrier_reason
    );

    // Calls are made all the time, and none of them notices.
    let (stop, made) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let caller = tokio::spawn({
        let (stop, made, clients) = (stop.clone(), Arc::clone(&made), hub.clients);
        async move {
            let client = Arc::new(RawClient::connect(clients).await);
            let (mut calls, mut pace) = (JoinSet::new(), tokio::time::interval(PACE));
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !stop.is_cancelled() {
                tokio::select! {
                    _ = pace.tick() => {
                        let (client, made) = (Arc::clone(&client), Arc::clone(&made));
                        calls.spawn(async move {
                            echoes(&client).await;
                            made.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                    Some(call) = calls.join_next() => call.unwrap(),
                    () = stop.cancelled() => {}
                }
            }
            while let Some(call) = soon(calls.join_next()).await {
                call.unwrap();
            }
        }
    });
    let calls_since = async |before: usize| {
        while made.load(Ordering::Relaxed) < before + 100 {
            tokio::time::sleep(PACE).await;
        }
    };
    soon(calls_since(0)).await;
    network.udp.loses(Lost::Nothing);
    let returned = |links: &[Link]| links.len() == 1 && links[0].carrier == "quic";
    let links = operator.sees(returned).await;
    assert_eq!(links[0].carrier_reason, "quic works again");
    assert_eq!(links[0].carrier_moves, 1);
    soon(calls_since(made.load(Ordering::Relaxed))).await;
    stop.cancel();
    soon(caller).await.unwrap();
}

#[tokio::test]
async fn a_network_that_begins_to_drop_udp_is_found_out_and_survived() {
    let world = World::new();
    let (hub, echo) = (world.hub().await, Server::echo().await);
    let network = Network::to(&hub).await;
    let _agent = network.agent(&world, &echo, Duration::from_secs(600));
    let mut operator = Operator::of(&hub).await;
    operator
        .sees(|links| links.len() == 1 && links[0].carrier == "quic")
        .await;
    let client = RawClient::connect(hub.clients).await;
    echoes(&client).await;
    network.udp.loses(Lost::Everything);
    // Something that the agent is asked, so that it notices.
    let mut lost = 0;
    let is_over_tcp = async {
        loop {
            let reply = client
                .call(to("site-a", "/echo.Echo/Say"), message(b"hello"))
                .await
                .unwrap();
            if reply.told().get("adit-error").is_none() {
                return reply;
            }
            lost += 1;
        }
    };
    assert_eq!(soon(is_over_tcp).await.succeeded(), b"hello");
    // The one that found it out, and perhaps one that came before the hub knew.
    assert!(lost <= 2, "{lost}");
    let links = operator
        .sees(|links| links.len() == 1 && links[0].carrier == "tls")
        .await;
    assert!(
        links[0].carrier_reason.contains("silent soon after"),
        "{}",
        links[0].carrier_reason
    );
    assert_eq!(links[0].carrier_moves, 1);
}
