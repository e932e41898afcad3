//! Hubs and agents that are killed or stopped, as processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use adit_proto::failure::Reason;
use http::HeaderValue;
use tonic::Code;

use crate::world::World;
use crate::world::process::HubProcess;
use crate::world::raw::{RawClient, to};
use crate::world::sample::{self, Sample};
use crate::world::soon;

#[tokio::test]
async fn agents_come_back_by_themselves_when_their_hub_was_killed() {
    let world = World::new();
    let mut hub = HubProcess::start(&world, &[]).await;
    let sample = Sample::start().await;
    let mut agents = ["site-a", "site-b"].map(|id| hub.agent(&world, id, &["--upstream", &sample.url()]));
    for id in ["site-a", "site-b"] {
        hub.has(id).await;
        sample::four_kinds(hub.clients, Some(id)).await;
    }

    hub.process.kill().await;
    let hub = hub.again(&world, &["--reconnect-grace", "30s"]).await;
    let begun = Instant::now();
    let (a, b) = (
        sample::four_kinds(hub.clients, Some("site-a")),
        sample::four_kinds(hub.clients, Some("site-b")),
    );
    tokio::join!(a, b);
    // An idle agent learns of it with its next keep-alive, 10 s later at the most.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    for agent in &mut agents {
        agent
            .says(&["lost the link to the hub", "the peer was restarted"])
            .await;
        assert!(agent.runs());
    }
}

#[tokio::test]
async fn a_hub_that_is_told_to_stop_says_goodbye() {
    let world = World::new();
    let mut hub = HubProcess::start(&world, &[]).await;
    let sample = Sample::start().await;
    let mut agent = hub.agent(&world, "site-a", &["--upstream", &sample.url()]);
    hub.has("site-a").await;
    let begun = Instant::now();
    assert_eq!(hub.process.terminate().await.code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5));
    agent.says(&["lost the link to the hub", "the hub stopped"]).await;

    // The agent was told, so that it is back at once and not with its next keep-alive.
    let hub = hub.again(&world, &["--reconnect-grace", "30s"]).await;
    sample::four_kinds(hub.clients, Some("site-a")).await;
    assert!(agent.runs());
}

/// Calls at one agent, over and over, until told to stop. Each has to succeed.
async fn keep_calling(hub: std::net::SocketAddr, id: &str, stop: &AtomicBool, count: &AtomicUsize) {
    let mut client = sample::client(hub);
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        sample::get_feature(&mut client, Some(id)).await.unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "a call took {:?}",
            begun.elapsed()
        );
        count.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_agent_that_is_killed_is_the_loss_of_its_own_calls_only() {
    let world = World::new();
    let hub = HubProcess::start(&world, &["--reconnect-grace", "100ms"]).await;
    let sample = Sample::start().await;
    let [mut a, _b] = ["site-a", "site-b"].map(|id| hub.agent(&world, id, &["--upstream", &sample.url()]));
    for id in ["site-a", "site-b"] {
        hub.has(id).await;
    }
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let others = {
        let (stop, count, clients) = (Arc::clone(&stop), Arc::clone(&count), hub.clients);
        tokio::spawn(async move { keep_calling(clients, "site-b", &stop, &count).await })
    };
    let client = RawClient::connect(hub.clients).await;
    client.get_at("site-a", "/a.B/C").await;
    a.kill().await;

    // Nobody knows yet that it is dead. A call ends by its deadline, or says what is known.
    let mut late = to("site-a", "/a.B/C");
    late.headers_mut()
        .insert("grpc-timeout", HeaderValue::from_static("500m"));
    let begun = Instant::now();
    let reply = client.get(late).await;
    let reason = reply.told()["adit-error"].to_str().unwrap().to_owned();
    assert!(
        ["deadline", "link-lost", "agent-offline"].contains(&reason.as_str()),
        "{reply:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(3));

    // One without a deadline ends when the link is found dead, which is the idle timeout of 30 s at the latest.
    let (response, _) = client.send(to("site-a", "/a.B/C"), true).await;
    let response = tokio::time::timeout(Duration::from_secs(50), response).await;
    let response = response.expect("the link was not found dead").unwrap();
    let headers = response.headers();
    assert_eq!(headers["grpc-status"], "14", "{headers:?}");
    assert_eq!(headers["adit-error"], "link-lost", "{headers:?}");
    let reply = client.get_at("site-a", "/a.B/C").await;
    reply.failed_at_once(Reason::AgentOffline, Code::Unavailable, "no");

    let before = count.load(Ordering::Relaxed);
    soon(async {
        while count.load(Ordering::Relaxed) == before && !others.is_finished() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    soon(others).await.unwrap();
    assert!(count.load(Ordering::Relaxed) > 100, "{count:?} calls");
}

#[tokio::test]
async fn an_agent_that_is_told_to_stop_leaves_at_once() {
    let world = World::new();
    let hub = HubProcess::start(&world, &["--reconnect-grace", "100ms"]).await;
    let sample = Sample::start().await;
    let mut agent = hub.agent(&world, "site-a", &["--upstream", &sample.url()]);
    hub.has("site-a").await;
    let begun = Instant::now();
    assert_eq!(agent.terminate().await.code(), Some(0));
    hub.process
        .says(&["an agent's link ended", "the agent stopped"])
        .await;
    let reply = RawClient::connect(hub.clients)
        .await
        .get_at("site-a", "/a.B/C")
        .await;
    reply.failed_at_once(Reason::AgentOffline, Code::Unavailable, "no");
    assert!(begun.elapsed() < Duration::from_secs(5));
}
