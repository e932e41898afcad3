//! Calls of which nothing was written when their link died: certain that nobody saw them.

use adit_proto::failure::Reason;
use adit_transport::Tuning;
use tonic::Code;

use super::{Call, Operator, Upstream, connected, named, path};
use crate::world::raw::{RawClient, Reply, message, request};
use crate::world::{Agent, Hub, SHORT_GRACE, World};

/// An agent that takes one call at a time, beside the one that the hub makes to the agent itself.
fn small_agent(world: &World, hub: &Hub, upstream: &Upstream) -> Agent {
    upstream.agent_with(world, hub.agents, |agent| {
        agent.tuning(Tuning {
            max_calls: 2,
            ..Tuning::default()
        })
    })
}

/// A call that waits for room on a small agent's link, and the one that has the room.
async fn waiting(client: &RawClient, upstream: &Upstream, attempt: usize) -> [Call; 2] {
    let first = format!("first {attempt}");
    let has_room = Call::make(client, named(&first, path::SILENT), true).await;
    upstream.record.has_begun(&first).await;
    let waits = named(&format!("waits {attempt}"), path::ECHO);
    let mut waits = Call::make(client, waits, false).await;
    waits.send.send_data(message(b"patience"), true).unwrap();
    // The hub takes calls of one connection in their order: once this has failed, the other has asked for a stream.
    let denied = client.get(request("/adit.x/Y").body(()).unwrap()).await;
    denied.failed(Reason::Denied, Code::PermissionDenied, "no");
    [has_room, waits]
}

/// Whether room was waited for in vain, on a machine that was too busy to end the link meanwhile.
fn too_late(reply: &Reply) -> bool {
    reply
        .told()
        .get("adit-error")
        .is_some_and(|reason| reason == Reason::AgentBusy.as_str())
}

async fn is_lost(call: Call) {
    let reply = call.ends().await;
    reply.failed_at_once(Reason::LinkLost, Code::Unavailable, "maybe");
}

#[tokio::test]
async fn it_is_told_so_when_there_is_no_other_link() {
    let world = World::new();
    let hub = world.hub_with(|hub| hub.reconnect_grace(SHORT_GRACE)).await;
    let client = RawClient::connect(hub.clients).await;
    let upstream = Upstream::start().await;
    for attempt in 0.. {
        let agent = small_agent(&world, &hub, &upstream);
        connected(&client, &upstream.record).await;
        let [has_room, waits] = waiting(&client, &upstream, attempt).await;
        drop(agent);
        let name = waits.name.clone();
        let reply = waits.ends().await;
        is_lost(has_room).await;
        assert_eq!(upstream.record.of(&name).begun, 0);
        if too_late(&reply) {
            continue;
        }
        reply.failed_at_once(Reason::LinkLost, Code::Unavailable, "no");
        break;
    }
}

#[tokio::test]
async fn it_is_made_once_on_the_link_that_follows() {
    let world = World::new();
    let hub = world.hub().await;
    let client = RawClient::connect(hub.clients).await;
    let upstream = Upstream::start().await;
    let _agent = small_agent(&world, &hub, &upstream);
    for attempt in 0.. {
        let mut operator = Operator::of(&hub);
        let links = operator.sees(1).await;
        let [has_room, waits] = waiting(&client, &upstream, attempt).await;
        operator.kick(&links[0]).await;
        let name = waits.name.clone();
        let reply = waits.ends().await;
        is_lost(has_room).await;
        if too_late(&reply) {
            continue;
        }
        assert_eq!(reply.succeeded(), b"patience");
        assert_eq!(upstream.record.of(&name).begun, 1);
        break;
    }
}

#[tokio::test]
async fn it_is_made_once_by_another_replica() {
    let world = World::new();
    let hub = world.hub().await;
    let client = RawClient::connect(hub.clients).await;
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    let _replica = other.agent(&world, hub.agents);
    let mut operator = Operator::of(&hub);
    let replica = operator.sees(1).await.remove(0);
    let mut attempt = 0;
    for kicked in [false, true] {
        loop {
            attempt += 1;
            // The call is to begin its way on the other link.
            operator.drain(&replica).await;
            let agent = small_agent(&world, &hub, &upstream);
            let link = operator.sees(2).await.remove(1);
            let [has_room, waits] = waiting(&client, &upstream, attempt).await;
            if kicked {
                operator.kick(&link).await;
            }
            // One that was kicked is not to come back.
            drop(agent);
            operator.resume().await;
            let name = waits.name.clone();
            let reply = waits.ends().await;
            is_lost(has_room).await;
            operator.sees(1).await;
            assert_eq!(upstream.record.of(&name).begun, 0);
            if !too_late(&reply) {
                assert_eq!(reply.succeeded(), b"patience");
                assert_eq!(other.record.of(&name).begun, 1);
                break;
            }
        }
    }
}
