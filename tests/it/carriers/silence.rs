//! TCP paths that go silent, or end.

use std::time::{Duration, Instant};

use adit_agent::Carrier;
use adit_proto::failure::Reason;
use tonic::Code;

use crate::world::operator::Operator;
use crate::world::raw::{RawClient, Reply, message, next_message, to};
use crate::world::tcp_path::{Far, TcpPath};
use crate::world::upstream::Server;
use crate::world::{SHORT_GRACE, World, soon};

/// What a call on a dead link has to end within: 5 s, plus what a busy machine takes.
const HANG: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_path_that_goes_silent_is_found_dead_and_its_calls_fail_in_time() {
    let world = World::new();
    let echo = Server::echo().await;
    for carrier in [Carrier::Tls, Carrier::WebSocket] {
        let hub = world.hub_with(|hub| hub.reconnect_grace(SHORT_GRACE)).await;
        let path = TcpPath::to(Far::Tcp(hub.agents)).await;
        let _agent = world.agent_with(path.address, "site-a", &[&echo.url()], |agent| {
            agent.advertise("echo.Echo").carrier(carrier)
        });
        let mut operator = Operator::of(&hub).await;
        operator.sees(|links| links.len() == 1).await;
        let client = RawClient::connect(hub.clients).await;
        let (response, mut send) = client.send(to("site-a", "/echo.Echo/Say"), false).await;
        send.send_data(message(b"before"), false).unwrap();
        let (head, mut body) = soon(response).await.unwrap().into_parts();
        assert_eq!(next_message(&mut body).await, message(b"before"));

        path.hold();
        send.send_data(message(b"never"), false).unwrap();
        let begun = Instant::now();
        let reply = soon(Reply::read((head, body))).await.unwrap();
        assert!(begun.elapsed() < HANG, "{carrier}: {:?}", begun.elapsed());
        reply.failed(Reason::LinkLost, Code::Unavailable, "maybe");
        operator.sees(<[_]>::is_empty).await;

        // The agent has found out as well, and is back as soon as there is a way.
        path.pass();
        operator.sees(|links| links.len() == 1).await;
        let reply = soon(client.call(to("site-a", "/echo.Echo/Say"), message(b"again"))).await;
        assert_eq!(reply.unwrap().succeeded(), b"again");
        assert!(path.connections() >= 2);
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_fails_its_calls_once_and_at_once() {
    let world = World::new();
    let echo = Server::echo().await;
    let hub = world.hub().await;
    let path = TcpPath::to(Far::Tcp(hub.agents)).await;
    let _agent = world.agent_with(path.address, "site-a", &[&echo.url()], |agent| {
        agent.advertise("echo.Echo").carrier(Carrier::Tls)
    });
    let client = RawClient::connect(hub.clients).await;
    let (response, mut send) = client.send(to("site-a", "/echo.Echo/Say"), false).await;
    send.send_data(message(b"before"), false).unwrap();
    let (head, mut body) = soon(response).await.unwrap().into_parts();
    assert_eq!(next_message(&mut body).await, message(b"before"));
    let begun = Instant::now();
    drop(path);
    let reply = soon(Reply::read((head, body))).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    reply.failed(Reason::LinkLost, Code::Unavailable, "maybe");
}
