//! Nothing of a call is changed on its way, in either direction.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use adit_proto::failure::Reason;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use tokio::sync::Notify;
use tonic::Code;

use crate::world::raw::{RawClient, Reply, message, next_message, request, reset_code, to};
use crate::world::upstream::{Exchange, Server, answer, head, status};
use crate::world::{Agent, Hub, PATIENCE, World, soon};

/// A hub, an agent `site-a` before `server`, and a client.
struct Path {
    client: RawClient,
    server: Server,
    _agent: Agent,
    _hub: Hub,
    _world: World,
}

impl Path {
    async fn to<F, R>(handler: F) -> Self
    where
        F: Fn(Exchange) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let server = Server::start(handler).await;
        let world = World::new();
        let hub = world.hub().await;
        let agent = world.agent_with(hub.agents, "site-a", &[&server.url()], |agent| {
            agent.advertise("a.B")
        });
        Self {
            client: RawClient::connect(hub.clients).await,
            server,
            _agent: agent,
            _hub: hub,
            _world: world,
        }
    }
}

/// Metadata in its order.
fn listed(metadata: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    metadata
        .iter()
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect()
}

fn metadata(fields: &[(&'static str, &'static [u8])]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| {
            let value = http::HeaderValue::from_bytes(value).unwrap();
            (http::HeaderName::from_static(name), value)
        })
        .fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
}

/// What gRPC libraries send, and what they would not.
const REQUEST: &[(&str, &[u8])] = &[
    ("te", b"trailers"),
    ("grpc-timeout", b"20S"),
    ("content-type", b"application/grpc+proto"),
    ("user-agent", b"grpc-go/1.70.0 something/1"),
    ("grpc-encoding", b"gzip"),
    ("grpc-accept-encoding", b"gzip,identity"),
    ("authorization", b"Bearer abc"),
    ("x-many", b"one"),
    ("x-many", b"two"),
    ("x-many", b"one"),
    ("trace-bin", b"AAECAw"),
    ("trace-bin", b"AAECAw=="),
    ("grpc-trace-bin", b"AAA,BBB"),
    ("grpc-previous-rpc-attempts", b"2"),
    ("x-empty", b""),
    ("x-spaces", b"a  b"),
    ("x-latin", b"caf\xe9"),
    ("cookie", b"a=1; b=2"),
    ("adit-other", b"not the hub's"),
    ("x-last", b"1"),
];

const RESPONSE: &[(&str, &[u8])] = &[
    ("content-type", b"application/grpc+proto"),
    ("grpc-encoding", b"identity"),
    ("server", b"upstream/1"),
    ("x-many", b"1"),
    ("x-many", b"2"),
    ("answer-bin", b"//8"),
    ("x-latin", b"caf\xe9"),
];

const TRAILERS: &[(&str, &[u8])] = &[
    ("grpc-status", b"5"),
    ("grpc-message", b"100%25 not \xc3\xa9 found %C3%A9"),
    ("grpc-status-details-bin", b"CAUSBWhlbGxv"),
    ("x-many", b"b"),
    ("x-many", b"a"),
    ("trailing-bin", b"AQ"),
    ("grpc-retry-pushback-ms", b"100"),
    ("adit-error", b"of the upstream's own"),
];

#[tokio::test]
async fn metadata_is_neither_changed_nor_added_nor_reordered() {
    let seen = Arc::new(Mutex::new(None));
    let path = Path::to({
        let seen = Arc::clone(&seen);
        move |mut exchange: Exchange| {
            *seen.lock().unwrap() = Some(exchange.request.map(drop).into_parts().0);
            async move {
                let mut response = Response::new(());
                *response.headers_mut() = metadata(RESPONSE);
                let mut send = exchange.respond.send_response(response, false).unwrap();
                send.send_data(message(b"answer"), false).unwrap();
                send.send_trailers(metadata(TRAILERS)).unwrap();
            }
        }
    })
    .await;
    // Wherever the routing metadata stands, the rest keeps its order.
    for position in [0, 7, REQUEST.len()] {
        let mut fields = REQUEST.to_vec();
        fields.insert(position, ("adit-agent", b"site-a"));
        let mut request = Request::post("http://hub.example/a.B/C?x=1").body(()).unwrap();
        *request.headers_mut() = metadata(&fields);
        let reply = path.client.get(request).await;

        let seen = seen.lock().unwrap().take().unwrap();
        assert_eq!(listed(&seen.headers), listed(&metadata(REQUEST)));
        assert_eq!(seen.method, Method::POST);
        assert_eq!(seen.uri.path_and_query().unwrap(), "/a.B/C?x=1");
        // The upstream's own name: the client's is the hub's.
        assert_eq!(
            seen.uri.authority().unwrap().as_str(),
            path.server.address.to_string()
        );
        assert_eq!(seen.uri.scheme_str(), Some("http"));

        assert_eq!(listed(&reply.head.headers), listed(&metadata(RESPONSE)));
        assert_eq!(
            listed(reply.trailers.as_ref().unwrap()),
            listed(&metadata(TRAILERS))
        );
        assert_eq!(reply.data, message(b"answer"));
    }
}

#[tokio::test]
async fn any_method_is_passed_on() {
    let path = Path::to(|mut exchange: Exchange| async move {
        let mut response = head();
        let method = exchange.request.method().as_str().parse().unwrap();
        response.headers_mut().insert("x-method", method);
        let mut send = exchange.respond.send_response(response, false).unwrap();
        send.send_trailers(status("0")).unwrap();
    })
    .await;
    for method in ["GET", "PUT", "POST"] {
        let mut request = to("site-a", "/a.B/C");
        *request.method_mut() = method.parse().unwrap();
        let (response, _send) = path.client.send(request, true).await;
        let reply = Reply::read(soon(response).await.unwrap().into_parts()).await;
        let reply = reply.unwrap();
        assert_eq!(reply.head.headers["x-method"], method);
        reply.succeeded();
    }
}

#[tokio::test]
async fn a_trailers_only_error_stays_one() {
    let fields: &[(&str, &[u8])] = &[
        ("content-type", b"application/grpc"),
        ("grpc-status", b"9"),
        ("grpc-message", b"no %C3%A9"),
        ("x-why-bin", b"AQ"),
    ];
    // The end comes with the head, or in a frame of its own, with a message or without.
    for end in ["together", "apart", "late"] {
        let path = Path::to(move |mut exchange: Exchange| async move {
            let mut response = Response::new(());
            *response.headers_mut() = metadata(fields);
            let respond = &mut exchange.respond;
            let mut send = respond.send_response(response, end == "together").unwrap();
            if end == "late" {
                // The head has to leave before, and nothing tells when it has.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if end != "together" {
                send.send_data(Bytes::new(), true).unwrap();
            }
        })
        .await;
        let reply = path.client.get_at("site-a", "/a.B/C").await;
        assert!(reply.headers_only, "{end}: {reply:?}");
        assert_eq!(listed(&reply.head.headers), listed(&metadata(fields)));
    }
}

#[tokio::test]
async fn a_status_in_the_head_does_not_hide_what_follows() {
    let path = Path::to(|mut exchange: Exchange| async move {
        let mut response = head();
        response.headers_mut().extend(status("0"));
        let mut send = exchange.respond.send_response(response, false).unwrap();
        match exchange.request.uri().path() {
            "/a.B/Never" => drop(crate::world::upstream::reset(&mut send).await),
            "/a.B/Reset" => {
                let body = exchange.request.body_mut();
                while body.data().await.is_some() {}
                // The head has to leave before, and nothing tells when it has.
                tokio::time::sleep(Duration::from_millis(20)).await;
                send.send_reset(h2::Reason::INTERNAL_ERROR);
            }
            _ => send.send_data(message(b"after all"), true).unwrap(),
        }
    })
    .await;
    let reply = path.client.get_at("site-a", "/a.B/C").await;
    assert_eq!(reply.data, message(b"after all"));

    // A reset is no end of a trailers-only response.
    let error = path.client.call(to("site-a", "/a.B/Reset"), message(b"")).await;
    assert_eq!(reset_code(&error.unwrap_err()), h2::Reason::INTERNAL_ERROR);

    // It does not hold the call beyond its deadline either.
    let late = request("/a.B/Never")
        .header("adit-agent", "site-a")
        .header("grpc-timeout", "200m");
    let reply = path.client.get(late.body(()).unwrap()).await;
    reply.failed_at_once(Reason::Deadline, Code::DeadlineExceeded, "maybe");
}

#[tokio::test]
async fn the_head_does_not_wait_for_the_first_message() {
    let go = Arc::new(Notify::new());
    let path = Path::to({
        let go = Arc::clone(&go);
        move |mut exchange: Exchange| {
            let go = Arc::clone(&go);
            async move {
                let mut send = exchange.respond.send_response(head(), false).unwrap();
                for data in ["one", "two"] {
                    go.notified().await;
                    send.send_data(message(data.as_bytes()), false).unwrap();
                }
                go.notified().await;
                send.send_trailers(status("0")).unwrap();
            }
        }
    })
    .await;
    let (response, _send) = path.client.send(to("site-a", "/a.B/C"), true).await;
    let mut body = soon(response).await.unwrap().into_body();
    for data in ["one", "two"] {
        go.notify_one();
        assert_eq!(next_message(&mut body).await, message(data.as_bytes()));
    }
    go.notify_one();
    assert!(soon(body.data()).await.is_none());
    assert_eq!(soon(body.trailers()).await.unwrap().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn each_message_of_the_client_leaves_at_once() {
    let path = Path::to(crate::world::upstream::echo).await;
    let (response, mut send) = path.client.send(to("site-a", "/a.B/C"), false).await;
    let mut body = soon(response).await.unwrap().into_body();
    for data in [&b"one"[..], b"", b"two"] {
        send.send_data(message(data), false).unwrap();
        assert_eq!(next_message(&mut body).await, message(data));
    }
    send.send_data(Bytes::new(), true).unwrap();
    assert!(soon(body.data()).await.is_none());
    assert_eq!(soon(body.trailers()).await.unwrap().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_is_complete() {
    let path = Path::to(|exchange: Exchange| answer(exchange, message(b"enough"))).await;
    for _ in 0..20 {
        let (response, mut send) = path.client.send(to("site-a", "/a.B/C"), false).await;
        send.send_data(message(b"one"), false).unwrap();
        let reply = Reply::read(soon(response).await.unwrap().into_parts()).await;
        assert_eq!(reply.unwrap().succeeded(), b"enough");
    }
}

#[tokio::test]
async fn messages_of_64_mebibytes_pass_both_ways() {
    let path = Path::to(crate::world::upstream::echo).await;
    // A period that divides no frame and no window: a piece that is lost, doubled or out of place is seen.
    let piece: Vec<u8> = (0..65_521_u32)
        .map(|i| (i ^ (i >> 11)).to_le_bytes()[0])
        .collect();
    let mut data = piece.repeat((64 << 20) / piece.len() + 1);
    data.truncate(64 << 20);
    let sent = message(&data);
    let (response, mut send) = path.client.send(to("site-a", "/a.B/C"), false).await;
    let upload = async {
        assert!(crate::world::upstream::send_all(&mut send, sent.clone()).await);
        send.send_data(Bytes::new(), true).unwrap();
    };
    let download = async { Reply::read(response.await.unwrap().into_parts()).await };
    // Seconds, but on a machine that does much else.
    let both = async { tokio::join!(download, upload) };
    let (reply, ()) = tokio::time::timeout(6 * PATIENCE, both)
        .await
        .expect("it takes too long");
    let reply = reply.unwrap();
    assert_eq!(reply.told()["grpc-status"], "0");
    assert!(reply.data == sent, "{} bytes came back", reply.data.len());
}

#[tokio::test]
async fn a_reset_without_an_error_is_no_clean_end() {
    let path = Path::to(|mut exchange: Exchange| async move {
        let mut send = exchange.respond.send_response(head(), false).unwrap();
        send.send_data(message(b"one"), false).unwrap();
        let body = exchange.request.body_mut();
        while body.data().await.is_some() {}
        send.send_reset(h2::Reason::NO_ERROR);
    })
    .await;
    let (response, mut send) = path.client.send(to("site-a", "/a.B/C"), false).await;
    let mut body = soon(response).await.unwrap().into_body();
    assert_eq!(next_message(&mut body).await, message(b"one"));
    send.send_data(Bytes::new(), true).unwrap();
    // gRPC libraries take either for a failure (gRPC proposal G2 says INTERNAL).
    match soon(body.data()).await {
        Some(end) => {
            let code = reset_code(&end.unwrap_err());
            assert_ne!(code, h2::Reason::CANCEL);
        }
        None => {
            let trailers = soon(body.trailers()).await.unwrap().unwrap();
            assert_eq!(trailers["grpc-status"], "13");
        }
    }
}
