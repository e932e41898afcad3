//! A NAT between agent and hub that forgets the agent: the hub sees it at another address then, and the link is the same.

use crate::world::operator::{Operator, ready};
use crate::world::raw::{RawClient, message, next_message, to};
use crate::world::relay::Relay;
use crate::world::upstream::Server;
use crate::world::{World, soon};

#[tokio::test]
async fn a_nat_that_forgets_the_agent_costs_its_calls_nothing() {
    let world = World::new();
    let hub = world.hub().await;
    let server = Server::echo().await;
    let relay = Relay::to(hub.agents).await;
    let _agent = world.agent_with(relay.address, "site-a", &[&server.url()], |agent| {
        agent.advertise("a.B")
    });
    let mut operator = Operator::of(&hub).await;
    let first = operator.sees(ready(1)).await.remove(0);
    let client = RawClient::connect(hub.clients).await;
    let (response, mut send) = client.send(to("site-a", "/a.B/C"), false).await;
    send.send_data(message(b"before"), false).unwrap();
    let mut body = soon(response).await.unwrap().into_body();
    assert_eq!(next_message(&mut body).await, message(b"before"));

    let mut address = first.remote_address;
    for number in 0..3 {
        relay.forgets();
        // The agent has nothing to send before this has come, and this can't come before the agent has sent something.
        let text = format!("after {number}");
        send.send_data(message(text.as_bytes()), false).unwrap();
        assert_eq!(next_message(&mut body).await, message(text.as_bytes()));
        let moved = |links: &[_]| ready(1)(links) && links[0].remote_address != address;
        let link = operator.sees(moved).await.remove(0);
        assert_eq!(link.id, first.id, "it is the same link");
        address = link.remote_address;
        client.get_at("site-a", "/a.B/C").await.succeeded();
    }
}
