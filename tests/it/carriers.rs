//! What links are to do on every carrier, and what is between agents and hubs: proxies, nginx, networks that go silent.

mod auto;
mod between;
mod silence;

use std::time::Duration;

use adit_agent::Carrier;
use adit_certs::{Subject, Validity};
use adit_hub::AgentsAddress;
use adit_proto::failure::Reason;
use bytes::Bytes;
use tokio::net::TcpListener;
use tonic::Code;

use crate::world::operator::Operator;
use crate::world::process::{self, HubProcess};
use crate::world::raw::{RawClient, message, next_message, to};
use crate::world::sample::{self, Sample};
use crate::world::upstream::Server;
use crate::world::{ANY_PORT, World, a_day, soon};

const ALL: [Carrier; 3] = [Carrier::Quic, Carrier::Tls, Carrier::WebSocket];

/// Larger than every window.
const LARGE: usize = 6 << 20;

#[tokio::test]
async fn every_carrier_carries_all_kinds_and_is_shown() {
    let world = World::new();
    let hub = world.hub().await;
    let sample = Sample::start().await;
    let ids = ["site-quic", "site-tls", "site-websocket"];
    let _agents: Vec<_> = ids
        .iter()
        .zip(ALL)
        .map(|(id, carrier)| {
            world.agent_with(hub.agents, id, &[&sample.url()], |agent| agent.carrier(carrier))
        })
        .collect();
    for id in ids {
        sample::four_kinds(hub.clients, Some(id)).await;
    }
    assert_eq!(sample.calls().begun, 12);
    assert_eq!(sample.calls().cancelled, 0);
    let mut operator = Operator::of(&hub).await;
    // What was measured has replaced what is assumed at first.
    let measured = |link: &adit_proto::hub::v1::Link| {
        let round_trip = link.round_trip.and_then(|time| Duration::try_from(time).ok());
        round_trip.is_some_and(|time| time != adit_transport::Tuning::default().initial_rtt)
    };
    let links = operator
        .sees(|links| links.len() == 3 && links.iter().all(measured))
        .await;
    let carriers: Vec<_> = links.iter().map(|link| link.carrier.as_str()).collect();
    assert_eq!(carriers, ["quic", "tls", "websocket"]);
}

#[tokio::test]
async fn large_messages_cancellations_and_failures_are_the_same_on_every_carrier() {
    let world = World::new();
    let hub = world.hub().await;
    let echo = Server::echo().await;
    for carrier in ALL {
        let id = format!("site-{carrier}");
        let agent = world.agent_with(hub.agents, &id, &[&echo.url()], |agent| {
            agent.advertise("echo.Echo").carrier(carrier)
        });
        let client = RawClient::connect(hub.clients).await;
        let large = Bytes::from((0..LARGE).map(|at| at.to_le_bytes()[at % 3]).collect::<Vec<_>>());
        let request = || to(&id, "/echo.Echo/Say");
        let reply = soon(client.call(request(), message(&large))).await.unwrap();
        assert!(reply.succeeded() == &large[..], "{carrier}: other bytes");

        // A stream that is given up ends at the upstream, and those beside it go on.
        let (response, mut given_up) = client.send(request(), false).await;
        given_up.send_data(message(b"one"), false).unwrap();
        let mut body = soon(response).await.unwrap().into_body();
        assert_eq!(next_message(&mut body).await, message(b"one"));
        given_up.send_reset(h2::Reason::CANCEL);
        let (response, mut beside) = client.send(request(), false).await;
        beside.send_data(message(b"two"), true).unwrap();
        let mut body = soon(response).await.unwrap().into_body();
        assert_eq!(next_message(&mut body).await, message(b"two"));

        // A stream that runs when its agent is stopped fails at once.
        let (response, mut running) = client.send(request(), false).await;
        running.send_data(message(b"three"), false).unwrap();
        let mut body = soon(response).await.unwrap().into_body();
        assert_eq!(next_message(&mut body).await, message(b"three"));
        agent.stop().await;
        assert!(soon(body.data()).await.is_none());
        let trailers = soon(body.trailers()).await.unwrap().unwrap();
        assert_eq!(trailers["adit-error"], Reason::LinkLost.as_str(), "{carrier}");
        assert_eq!(trailers["grpc-status"], (Code::Unavailable as i32).to_string());
    }
}

#[tokio::test]
async fn agents_are_refused_alike_on_every_carrier() {
    let world = World::new();
    let mut hub = HubProcess::start(&world, &[]).await;
    let (stranger, echo) = (World::new(), Server::echo().await);
    for carrier in ["quic", "tls", "websocket"] {
        // Of another CA, and without trust in this one.
        stranger.agent_files("site-a");
        let address = hub.agents.to_string();
        let arguments = [
            "agent",
            "--certs",
            stranger.dir(),
            "--id",
            "site-a",
            "--hub",
            &address,
        ];
        let more = ["--upstream", &echo.url(), "--carrier", carrier];
        let agent = process::Process::start(&[&arguments[..], &more].concat());
        agent.says(&["cannot reach the hub", "certificate"]).await;
        drop(agent);

        // A client's certificate is no agent's, and an exclusive id has one holder.
        let exclusive = ["--upstream", &echo.url(), "--carrier", carrier, "--exclusive"];
        let id = format!("site-{carrier}");
        let first = hub.agent(&world, &id, &exclusive);
        hub.has(&id).await;
        let second = hub.agent(&world, &id, &exclusive);
        second.says(&["the hub refuses this agent", "is exclusive"]).await;
        drop((first, second));
    }
    assert!(hub.process.runs());
}

#[tokio::test]
async fn a_hub_beside_a_web_server_takes_the_udp_port_alone() {
    let world = World::new();
    let web = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = web.local_addr().unwrap();
    let taken = address.to_string();
    let arguments = ["hub", "--certs", world.dir(), "--clients", "127.0.0.1:0"];
    let arguments = [&arguments[..], &["--admin", "127.0.0.1:0", "--agents", &taken]].concat();
    let said = process::fails(&arguments, 1).await;
    assert!(said.contains(&format!("--agents udp:{taken}")), "{said}");

    let address = AgentsAddress {
        address,
        udp_only: true,
    };
    let hub = world.hub_with(|hub| hub.agents(address)).await;
    let sample = Sample::start().await;
    let _agent = world.agent_with(address.address, "site-a", &[&sample.url()], |agent| agent);
    sample::four_kinds(hub.clients, Some("site-a")).await;
    drop(web);
    hub.stop().await;
}

#[tokio::test]
async fn agents_come_back_by_themselves_when_their_hub_was_killed_or_stopped() {
    let world = World::new();
    let mut hub = HubProcess::start(&world, &[]).await;
    let sample = Sample::start().await;
    let agents: Vec<_> = ["tls", "websocket"]
        .iter()
        .map(|carrier| {
            hub.agent(
                &world,
                &format!("site-{carrier}"),
                &["--upstream", &sample.url(), "--carrier", carrier],
            )
        })
        .collect();
    for carrier in ["tls", "websocket"] {
        hub.has(&format!("site-{carrier}")).await;
    }
    hub.process.kill().await;
    for agent in &agents {
        agent
            .says(&["lost the link to the hub", "the connection broke"])
            .await;
    }
    let mut hub = hub.again(&world, &["--reconnect-grace", "30s"]).await;
    for carrier in ["tls", "websocket"] {
        sample::four_kinds(hub.clients, Some(&format!("site-{carrier}"))).await;
    }
    assert_eq!(hub.process.terminate().await.code(), Some(0));
    for agent in &agents {
        agent.says(&["lost the link to the hub", "the hub stopped"]).await;
    }
    let hub = hub.again(&world, &["--reconnect-grace", "30s"]).await;
    for carrier in ["tls", "websocket"] {
        sample::four_kinds(hub.clients, Some(&format!("site-{carrier}"))).await;
    }
}

#[tokio::test]
async fn calls_that_run_end_in_order_when_an_agent_or_a_hub_drains() {
    let world = World::new();
    for carrier in [Carrier::Tls, Carrier::WebSocket] {
        let hub = world.hub().await;
        let echo = Server::echo().await;
        let agent = world.agent_with(hub.agents, "site-a", &[&echo.url()], |agent| {
            agent.advertise("echo.Echo").carrier(carrier)
        });
        let client = RawClient::connect(hub.clients).await;
        let (response, mut send) = client.send(to("site-a", "/echo.Echo/Say"), false).await;
        send.send_data(message(b"before"), false).unwrap();
        let mut body = soon(response).await.unwrap().into_body();
        assert_eq!(next_message(&mut body).await, message(b"before"));
        let draining = tokio::spawn(agent.drain());
        let mut operator = Operator::of(&hub).await;
        operator
            .sees(|links| {
                links
                    .iter()
                    .all(|link| link.state() == adit_proto::hub::v1::link::State::Draining)
            })
            .await;
        assert!(!draining.is_finished());
        send.send_data(message(b"after"), true).unwrap();
        assert_eq!(next_message(&mut body).await, message(b"after"));
        assert!(soon(body.data()).await.is_none());
        let trailers = soon(body.trailers()).await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
        soon(draining).await.unwrap();
    }
}

#[tokio::test]
async fn a_carrier_that_does_not_fit_is_refused_before_anything_is_dialled() {
    let world = World::new();
    world.agent_files("site-a");
    let base = [
        "agent",
        "--certs",
        world.dir(),
        "--id",
        "site-a",
        "--upstream",
        "http://127.0.0.1:1",
    ];
    for (arguments, code, said) in [
        (
            &["--hub", "hub:4433", "--carrier", "udp"][..],
            2,
            "unknown carrier \"udp\"",
        ),
        (
            &["--hub", "wss://hub/tunnel", "--carrier", "tls"],
            1,
            "is the address of a WebSocket",
        ),
        (
            &["--hub", "wss://hub:0/tunnel"],
            2,
            "is no address of a WebSocket",
        ),
        (
            &["--hub", "wss://hub/tunnel", "--websocket-ca", "/nowhere.pem"],
            1,
            "/nowhere.pem",
        ),
    ] {
        let error = process::fails(&[&base[..], arguments].concat(), code).await;
        assert!(error.contains(said), "{error}");
    }
}

/// The files of something before the hub: a certificate for this machine, of the same CA here.
fn front(world: &World) -> (String, String) {
    let name = "front".parse().unwrap();
    let subject = Subject::Server {
        name,
        sans: vec!["127.0.0.1".parse().unwrap(), "localhost".parse().unwrap()],
    };
    let validity: Validity = a_day();
    world.issue(&subject, validity);
    let file = |ending: &str| format!("{}/server-front.{ending}", world.dir());
    (file("pem"), file("key"))
}
