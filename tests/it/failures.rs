//! Failures that the hub makes before any upstream: what the client is told, and in which frames.

use std::time::{Duration, Instant};

use adit_proto::failure::Reason;
use adit_transport::Tuning;
use http::{HeaderValue, Method, Request};
use tonic::Code;

use crate::world::process;
use crate::world::raw::{RawClient, message, next_message, request, to};
use crate::world::upstream::Server;
use crate::world::{GRACE, SHORT_GRACE, World, soon};

#[tokio::test]
async fn an_agent_that_does_not_come_is_offline_after_the_grace() {
    let world = World::new();
    let hub = world
        .hub_with(|hub| hub.reconnect_grace(Duration::from_millis(300)))
        .await;
    let server = Server::echo().await;
    let agent = world.agent(&hub, "site-a", &server.url());
    let client = RawClient::connect(hub.clients).await;
    soon(async {
        let reply = || client.get_at("site-a", "/a.B/C");
        while reply().await.told()["grpc-status"] != "0" {}
    })
    .await;
    agent.stop().await;

    // One that was here, and one that nobody has heard of.
    for id in ["site-a", "nobody"] {
        let begun = Instant::now();
        let reply = client.get_at(id, "/a.B/C").await;
        let said = reply.failed_at_once(Reason::AgentOffline, Code::Unavailable, "no");
        assert!(said.contains(&format!("agent {id} ")), "{said}");
        assert_eq!(said.contains("; last seen "), id == "site-a", "{said}");
        assert!(said.contains("; no other agent is"), "{said}");
        assert!(
            begun.elapsed() >= Duration::from_millis(300),
            "it was not waited for"
        );
    }
}

#[tokio::test]
async fn a_call_waits_for_its_agent() {
    let world = World::new();
    let hub = world.hub().await;
    let server = Server::echo().await;
    let client = RawClient::connect(hub.clients).await;
    let (held, mut send) = client.send(to("site-a", "/a.B/C"), false).await;
    send.send_data(message(b"early"), true).unwrap();
    // The hub takes calls of one connection in their order: once this has failed, the other one is held.
    let denied = client.get(request("/adit.x/Y").body(()).unwrap()).await;
    denied.failed(Reason::Denied, Code::PermissionDenied, "no");

    let begun = Instant::now();
    let _agent = world.agent(&hub, "site-a", &server.url());
    let response = soon(held).await.unwrap().into_parts();
    let reply = crate::world::raw::Reply::read(response).await.unwrap();
    assert_eq!(reply.succeeded(), b"early");
    assert!(begun.elapsed() < GRACE, "it waited for the end of the grace");
}

#[tokio::test]
async fn no_call_waits_beyond_its_deadline() {
    let world = World::new();
    let hub = world.hub().await;
    let client = RawClient::connect(hub.clients).await;
    let begun = Instant::now();
    let mut late = to("site-a", "/a.B/C");
    let timeout = HeaderValue::from_static("200m");
    late.headers_mut().insert("grpc-timeout", timeout.clone());
    let said = client
        .get(late)
        .await
        .failed_at_once(Reason::Deadline, Code::DeadlineExceeded, "no");
    assert!(said.contains("agent site-a"), "{said}");
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert!(begun.elapsed() < GRACE / 2);

    // Without a target too.
    let mut late = request("/nobody.Has/This").body(()).unwrap();
    late.headers_mut().insert("grpc-timeout", timeout);
    let reply = client.get(late).await;
    assert_eq!(reply.told()["adit-delivered"], "no", "{reply:?}");
    assert!(begun.elapsed() < GRACE / 2);
}

#[tokio::test]
async fn an_upstream_that_misses_the_deadline_is_left() {
    let world = World::new();
    let hub = world.hub().await;
    let server = Server::start(|mut exchange| async move {
        if exchange.request.uri().path() == "/a.B/Begin" {
            let mut send = exchange
                .respond
                .send_response(crate::world::upstream::head(), false)
                .unwrap();
            crate::world::upstream::reset(&mut send).await;
        } else {
            let _ = std::future::poll_fn(|cx| exchange.respond.poll_reset(cx)).await;
        }
    })
    .await;
    let _agent = world.agent_with(hub.agents, "site-a", &[&server.url()], |agent| {
        agent.advertise("a.B")
    });
    let client = RawClient::connect(hub.clients).await;
    for (path, at_once) in [("/a.B/Never", true), ("/a.B/Begin", false)] {
        let begun = Instant::now();
        let mut late = to("site-a", path);
        late.headers_mut()
            .insert("grpc-timeout", HeaderValue::from_static("1S"));
        let reply = client.get(late).await;
        reply.failed(Reason::Deadline, Code::DeadlineExceeded, "maybe");
        assert_eq!(reply.headers_only, at_once);
        assert!(begun.elapsed() >= Duration::from_secs(1));
    }
}

#[tokio::test]
async fn what_is_between_hub_and_agent_is_denied_to_clients() {
    let world = World::new();
    let hub = world.hub().await;
    let server = Server::echo().await;
    let _agent = world.agent(&hub, "site-a", &server.url());
    let client = RawClient::connect(hub.clients).await;
    client.get_at("site-a", "/a.B/C").await.succeeded();
    for path in [
        "/adit.tunnel.v1.Agent/Attach",
        "/adit.tunnel.v1.Agent/Dial",
        "/adit.hub.v1.Hub/Agents",
        "/adit.",
    ] {
        for call in [to("site-a", path), request(path).body(()).unwrap()] {
            let reply = client.get(call).await;
            reply.failed_at_once(Reason::Denied, Code::PermissionDenied, "no");
        }
    }
}

#[tokio::test]
async fn a_tunnel_is_refused() {
    let world = World::new();
    let hub = world.hub().await;
    let client = RawClient::connect(hub.clients).await;
    let connect = Request::builder()
        .method(Method::CONNECT)
        .uri("10.0.0.1:22")
        .body(())
        .unwrap();
    let (response, _send) = client.send(connect, false).await;
    let response = soon(response).await.unwrap();
    // Any 2xx would say that the tunnel is there (RFC 9110 §9.3.6).
    assert_eq!(response.status(), 403);
    assert_eq!(response.headers()["adit-error"], "denied");
    assert_eq!(response.headers()["grpc-status"], "7");
    assert!(response.body().is_end_stream());
}

#[tokio::test]
async fn metadata_that_is_too_large_fails_its_call_and_no_other() {
    let world = World::new();
    let hub = world.hub().await;
    let server = Server::echo().await;
    let _agent = world.agent(&hub, "site-a", &server.url());
    let client = RawClient::connect(hub.clients).await;
    let (other, mut send) = client.send(to("site-a", "/a.B/C"), false).await;
    send.send_data(message(b"one"), false).unwrap();
    let mut other = soon(other).await.unwrap().into_body();
    assert_eq!(next_message(&mut other).await, message(b"one"));

    for kib in [130, 200, 250] {
        let mut large = to("site-a", "/a.B/C");
        for _ in 0..kib {
            let value = HeaderValue::from_str(&"x".repeat((1 << 10) - 32 - 7)).unwrap();
            large.headers_mut().append("x-large", value);
        }
        let reply = client.get(large).await;
        let said = reply.failed_at_once(Reason::AgentBusy, Code::ResourceExhausted, "no");
        assert!(said.contains("131072"), "{said}");
    }
    let mut fits = to("site-a", "/a.B/C");
    for _ in 0..127 {
        let value = HeaderValue::from_str(&"x".repeat((1 << 10) - 32 - 7)).unwrap();
        fits.headers_mut().append("x-large", value);
    }
    client.get(fits).await.succeeded();

    send.send_data(message(b"two"), true).unwrap();
    assert_eq!(next_message(&mut other).await, message(b"two"));
    assert_eq!(soon(other.trailers()).await.unwrap().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn a_target_that_is_no_agent_id_is_the_clients_mistake() {
    let world = World::new();
    let hub = world.hub().await;
    let client = RawClient::connect(hub.clients).await;
    let begun = Instant::now();
    for (id, says) in [
        ("Site A", "no agent id"),
        ("-site", "no agent id"),
        ("", "no agent id"),
        ("a.b", "no agent id"),
    ] {
        let reply = client.get_at(id, "/a.B/C").await;
        let said = reply.failed_at_once(Reason::NoRoute, Code::InvalidArgument, "no");
        assert!(said.contains(says), "{said}");
    }
    let twice = request("/a.B/C")
        .header("adit-agent", "site-a")
        .header("adit-agent", "site-b")
        .body(())
        .unwrap();
    let said = client
        .get(twice)
        .await
        .failed_at_once(Reason::NoRoute, Code::InvalidArgument, "no");
    assert!(said.contains("2 times"), "{said}");
    assert!(begun.elapsed() < GRACE, "there is nothing to wait for");
}

#[tokio::test]
async fn a_failure_has_the_content_type_of_its_request() {
    let world = World::new();
    let hub = world
        .hub_with(|hub| hub.reconnect_grace(Duration::from_millis(1)))
        .await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let _agent = world.agent(&hub, "site-a", &format!("http://{nobody}"));
    let client = RawClient::connect(hub.clients).await;
    let reached =
        async { while client.get_at("site-a", "/a.B/C").await.told()["adit-error"] != "upstream-refused" {} };
    soon(reached).await;
    // Of the hub's making, and of the agent's.
    for (agent, reason) in [("nobody", "agent-offline"), ("site-a", "upstream-refused")] {
        for kind in [
            "application/grpc",
            "application/grpc+json",
            "application/grpc;x=y",
        ] {
            let mut call = to(agent, "/a.B/C");
            call.headers_mut()
                .insert("content-type", HeaderValue::from_static(kind));
            let reply = client.get(call).await;
            assert_eq!(reply.told()["adit-error"], reason, "{reply:?}");
            assert_eq!(reply.head.headers["content-type"], kind, "{agent}");
        }
    }
}

#[tokio::test]
async fn an_agent_that_is_full_refuses_the_next_call_only() {
    let world = World::new();
    let hub = world.hub().await;
    let server = Server::echo().await;
    let _agent = world.agent_with(hub.agents, "site-a", &[&server.url()], |agent| {
        // The hub's own call to the agent is one of them.
        agent.tuning(Tuning {
            max_calls: 2,
            ..Tuning::default()
        })
    });
    let client = RawClient::connect(hub.clients).await;
    let (first, mut send) = client.send(to("site-a", "/a.B/C"), false).await;
    send.send_data(message(b"one"), false).unwrap();
    let mut first = soon(first).await.unwrap().into_body();
    assert_eq!(next_message(&mut first).await, message(b"one"));

    let reply = client.get_at("site-a", "/a.B/C").await;
    reply.failed_at_once(Reason::AgentBusy, Code::ResourceExhausted, "no");

    send.send_data(message(b"two"), true).unwrap();
    assert_eq!(next_message(&mut first).await, message(b"two"));
    assert_eq!(soon(first.trailers()).await.unwrap().unwrap()["grpc-status"], "0");
    soon(async { while client.get_at("site-a", "/a.B/C").await.told()["grpc-status"] != "0" {} }).await;
}

#[tokio::test]
async fn ports_without_authentication_are_not_opened_to_everybody() {
    let world = World::new();
    for flag in ["--clients", "--admin"] {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9090"] {
            let stderr = process::fails(
                &[
                    "hub",
                    "--certs",
                    world.dir(),
                    "--agents",
                    "127.0.0.1:0",
                    "--client-tls",
                    "off",
                    flag,
                    address,
                ],
                1,
            )
            .await;
            assert!(
                stderr.contains(&format!("{flag} {address}")) && stderr.contains("loopback"),
                "{stderr}"
            );
        }
    }
}

#[tokio::test]
async fn a_hub_that_stops_ends_its_calls() {
    let world = World::new();
    let hub = world
        .hub_with(|hub| hub.reconnect_grace(SHORT_GRACE).drain_timeout(SHORT_GRACE))
        .await;
    let server = Server::echo().await;
    let _agent = world.agent(&hub, "site-a", &server.url());
    let client = RawClient::connect(hub.clients).await;
    let call = || client.get_at("site-a", "/a.B/C");
    soon(async { while call().await.told()["grpc-status"] != "0" {} }).await;
    let (response, mut send) = client.send(to("site-a", "/a.B/C"), false).await;
    send.send_data(message(b"one"), false).unwrap();
    let mut body = soon(response).await.unwrap().into_body();
    assert_eq!(next_message(&mut body).await, message(b"one"));
    hub.stop().await;
    assert!(soon(body.data()).await.is_none());
    let trailers = soon(body.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers["adit-error"], "draining");
    assert_eq!(trailers["adit-delivered"], "maybe");
}
