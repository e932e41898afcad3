//! What one client may take of a hub, and that others go on beside one who takes too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use adit_hub::{ClientTls, Limits, MAX_STREAMS, RAPID_RESETS, RAPID_RESETS_PER_SECOND};
use adit_proto::failure::Reason;
use h2::client::Builder;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::Code;

use crate::world::frames::{Frame, Frames, GOAWAY, RST_STREAM};
use crate::world::process::HubProcess;
use crate::world::raw::{RawClient, message, next_message, to};
use crate::world::tls::TlsClient;
use crate::world::upstream::{Exchange, Server, answer};
use crate::world::{ANY_PORT, World, soon};

const CALL: &str = "/a.B/C";

/// An upstream that counts the calls it sees, answers those whose request ends, and minds no resets.
async fn counting() -> (Server, Arc<AtomicU32>) {
    let seen = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&seen);
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let server = Server::accept(listener, move |stream| {
        let counted = Arc::clone(&counted);
        async move {
            let mut builder = h2::server::Builder::new();
            builder.max_pending_accept_reset_streams(usize::MAX);
            let mut connection = builder.handshake(stream).await.unwrap();
            let mut calls = JoinSet::new();
            while let Some(Ok((request, respond))) = connection.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                calls.spawn(async move {
                    let mut body = request.into_body();
                    while let Some(Ok(_)) = body.data().await {}
                    if body.is_end_stream() {
                        let request = http::Request::new(body);
                        answer(Exchange { request, respond }, message(b"done")).await;
                    }
                });
            }
        }
    });
    (server, seen)
}

/// ENHANCE_YOUR_CALM (RFC 9113 §7).
const CALM: u32 = 0xb;

#[tokio::test]
async fn a_connection_too_many_is_told_to_calm_down() {
    let world = World::new();
    let hub = world
        .hub_with(|hub| {
            hub.limits(Limits {
                connections_per_client: 2,
                ..Limits::default()
            })
        })
        .await;
    let server = Server::echo().await;
    let _agent = world.agent(&hub, "site-a", &server.url());
    let (first, second) = (
        RawClient::connect(hub.clients).await,
        RawClient::connect(hub.clients).await,
    );
    first.get_at("site-a", CALL).await.succeeded();
    let mut third = Frames::connect(hub.clients).await;
    let frames = third.rest().await;
    let last = frames.last().expect("nothing was said");
    assert_eq!(last.goaway(), (0, CALM), "{frames:?}");
    let said = String::from_utf8_lossy(&last.payload[8..]);
    assert!(said.contains("127.0.0.1") && said.contains('2'), "{said}");
    second.get_at("site-a", CALL).await.succeeded();

    drop(first);
    soon(async {
        loop {
            let mut again = Frames::connect(hub.clients).await;
            again.send([Frame::call(1, "site-a", true)]).await.unwrap();
            let answered = async {
                loop {
                    match again.next().await {
                        Some(frame) if frame.kind == GOAWAY => return false,
                        Some(frame) if frame.stream == 1 && frame.ends_stream() => return true,
                        Some(_) => {}
                        None => return false,
                    }
                }
            };
            if answered.await {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_with_a_certificate_is_counted_by_its_name() {
    let world = World::new();
    let hub = world
        .hub_with(|hub| {
            hub.client_tls(ClientTls::Mutual).limits(Limits {
                connections_per_client: 1,
                ..Limits::default()
            })
        })
        .await;
    let server = Server::echo().await;
    let _agent = world.agent(&hub, "site-a", &server.url());
    let [billing, orders] = ["billing", "orders"].map(|name| {
        let files = world.client_files(name);
        TlsClient::new(&files.ca, Some(&files))
    });
    let first = billing.http2(hub.clients).await;
    first.get_at("site-a", CALL).await.succeeded();
    let other = orders.http2(hub.clients).await;
    other.get_at("site-a", CALL).await.succeeded();

    let stream = billing.connect(hub.clients).await.unwrap();
    let (mut sender, connection) = Builder::new().handshake::<_, bytes::Bytes>(stream).await.unwrap();
    let (response, _) = sender.send_request(to("site-a", CALL), true).unwrap();
    let (response, _) = soon(async { tokio::join!(response, connection) }).await;
    let error = response.unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM), "{error:?}");
    assert!(format!("{error:?}").contains("client billing"), "{error:?}");
    first.get_at("site-a", CALL).await.succeeded();
}

#[tokio::test]
async fn a_call_too_many_fails_and_an_ended_one_makes_room() {
    let world = World::new();
    let hub = world
        .hub_with(|hub| {
            hub.limits(Limits {
                calls_per_client: 3,
                ..Limits::default()
            })
        })
        .await;
    let server = Server::echo().await;
    let _agent = world.agent(&hub, "site-a", &server.url());
    let clients = [
        RawClient::connect(hub.clients).await,
        RawClient::connect(hub.clients).await,
    ];
    let mut held = Vec::new();
    for index in 0..3 {
        let (response, mut send) = clients[index % 2].send(to("site-a", CALL), false).await;
        send.send_data(message(b"hello"), false).unwrap();
        let mut body = soon(response).await.unwrap().into_body();
        assert_eq!(&next_message(&mut body).await[5..], b"hello");
        held.push((send, body));
    }
    for client in &clients {
        let reply = client.get_at("site-a", CALL).await;
        let said = reply.failed_at_once(Reason::AgentBusy, Code::ResourceExhausted, "no");
        assert!(said.contains("127.0.0.1") && said.contains("3 calls"), "{said}");
    }
    // One that its client gives up, one that ends, and one whose connection ends.
    let room = async |client: &RawClient| {
        soon(async { while client.get_at("site-a", CALL).await.told()["grpc-status"] != "0" {} }).await;
    };
    let (mut send, body) = held.pop().unwrap();
    send.send_reset(h2::Reason::CANCEL);
    drop(body);
    room(&clients[0]).await;
    let (mut send, mut body) = held.remove(0);
    send.send_data(bytes::Bytes::new(), true).unwrap();
    assert!(soon(body.data()).await.is_none());
    soon(body.trailers()).await.unwrap();
    drop(held);
    let [first, second] = clients;
    drop(second);
    // All three again: nothing of those calls is still counted.
    let mut held = Vec::new();
    soon(async {
        while held.len() < 3 {
            let (response, send) = first.send(to("site-a", CALL), false).await;
            let response = soon(response).await.unwrap();
            if !response.headers().contains_key("grpc-status") {
                held.push((response, send));
            }
        }
    })
    .await;
    let reply = first.get_at("site-a", CALL).await;
    reply.failed_at_once(Reason::AgentBusy, Code::ResourceExhausted, "no");
}

#[tokio::test]
async fn an_honest_client_may_give_up_all_its_calls_at_once() {
    let world = World::new();
    let hub = world.hub().await;
    let server = Server::echo().await;
    let _agent = world.agent(&hub, "site-a", &server.url());
    RawClient::connect(hub.clients)
        .await
        .get_at("site-a", CALL)
        .await
        .succeeded();
    let ids = |first: u32| (0..1000).map(move |index| first + 2 * index);

    // Made, and then given up.
    let mut client = Frames::connect(hub.clients).await;
    let made = ids(1).map(|id| Frame::call(id, "site-a", false));
    client.send(made).await.unwrap();
    client.send(ids(1).map(Frame::reset)).await.unwrap();
    // Made and given up in one breath, so that the hub sees the ends as soon as the beginnings.
    let both = ids(2001).flat_map(|id| [Frame::call(id, "site-a", false), Frame::reset(id)]);
    client.send(both).await.unwrap();
    client.send([Frame::call(4001, "site-a", true)]).await.unwrap();
    let end = client.ended(4001).await;
    assert_ne!(end.kind, RST_STREAM);
}

/// Makes calls and gives them up until the hub has had enough, and says how many. `begun` has each batch come to its agent
/// before it is given up.
async fn give_up_calls(client: &mut Frames, begun: bool) -> u32 {
    let mut ids = (1_u32..).step_by(2);
    for sent in (0..1_000_000).step_by(50) {
        let batch: Vec<u32> = ids.by_ref().take(50).collect();
        let calls = batch.iter().map(|&id| Frame::call(id, "site-a", false));
        let ends = batch.iter().map(|&id| Frame::reset(id));
        let closed = if begun {
            client.send(calls.chain([Frame::ping()])).await.is_err()
                || !ponged(client).await
                || client.send(ends).await.is_err()
        } else {
            client
                .send(calls.zip(ends).flat_map(<[Frame; 2]>::from))
                .await
                .is_err()
        };
        if closed {
            return sent;
        }
    }
    panic!("nobody stops it");
}

/// Whether the hub answers a ping.
async fn ponged(client: &mut Frames) -> bool {
    while let Some(frame) = client.next().await {
        if frame.is_pong() {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn rapid_resets_end_a_connection_and_cost_agents_little() {
    let world = World::new();
    let hub = HubProcess::start(&world, &[]).await;
    let (server, seen) = counting().await;
    let _agent = hub.agent(
        &world,
        "site-a",
        &["--upstream", &server.url(), "--service", "a.B"],
    );
    let other = RawClient::connect(hub.clients).await;
    other.get_at("site-a", CALL).await.succeeded();

    for begun in [true, false] {
        let before = seen.load(Ordering::Relaxed);
        let start = Instant::now();
        let sent = give_up_calls(&mut Frames::connect(hub.clients).await, begun).await;
        let took = start.elapsed();
        if begun {
            assert!(sent + 50 > RAPID_RESETS, "closed after {sent}");
            let refused = [
                "WARN",
                "closed a client's connection",
                "gives up calls",
                "peer=127.0.0.1:",
            ];
            hub.process.says(&refused).await;
        }
        other.get_at("site-a", CALL).await.succeeded();
        // The burst, the rate, what was open at the end, and the other client's call.
        let rate = RAPID_RESETS_PER_SECOND * u32::try_from(took.as_secs() + 1).unwrap();
        let seen = seen.load(Ordering::Relaxed) - before;
        assert!(
            seen <= RAPID_RESETS + rate + MAX_STREAMS + 1,
            "{seen} of {sent} calls came to the upstream in {took:?}"
        );
    }
}

#[tokio::test]
async fn answers_to_no_ping_do_not_fill_the_log() {
    let world = World::new();
    let hub = HubProcess::start(&world, &[]).await;
    let server = Server::echo().await;
    let mut client = Frames::connect(hub.clients).await;
    let unasked = Frame {
        flags: 1,
        ..Frame::ping()
    };
    client
        .send((0..1000).map(|_| unasked.clone()).chain([Frame::ping()]))
        .await
        .unwrap();
    assert!(ponged(&mut client).await);
    // What is logged later is read later.
    let _agent = hub.agent(&world, "site-a", &["--upstream", &server.url()]);
    hub.process.says(&["an agent is connected"]).await;
    assert_eq!(hub.process.said(&["WARN"]), 0);
}

#[tokio::test]
async fn streams_that_are_opened_and_left_cost_little_and_hold_up_nobody() {
    let world = World::new();
    let hub = HubProcess::start(&world, &[]).await;
    let server = Server::echo().await;
    let _agent = hub.agent(&world, "site-a", &["--upstream", &server.url()]);
    let other = RawClient::connect(hub.clients).await;
    other.get_at("site-a", CALL).await.succeeded();
    let before = hub.process.memory();

    let mut client = Frames::connect(hub.clients).await;
    let calls = (0..MAX_STREAMS).map(|index| Frame::call(1 + 2 * index, "site-a", false));
    client.send(calls).await.unwrap();
    // One more than may be: it alone is refused.
    let last = 1 + 2 * MAX_STREAMS;
    client.send([Frame::call(last, "site-a", false)]).await.unwrap();
    let end = client.ended(last).await;
    assert_eq!(
        (end.kind, end.payload.as_slice()),
        (RST_STREAM, &[0, 0, 0, 7][..]),
        "REFUSED_STREAM"
    );
    other.get_at("site-a", CALL).await.succeeded();
    let grown = hub.process.memory().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for {MAX_STREAMS} streams");

    // They live: each can still be ended.
    client.send([Frame::end(1)]).await.unwrap();
    let end = client.ended(1).await;
    assert!(end.ends_stream(), "{end:?}");
}
