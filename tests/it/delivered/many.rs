//! An agent that ends under many calls: each of them is told that the link was lost, and none that it was given up.

use adit_proto::failure::Reason;
use tonic::Code;

use super::{Call, Upstream, connected, named, path};
use crate::world::raw::RawClient;
use crate::world::{Agent, World};

/// So many that to let them all go takes a while, of which a second thread could make use,
const CALLS: usize = 1000;

/// though not every time.
const TIMES: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_an_agent_that_stops() {
    end_under_calls(async |agent| agent.stop().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_an_agent_that_is_dropped() {
    end_under_calls(async |agent| drop(agent)).await;
}

async fn end_under_calls(end: impl AsyncFn(Agent)) {
    let world = World::new();
    let hub = world.hub().await;
    let client = RawClient::connect(hub.clients).await;
    let upstream = Upstream::start().await;
    for time in 0..TIMES {
        let agent = upstream.agent(&world, hub.agents);
        connected(&client, &upstream.record).await;
        let mut calls = Vec::new();
        for number in 0..CALLS {
            let name = format!("call {number} of time {time}");
            calls.push(Call::make(&client, named(&name, path::SILENT), true).await);
        }
        for call in &calls {
            upstream.record.has_begun(&call.name).await;
        }
        end(agent).await;
        for call in calls {
            let name = call.name.clone();
            let reply = call.try_end().await;
            let reply = reply.unwrap_or_else(|error| panic!("{name}: {error}"));
            reply.failed_at_once(Reason::LinkLost, Code::Unavailable, "maybe");
        }
    }
}
