//! `adit connect`: a local port that is one agent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use adit_hub::ClientTls;
use adit_proto::failure::Reason;
use bytes::Bytes;
use h2::client::Builder;
use http::HeaderMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tonic::Code;

use crate::world::process::{self, Process};
use crate::world::raw::{RawClient, message, next_message, request, reset_code, to};
use crate::world::sample::{Sample, four_kinds};
use crate::world::upstream::{self, Exchange, Server, echo, head, reset, send_all, status};
use crate::world::{Agent, Hub, PATIENCE, World, soon};

const MIB: usize = 1 << 20;

/// The command, and where it listens.
struct Port {
    process: Process,
    address: SocketAddr,
}

impl Port {
    async fn open(hub: &str, arguments: &[&str]) -> Self {
        let mut all = vec!["connect", "site-a", "--listen", "0", "--hub", hub];
        all.extend(arguments);
        let process = Process::start(&all);
        let line = process.says(&["the port is open", "agent=site-a", hub]).await;
        let address = line.split(' ').find_map(|field| field.strip_prefix("listen="));
        let address: SocketAddr = address.unwrap().parse().unwrap();
        assert!(address.ip().is_loopback(), "{address}");
        Self { process, address }
    }

    async fn client(&self) -> RawClient {
        RawClient::connect(self.address).await
    }
}

/// Two agents that have the same service, and a port that is the first.
struct Path {
    port: Port,
    _agents: [Agent; 2],
    _hub: Hub,
    _servers: [Server; 2],
    _world: World,
}

impl Path {
    async fn to<F, R>(handler: F) -> Self
    where
        F: Fn(Exchange) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let wrong = |exchange| upstream::answer(exchange, message(b"the wrong agent"));
        let servers = [Server::start(handler).await, Server::start(wrong).await];
        let world = World::new();
        let hub = world.hub().await;
        let agent = |id, server: &Server| {
            world.agent_with(hub.agents, id, &[&server.url()], |agent| agent.advertise("a.B"))
        };
        let agents = [agent("site-a", &servers[0]), agent("site-b", &servers[1])];
        Self {
            port: Port::open(&format!("http://{}", hub.clients), &[]).await,
            _agents: agents,
            _hub: hub,
            _servers: servers,
            _world: world,
        }
    }
}

fn listed(metadata: &HeaderMap) -> Vec<(&str, &[u8])> {
    let fields = metadata.iter();
    fields
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect()
}

#[tokio::test]
async fn metadata_both_ways_and_trailers_are_passed_on_in_their_order() {
    let (tell, mut seen) = mpsc::channel(1);
    let path = Path::to(move |mut exchange: Exchange| {
        let tell = tell.clone();
        async move {
            let headers = exchange.request.headers().clone();
            let trailers_only = headers.contains_key("x-refuse");
            tell.send(headers).await.unwrap();
            let mut response = head();
            response.headers_mut().append("x-many", "1".parse().unwrap());
            response.headers_mut().append("x-many", "0".parse().unwrap());
            let mut trailers = status("9");
            trailers.append("x-detail-bin", "AAEC".parse().unwrap());
            trailers.append("x-detail-bin", "AA".parse().unwrap());
            if trailers_only {
                response.headers_mut().extend(trailers);
                exchange.respond.send_response(response, true).unwrap();
                return;
            }
            let mut send = exchange.respond.send_response(response, false).unwrap();
            send.send_data(message(b"answer"), false).unwrap();
            send.send_trailers(trailers).unwrap();
        }
    })
    .await;
    let client = path.port.client().await;
    let call = || {
        request("/a.B/C")
            .header("x-many", "b")
            .header("grpc-timeout", "20S")
            .header("x-many", "a")
            .header("trace-bin", "AAE")
    };
    let expected: &[(&str, &[u8])] = &[
        ("content-type", b"application/grpc"),
        ("te", b"trailers"),
        ("x-many", b"b"),
        ("x-many", b"a"),
        ("grpc-timeout", b"20S"),
        ("trace-bin", b"AAE"),
    ];
    // A client that names another agent is at this one all the same: that is what the port is.
    for request in [call(), call().header("adit-agent", "site-b")] {
        let reply = client.get(request.body(()).unwrap()).await;
        let seen = soon(seen.recv()).await.unwrap();
        let mut seen = listed(&seen);
        // The hub counts the time that has passed.
        for (name, value) in &mut seen {
            if *name == "grpc-timeout" {
                *value = b"20S";
            }
        }
        assert_eq!(seen, expected);
        assert_eq!(reply.data, message(b"answer"));
        let response: &[(&str, &[u8])] = &[
            ("content-type", b"application/grpc"),
            ("x-many", b"1"),
            ("x-many", b"0"),
        ];
        assert_eq!(listed(&reply.head.headers), response);
        let trailers: &[(&str, &[u8])] = &[
            ("grpc-status", b"9"),
            ("x-detail-bin", b"AAEC"),
            ("x-detail-bin", b"AA"),
        ];
        assert_eq!(listed(reply.trailers.as_ref().unwrap()), trailers);
    }
    let reply = client.get(call().header("x-refuse", "1").body(()).unwrap()).await;
    assert!(reply.headers_only, "{reply:?}");
    assert_eq!(reply.told()["grpc-status"], "9");
    assert_eq!(reply.told().get_all("x-detail-bin").iter().count(), 2);
}

#[tokio::test]
async fn the_four_kinds_of_a_generated_client() {
    let world = World::new();
    let hub = world.hub().await;
    let samples = [Sample::start().await, Sample::start().await];
    let _agents = [
        world.agent(&hub, "site-a", &samples[0].url()),
        world.agent(&hub, "site-b", &samples[1].url()),
    ];
    let port = Port::open(&format!("http://{}", hub.clients), &[]).await;
    // A client that sets no metadata, of a service that two agents have.
    four_kinds(port.address, None).await;
    assert_eq!(samples[1].calls(), Default::default());
    assert_ne!(samples[0].calls(), Default::default());
}

#[tokio::test]
async fn a_conversation_and_a_long_message() {
    let path = Path::to(echo).await;
    let client = path.port.client().await;
    let (response, mut send) = client.send(request("/a.B/Chat").body(()).unwrap(), false).await;
    let mut body = None;
    let mut response = Some(response);
    for word in [&b"one"[..], b"two", b"three"] {
        send.send_data(message(word), false).unwrap();
        if let Some(response) = response.take() {
            body = Some(soon(response).await.unwrap().into_body());
        }
        // While the request is open.
        assert_eq!(next_message(body.as_mut().unwrap()).await, message(word));
    }
    send.send_data(Bytes::new(), true).unwrap();
    let mut body = body.unwrap();
    assert!(soon(body.data()).await.is_none());
    assert_eq!(soon(body.trailers()).await.unwrap().unwrap()["grpc-status"], "0");

    // More than gRPC libraries take by themselves.
    let long = message(&vec![7; 24 * MIB]);
    let reply = client
        .call(request("/a.B/C").body(()).unwrap(), long.clone())
        .await;
    assert!(reply.unwrap().data == long);
}

#[tokio::test]
async fn resets_cross_both_ways() {
    let (tell, mut seen) = mpsc::channel(8);
    let path = Path::to(move |mut exchange: Exchange| {
        let tell = tell.clone();
        async move {
            match exchange.request.uri().path() {
                "/a.B/Refused" => exchange.respond.send_reset(h2::Reason::ENHANCE_YOUR_CALM),
                "/a.B/Breaks" => {
                    let mut send = exchange.respond.send_response(head(), false).unwrap();
                    send.send_data(message(b"first"), false).unwrap();
                    send.send_reset(h2::Reason::CANCEL);
                }
                _ => {
                    let mut send = exchange.respond.send_response(head(), false).unwrap();
                    send.send_data(message(b"first"), false).unwrap();
                    tell.send(reset(&mut send).await).await.unwrap();
                }
            }
        }
    })
    .await;
    let client = path.port.client().await;
    let call = |path: &str| request(path).body(()).unwrap();
    let error = client.call(call("/a.B/Refused"), message(b"")).await.unwrap_err();
    assert_eq!(reset_code(&error), h2::Reason::ENHANCE_YOUR_CALM);
    let error = client.call(call("/a.B/Breaks"), message(b"")).await.unwrap_err();
    assert_eq!(reset_code(&error), h2::Reason::CANCEL);

    // By a reset, and by a client that leaves.
    let (response, mut send) = client.send(call("/a.B/Endless"), false).await;
    let mut body = soon(response).await.unwrap().into_body();
    assert_eq!(next_message(&mut body).await, message(b"first"));
    send.send_reset(h2::Reason::CANCEL);
    assert_eq!(soon(seen.recv()).await.unwrap(), Some(h2::Reason::CANCEL));
    let (response, _send) = client.send(call("/a.B/Endless"), false).await;
    let mut body = soon(response).await.unwrap().into_body();
    assert_eq!(next_message(&mut body).await, message(b"first"));
    drop(client);
    assert_eq!(soon(seen.recv()).await.unwrap(), Some(h2::Reason::CANCEL));
}

#[tokio::test]
async fn a_reader_that_stops_holds_its_upstream_back_and_nobody_else() {
    const OWED: usize = 96 * MIB;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let path = Path::to(move |mut exchange: Exchange| {
        let sent = Arc::clone(&counted);
        async move {
            if exchange.request.uri().path() == "/a.B/Echo" {
                return echo(exchange).await;
            }
            let mut send = exchange.respond.send_response(head(), false).unwrap();
            while sent.load(Ordering::Relaxed) < OWED && send_all(&mut send, Bytes::from(vec![0; MIB])).await
            {
                sent.fetch_add(MIB, Ordering::Relaxed);
            }
            let _ = send.send_trailers(status("0"));
        }
    })
    .await;
    let stopped = RawClient::connect_with(path.port.address, &Builder::new()).await;
    let (response, _send) = stopped.send(request("/a.B/Flood").body(()).unwrap(), true).await;
    let mut body = soon(response).await.unwrap().into_body();
    // Calls on another connection, for as long as anything of it still moves: one alone would have its own window full.
    let client = path.port.client().await;
    let started = tokio::time::Instant::now();
    let (mut before, mut still) = (0, 0);
    while still < 200 {
        assert!(started.elapsed() < PATIENCE, "the upstream is not held back");
        client
            .get(request("/a.B/Echo").body(()).unwrap())
            .await
            .succeeded();
        let now = sent.load(Ordering::Relaxed);
        still = if now == before { still + 1 } else { 0 };
        before = now;
    }
    assert!(
        before < OWED / 2,
        "{before} bytes left the upstream that nobody reads"
    );
    let mut read = 0;
    while let Some(data) = soon(body.data()).await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        read += data.len();
    }
    assert_eq!(read, OWED);
    assert_eq!(soon(body.trailers()).await.unwrap().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn a_signal_lets_running_calls_end_and_a_second_one_does_not() {
    for stops_at_once in [false, true] {
        let path = Path::to(echo).await;
        let mut port = path.port;
        let client = port.client().await;
        let (response, mut send) = client.send(request("/a.B/Chat").body(()).unwrap(), false).await;
        send.send_data(message(b"one"), false).unwrap();
        let mut body = soon(response).await.unwrap().into_body();
        assert_eq!(next_message(&mut body).await, message(b"one"));

        port.process.signal("TERM").await;
        port.process.says(&["draining", "signal=\"SIGTERM\""]).await;
        let closed = async {
            while TcpStream::connect(port.address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        soon(closed).await;
        if stops_at_once {
            port.process.signal("INT").await;
            assert!(port.process.ended().await.success());
            assert!(soon(body.data()).await.is_none_or(|data| data.is_err()));
            continue;
        }
        send.send_data(message(b"two"), true).unwrap();
        assert_eq!(next_message(&mut body).await, message(b"two"));
        assert!(soon(body.data()).await.is_none());
        assert_eq!(soon(body.trailers()).await.unwrap().unwrap()["grpc-status"], "0");
        assert!(port.process.ended().await.success());
    }
}

#[tokio::test]
async fn a_hub_that_is_not_there_is_named_and_found_when_it_comes() {
    let world = World::new();
    let server = Server::echo().await;
    let first = world.hub().await;
    let (clients, agents) = (first.clients, first.agents);
    first.stop().await;
    let url = format!("http://{clients}");
    let port = Port::open(&url, &[]).await;
    let client = port.client().await;
    let call = || request("/a.B/C").body(()).unwrap();
    let reply = client.get(call()).await;
    let said = reply.failed_at_once(Reason::UpstreamRefused, Code::Unavailable, "no");
    assert!(
        said.contains(&format!("cannot connect to the hub {url}: ")),
        "{said}"
    );
    assert!(said.contains("--hub names its port for clients"), "{said}");
    assert!(!said.contains("--upstream"), "{said}");

    let _hub = world
        .hub_with(|hub| hub.clients(clients).agents(agents.into()))
        .await;
    let _agent = world.agent_with(_hub.agents, "site-a", &[&server.url()], |agent| {
        agent.advertise("a.B")
    });
    client.get(call()).await.succeeded();
}

#[tokio::test]
async fn a_hub_that_asks_for_a_certificate() {
    let world = World::new();
    let hub = world.hub_with(|hub| hub.client_tls(ClientTls::Mutual)).await;
    let server = Server::echo().await;
    let _agent = world.agent_with(hub.agents, "site-a", &[&server.url()], |agent| {
        agent.advertise("a.B")
    });
    world.client_files("billing");
    let url = format!("https://{}", hub.clients);
    let port = Port::open(&url, &["--certs", world.dir(), "--name", "billing"]).await;
    let call = || request("/a.B/C").body(()).unwrap();
    port.client().await.get(call()).await.succeeded();

    let nameless = Port::open(&url, &["--certs", world.dir()]).await;
    let reply = nameless.client().await.get(call()).await;
    let said = reply.told()["grpc-message"].to_str().unwrap().to_owned();
    assert_eq!(reply.told()["grpc-status"], "14", "{reply:?}");
    assert!(said.contains("--name"), "{said}");

    let arguments = ["connect", "site-a", "--listen", "0", "--hub", &url];
    let missing = [&arguments[..], &["--certs", world.dir(), "--name", "nobody"]].concat();
    let said = process::fails(&missing, 1).await;
    assert!(said.contains("client-nobody.pem"), "{said}");
}

#[tokio::test]
async fn what_cannot_be_listened_on_is_said_with_what_to_do() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (listen, code, words) in [
        (taken.as_str(), 1, ["cannot listen on", "choose another --listen"]),
        ("0.0.0.0:0", 1, ["no loopback address", "--insecure-clients"]),
        ("nowhere", 2, ["\"nowhere\" is no address", "write PORT"]),
    ] {
        let said = process::fails(&["connect", "site-a", "--listen", listen], code).await;
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    let open = ["connect", "site-a", "--listen", "0.0.0.0:0", "--insecure-clients"];
    let mut process = Process::start(&open);
    process.says(&["WARN", "other machines may use this port"]).await;
    process.says(&["the port is open", "listen=0.0.0.0:"]).await;
    assert!(process.terminate().await.success());
}

#[tokio::test]
async fn a_client_of_another_protocol_is_closed_and_told_of_in_the_log() {
    let path = Path::to(echo).await;
    let mut stream = TcpStream::connect(path.port.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n and enough to be more than a preface")
        .await
        .unwrap();
    let mut rest = Vec::new();
    // It may be reset: what it has sent is not read.
    let _ = soon(stream.read_to_end(&mut rest)).await;
    path.port
        .process
        .says(&["WARN", "does not begin with HTTP/2", "without TLS"])
        .await;
    let client = path.port.client().await;
    // The agent's own metadata means nothing new here.
    client.get(to("site-a", "/a.B/C")).await.succeeded();
}
