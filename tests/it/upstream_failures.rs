//! Failures between an agent and its upstream, and on the link between hub and agent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use adit_proto::failure::Reason;
use adit_transport::{AgentLink, Body, Dialer, Reset, Tuning};
use bytes::Bytes;
use h2::Reason as H2;
use http::{HeaderMap, HeaderValue, Response};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tonic::Code;

use crate::world::raw::{RawClient, message, next_message, reset_code, to};
use crate::world::upstream::{self, Exchange, Server, head, status};
use crate::world::{ANY_PORT, Agent, Hub, World, soon};

/// A hub, an agent `site-a`, and a client.
struct Path {
    client: RawClient,
    _agent: Agent,
    _hub: Hub,
    _world: World,
}

impl Path {
    async fn to(upstreams: &[&str]) -> Self {
        let world = World::new();
        let hub = world.hub().await;
        let agent = world.agent_with(hub.agents, "site-a", upstreams, |agent| agent.advertise("a.B"));
        Self {
            client: RawClient::connect(hub.clients).await,
            _agent: agent,
            _hub: hub,
            _world: world,
        }
    }
}

#[tokio::test]
async fn an_upstream_that_is_down_is_refused_and_works_once_it_is_up() {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let path = Path::to(&[&format!("http://{address}")]).await;
    let reply = path.client.get_at("site-a", "/a.B/C").await;
    let said = reply.failed_at_once(Reason::UpstreamRefused, Code::Unavailable, "no");
    assert!(
        said.contains(&format!("http://{address}")) && said.contains("--upstream"),
        "{said}"
    );
    let server = Server::start_on(address, upstream::echo).await;
    path.client.get_at("site-a", "/a.B/C").await.succeeded();
    drop(server);
    soon(async {
        // The connection that it had may be found broken by one call.
        while path.client.get_at("site-a", "/a.B/C").await.told()["adit-error"] != "upstream-refused" {}
    })
    .await;
}

#[tokio::test]
async fn what_is_no_http2_server_is_refused_at_once() {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let http1 = Server::accept(listener, |mut stream| async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            .await;
    });
    let path = Path::to(&[&http1.url()]).await;
    let reply = path.client.get_at("site-a", "/a.B/C").await;
    let said = reply.failed_at_once(Reason::UpstreamRefused, Code::Unavailable, "no");
    assert!(said.contains("HTTP/2"), "{said}");
}

#[tokio::test]
async fn an_upstream_that_dies_in_the_call_is_lost() {
    for begins in [false, true] {
        let (called, die) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let server = {
            let (called, die) = (Arc::clone(&called), Arc::clone(&die));
            let listener = TcpListener::bind(ANY_PORT).await.unwrap();
            Server::accept(listener, move |stream| {
                let (called, die) = (Arc::clone(&called), Arc::clone(&die));
                let serve = upstream::serve(
                    stream,
                    Arc::new(move |mut exchange: Exchange| {
                        let called = Arc::clone(&called);
                        Box::pin(async move {
                            let _send = begins.then(|| {
                                let mut send = exchange.respond.send_response(head(), false).unwrap();
                                send.send_data(message(b"one"), false).unwrap();
                                send
                            });
                            called.notify_one();
                            std::future::pending::<()>().await;
                        })
                    }),
                );
                async move {
                    tokio::select! {
                        () = serve => {}
                        () = die.notified() => {}
                    }
                }
            })
        };
        let path = Path::to(&[&server.url()]).await;
        let call = path.client.get_at("site-a", "/a.B/C");
        let death = async {
            called.notified().await;
            // Every connection: the agent has one for watching too.
            die.notify_waiters();
        };
        let (reply, ()) = tokio::join!(call, death);
        let said = reply.failed(Reason::UpstreamLost, Code::Unavailable, "maybe");
        assert!(said.contains(&server.url()), "{said}");
    }
}

/// An upstream that answers each path with its kind of nonsense.
async fn nonsense(mut exchange: Exchange) {
    let path = exchange.request.uri().path().to_owned();
    let respond = &mut exchange.respond;
    let other = |status: u16, kind: &'static str| {
        let response = Response::builder().status(status);
        response.header("content-type", kind).body(()).unwrap()
    };
    match path.as_str() {
        "/a.B/NoStatus" => {
            let mut send = respond.send_response(head(), false).unwrap();
            send.send_data(message(b"all"), true).unwrap();
        }
        "/a.B/OtherTrailers" => {
            let mut send = respond.send_response(head(), false).unwrap();
            send.send_data(message(b"all"), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("x-checksum", HeaderValue::from_static("1"));
            send.send_trailers(trailers).unwrap();
        }
        "/a.B/OnlyHead" => drop(respond.send_response(head(), true).unwrap()),
        "/a.B/Html" => {
            let mut send = respond.send_response(other(200, "text/html"), false).unwrap();
            send.send_data(Bytes::from_static(b"<html>"), true).unwrap();
        }
        "/a.B/LargeHead" | "/a.B/LargeTrailers" => {
            let mut large = HeaderMap::new();
            for _ in 0..140 {
                let value = HeaderValue::from_str(&"x".repeat(1 << 10)).unwrap();
                large.append("x-large", value);
            }
            if path.ends_with("Head") {
                let mut response = head();
                response.headers_mut().extend(large);
                drop(respond.send_response(response, false).unwrap());
            } else {
                let mut send = respond.send_response(head(), false).unwrap();
                large.extend(status("0"));
                send.send_trailers(large).unwrap();
            }
        }
        status => {
            let status = status.trim_start_matches("/a.B/").parse().unwrap();
            let mut send = respond.send_response(other(status, "text/html"), false).unwrap();
            send.send_data(Bytes::from_static(b"<html>"), true).unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_not_grpc_is_told_as_such() {
    let server = Server::start(nonsense).await;
    let path = Path::to(&[&server.url()]).await;
    let mapping = [
        ("NoStatus", Code::Internal),
        ("OtherTrailers", Code::Internal),
        ("OnlyHead", Code::Internal),
        ("LargeHead", Code::Internal),
        ("LargeTrailers", Code::Internal),
        ("Html", Code::Unknown),
        ("400", Code::Internal),
        ("401", Code::Unauthenticated),
        ("403", Code::PermissionDenied),
        ("404", Code::Unimplemented),
        ("429", Code::Unavailable),
        ("500", Code::Unknown),
        ("502", Code::Unavailable),
        ("503", Code::Unavailable),
        ("504", Code::Unavailable),
    ];
    for (method, code) in mapping {
        let reply = path.client.get_at("site-a", &format!("/a.B/{method}")).await;
        let said = reply.failed(Reason::UpstreamProtocol, code, "maybe");
        if let Ok(status) = method.parse::<u16>() {
            assert!(reply.headers_only, "{reply:?}");
            assert!(
                said.contains(&format!("HTTP status {status}")) && said.contains("text/html"),
                "{said}"
            );
        }
        if method == "NoStatus" {
            assert_eq!(reply.data, message(b"all"));
        }
    }
}

#[tokio::test]
async fn a_service_that_no_upstream_of_the_agent_has_is_not_implemented() {
    let server = Server::echo().await;
    let path = Path::to(&[&format!("a.B={}", server.url())]).await;
    path.client.get_at("site-a", "/a.B/C").await.succeeded();
    let reply = path.client.get_at("site-a", "/x.Y/Z").await;
    let said = reply.failed_at_once(Reason::NoRoute, Code::Unimplemented, "no");
    assert!(said.contains("/x.Y/Z"), "{said}");
}

#[tokio::test]
async fn the_upstreams_resets_reach_the_client_as_they_are() {
    let server = Server::start(|mut exchange| async move {
        let mut words = exchange.request.uri().path().rsplit('/');
        let code: u32 = words.next().unwrap().parse().unwrap();
        if words.next() == Some("begun") {
            let mut send = exchange.respond.send_response(head(), false).unwrap();
            send.send_data(message(b"one"), false).unwrap();
            // The reset would overtake what has not left yet.
            let body = exchange.request.body_mut();
            while body.data().await.is_some() {}
            send.send_reset(code.into());
        } else {
            exchange.respond.send_reset(code.into());
        }
    })
    .await;
    let path = Path::to(&[&server.url()]).await;
    let same = [
        H2::PROTOCOL_ERROR,
        H2::INTERNAL_ERROR,
        H2::FRAME_SIZE_ERROR,
        H2::REFUSED_STREAM,
        H2::CANCEL,
        H2::CONNECT_ERROR,
        H2::ENHANCE_YOUR_CALM,
        H2::SETTINGS_TIMEOUT,
    ];
    for code in same {
        let number = u32::from(code);
        let call = path
            .client
            .call(to("site-a", &format!("/now/{number}")), message(b""));
        match call.await {
            Err(error) => assert_eq!(reset_code(&error), code, "before the response"),
            // The hub may try another link when a call was refused unseen, and tells it in words when there is none.
            Ok(reply) if code == H2::REFUSED_STREAM => {
                reply.failed_at_once(Reason::Draining, Code::Unavailable, "no");
            }
            Ok(reply) => panic!("{code}: {reply:?}"),
        }

        let (response, mut send) = path
            .client
            .send(to("site-a", &format!("/begun/{number}")), false)
            .await;
        let mut body = soon(response).await.unwrap().into_body();
        assert_eq!(next_message(&mut body).await, message(b"one"));
        send.send_data(Bytes::new(), true).unwrap();
        let error = soon(body.data()).await.unwrap().unwrap_err();
        assert_eq!(reset_code(&error), code, "in the response");
    }

    // HTTP/3 has no code for these. What the client is told means the same to gRPC.
    for code in [H2::FLOW_CONTROL_ERROR, H2::COMPRESSION_ERROR, H2::STREAM_CLOSED] {
        let call = path
            .client
            .call(to("site-a", &format!("/now/{}", u32::from(code))), message(b""));
        assert_eq!(reset_code(&call.await.unwrap_err()), H2::PROTOCOL_ERROR);
    }
    let weak = u32::from(H2::INADEQUATE_SECURITY);
    let reply = path.client.get_at("site-a", &format!("/now/{weak}")).await;
    reply.failed_at_once(Reason::UpstreamProtocol, Code::PermissionDenied, "maybe");
}

/// An agent made by hand that knows no control call, and so a bare one.
async fn bare_agent(world: &World, hub: &Hub) -> AgentLink {
    let tls = world.agent_credentials("bare").client_config().unwrap();
    let dialer = Dialer::new(tls, Tuning::default()).unwrap();
    dialer.dial(hub.agents, "127.0.0.1").await.unwrap()
}

#[tokio::test]
async fn a_call_that_the_agent_refuses_unseen_is_refused_to_the_client() {
    let world = World::new();
    let hub = world.hub().await;
    let link = bare_agent(&world, &hub).await;
    let serve = link.serve(|_| async { Err(Reset(adit_transport::Code::REQUEST_REJECTED)) });
    let client = RawClient::connect(hub.clients).await;
    let call = client.call(to("bare", "/a.B/C"), message(b""));
    let error = tokio::select! {
        reply = call => reply.unwrap_err(),
        _ = serve => panic!("the link ended"),
    };
    assert_eq!(reset_code(&error), H2::REFUSED_STREAM);
}

#[tokio::test]
async fn a_link_that_ends_in_the_call_is_lost() {
    let world = World::new();
    let hub = world.hub().await;
    let client = RawClient::connect(hub.clients).await;
    for begins in [false, true] {
        let link = bare_agent(&world, &hub).await;
        let (called, begun) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let serve = {
            let (called, begun) = (Arc::clone(&called), Arc::clone(&begun));
            link.serve(move |request| {
                let (called, begun) = (Arc::clone(&called), Arc::clone(&begun));
                async move {
                    if request.uri().path().starts_with("/adit.") {
                        return Ok(Response::builder().status(404).body(Body::empty()).unwrap());
                    }
                    begun.store(true, Ordering::Relaxed);
                    if begins {
                        let response = head().map(|()| Body::new(Endless(Some(called))));
                        return Ok(response);
                    }
                    called.notify_one();
                    std::future::pending().await
                }
            })
        };
        let ending = async {
            tokio::select! {
                () = called.notified() => {}
                _ = serve => panic!("the link ended"),
            }
            link.close(adit_transport::Code::INTERNAL_ERROR, "made to");
            link.closed().await;
        };
        let (reply, ()) = tokio::join!(client.get_at("bare", "/a.B/C"), ending);
        assert!(begun.load(Ordering::Relaxed));
        reply.failed(Reason::LinkLost, Code::Unavailable, "maybe");
        assert_eq!(reply.headers_only, !begins);
    }
}

/// A body of one message, which tells when it is waited for another one.
struct Endless(Option<Arc<Notify>>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = adit_transport::BodyError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, adit_transport::BodyError>>> {
        match self.0.take() {
            Some(called) => {
                called.notify_one();
                std::task::Poll::Ready(Some(Ok(http_body::Frame::data(message(b"one")))))
            }
            None => std::task::Poll::Pending,
        }
    }
}
