//! SIGINT and SIGTERM: the first drains, a second stops at once.

use std::future::pending;
use std::time::{Duration, Instant};

use adit_proto::failure::Reason;
use tonic::Code;

use crate::world::process::HubProcess;
use crate::world::raw::{RawClient, Reply, to};
use crate::world::upstream::{self, Server};
use crate::world::{World, soon};

/// An upstream whose calls never end, but for those that it answers at once.
async fn upstream() -> Server {
    Server::start(|exchange| async move {
        if exchange.request.uri().path() == "/a.B/Quick" {
            upstream::echo(exchange).await;
        } else {
            pending::<()>().await;
        }
    })
    .await
}

#[tokio::test]
async fn an_agent_drains_at_the_first_signal_and_stops_at_the_second() {
    let world = World::new();
    let hub = HubProcess::start(&world, &["--reconnect-grace", "50ms"]).await;
    let upstream = upstream().await;
    let mut agent = hub.agent(
        &world,
        "site-a",
        &[
            "--upstream",
            &upstream.url(),
            "--service",
            "a.B",
            "--drain-timeout",
            "5m",
        ],
    );
    hub.has("site-a").await;
    let client = RawClient::connect(hub.clients).await;
    client.get_at("site-a", "/a.B/Quick").await.succeeded();
    let (running, _request) = client.send(to("site-a", "/a.B/Slow"), true).await;
    // The call is with the agent: a later one has been answered.
    client.get_at("site-a", "/a.B/Quick").await.succeeded();

    agent.signal("INT").await;
    agent
        .says(&[
            "draining",
            "signal=\"SIGINT\"",
            "drain_timeout=5m",
            "a second signal stops at once",
        ])
        .await;
    hub.process.says(&["takes no new calls", "agent=site-a"]).await;
    client
        .get_at("site-a", "/a.B/Quick")
        .await
        .failed(Reason::Draining, Code::Unavailable, "no");
    assert!(agent.runs(), "it has a call that runs");

    let begun = Instant::now();
    assert_eq!(agent.terminate().await.code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5));
    agent.says(&["stopping at once", "SIGTERM"]).await;
    let reply = soon(running).await.unwrap();
    let reply = Reply::read(reply.into_parts()).await.unwrap();
    reply.failed(Reason::LinkLost, Code::Unavailable, "maybe");
}

#[tokio::test]
async fn a_hub_drains_at_the_first_signal_and_stops_at_the_second() {
    let world = World::new();
    let mut hub = HubProcess::start(&world, &["--drain-timeout", "5m"]).await;
    let upstream = upstream().await;
    let _agent = hub.agent(
        &world,
        "site-a",
        &["--upstream", &upstream.url(), "--service", "a.B"],
    );
    hub.has("site-a").await;
    let client = RawClient::connect(hub.clients).await;
    let (running, _request) = client.send(to("site-a", "/a.B/Slow"), true).await;
    client.get_at("site-a", "/a.B/Quick").await.succeeded();

    hub.process.signal("TERM").await;
    hub.process
        .says(&[
            "draining",
            "signal=\"SIGTERM\"",
            "drain_timeout=5m",
            "a second signal stops at once",
        ])
        .await;
    assert!(hub.process.runs(), "it has a call that runs");

    let begun = Instant::now();
    hub.process.signal("INT").await;
    assert_eq!(hub.process.ended().await.code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5));
    hub.process.says(&["stopping at once", "SIGINT"]).await;
    // The call does not hang, whatever the client is told of its end.
    soon(async {
        if let Ok(reply) = running.await {
            let _ = Reply::read(reply.into_parts()).await;
        }
    })
    .await;
}

#[tokio::test]
async fn one_without_calls_ends_at_the_first_signal() {
    for signal in ["INT", "TERM"] {
        let world = World::new();
        let mut hub = HubProcess::start(&world, &["--drain-timeout", "5m"]).await;
        let upstream = upstream().await;
        let arguments = ["--upstream", &upstream.url(), "--drain-timeout", "5m"];
        let mut agent = hub.agent(&world, "site-a", &arguments);
        hub.has("site-a").await;
        let begun = Instant::now();
        for (process, name) in [(&mut agent, "agent"), (&mut hub.process, "hub")] {
            process.signal(signal).await;
            assert_eq!(process.ended().await.code(), Some(0), "{name}");
            process.says(&["draining", signal]).await;
            assert_eq!(process.said(&["stopping at once"]), 0);
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
