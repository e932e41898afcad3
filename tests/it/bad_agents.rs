//! Hubs and agents that break the rules between them, or know less of them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_certs::Role;
use adit_hub::HELLO_TIMEOUT;
use adit_proto::tunnel::v1::Bytes as Piece;
use adit_proto::tunnel::v1::agent_event::Event;
use adit_proto::tunnel::v1::agent_server::{Agent, AgentServer};
use adit_proto::tunnel::v1::{AgentEvent, Hello, HubEvent, Services, ServicesChanged};
use adit_transport::{AgentLink, Body, BodyError, Code, Dialer, HubLink, LinkError, Listener, Reset, Tuning};
use bytes::BytesMut;
use futures_util::{Stream, StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;
use tonic::codegen::Service as _;
use tonic::{Status, Streaming};

use crate::world::process::HubProcess;
use crate::world::raw::{RawClient, message};
use crate::world::sample::{self, Sample};
use crate::world::upstream::Server;
use crate::world::{ANY_PORT, SHORT_GRACE, World, soon};

/// An agent made by hand, which says these events and then nothing.
#[derive(Clone)]
struct Says(Vec<AgentEvent>);

#[tonic::async_trait]
impl Agent for Says {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<AgentEvent, Status>> + Send>>;

    async fn attach(
        &self,
        _: tonic::Request<Streaming<HubEvent>>,
    ) -> Result<tonic::Response<Self::AttachStream>, Status> {
        let events = stream::iter(self.0.clone()).map(Ok).chain(stream::pending());
        Ok(tonic::Response::new(Box::pin(events)))
    }

    type DialStream = Pin<Box<dyn Stream<Item = Result<Piece, Status>> + Send>>;

    /// Ends the connections to one target without a word, and knows no others.
    async fn dial(
        &self,
        request: tonic::Request<Streaming<Piece>>,
    ) -> Result<tonic::Response<Self::DialStream>, Status> {
        let first = request.into_inner().message().await?.unwrap();
        match first.target.as_str() {
            "cut.off:1" => {
                let data = bytes::Bytes::from_static(b"some");
                let some = Piece {
                    data,
                    ..Piece::default()
                };
                Ok(tonic::Response::new(Box::pin(stream::iter([Ok(some)]))))
            }
            _ => Err(Status::unimplemented("")),
        }
    }
}

fn event(event: Event) -> AgentEvent {
    AgentEvent { event: Some(event) }
}

fn hello(id: &str) -> Hello {
    Hello {
        id: id.to_owned(),
        instance: "by hand".to_owned(),
        ..Hello::default()
    }
}

async fn dial(world: &World, hub: std::net::SocketAddr, id: &str) -> AgentLink {
    let tls = world.agent_credentials(id).client_config().unwrap();
    let dialer = Dialer::new(tls, Tuning::default()).unwrap();
    soon(dialer.dial(hub, "127.0.0.1")).await.unwrap()
}

/// Serves the control call until the link ends, and every other call with an empty message.
async fn serve(link: &AgentLink, says: Says) -> String {
    let server = AgentServer::new(says);
    let reason = link.serve(move |request: Request<Body>| {
        let mut server = server.clone();
        async move {
            if request.uri().path().starts_with("/adit.") {
                let Ok(response) = server.call(request).await;
                let reset = |_| BodyError::Reset(Code::INTERNAL_ERROR);
                return Ok(response.map(|body| Body::new(body.map_err(reset))));
            }
            Ok(empty_answer())
        }
    });
    reason.await.to_string()
}

fn empty_answer() -> Response<Body> {
    let trailers = crate::world::upstream::status("0");
    let body = Full::new(message(b"")).with_trailers(std::future::ready(Some(Ok(trailers))));
    crate::world::upstream::head().map(|()| Body::new(body.map_err(|never| match never {})))
}

#[tokio::test]
async fn an_agent_that_introduces_itself_badly_is_told_and_closed() {
    let world = World::new();
    let hub = HubProcess::start(&world, &[]).await;
    let sample = Sample::start().await;
    let _good = hub.agent(&world, "good", &["--upstream", &sample.url()]);
    hub.has("good").await;
    let names = |count: usize| {
        Some(Services {
            known: true,
            names: (0..count).map(|i| i.to_string()).collect(),
        })
    };
    let cases = [
        ("another id", hello("good"), "its certificate is for site-a"),
        (
            "a long instance",
            Hello {
                instance: "x".repeat(65),
                ..hello("site-a")
            },
            "65 bytes",
        ),
        (
            "no instance",
            Hello {
                instance: String::new(),
                ..hello("site-a")
            },
            "no name",
        ),
        (
            "a label with a space",
            Hello {
                labels: [("a b".to_owned(), "c".to_owned())].into(),
                ..hello("site-a")
            },
            "its key has to be",
        ),
        (
            "a service with a long name",
            Hello {
                services: Some(Services {
                    known: true,
                    names: vec!["x".repeat(513)],
                }),
                ..hello("site-a")
            },
            "513 bytes",
        ),
        (
            "too many services",
            Hello {
                services: names(4097),
                ..hello("site-a")
            },
            "4097 services",
        ),
    ];
    for (what, hello, reason) in cases {
        let link = dial(&world, hub.agents, "site-a").await;
        let heard = soon(serve(&link, Says(vec![event(Event::Hello(hello))]))).await;
        assert!(heard.contains(reason), "{what}: {heard}");
        hub.process.says(&["WARN", "refused a link", reason]).await;
        sample::four_kinds(hub.clients, Some("good")).await;
    }
    // Something else than a hello, an event of a later version, and one that is too long.
    for events in [
        vec![event(Event::ServicesChanged(ServicesChanged::default()))],
        vec![AgentEvent { event: None }],
    ] {
        let link = dial(&world, hub.agents, "site-a").await;
        let heard = soon(serve(&link, Says(events))).await;
        assert!(heard.contains("not a hello"), "{heard}");
    }
    assert_eq!(hub.process.said(&["an agent is connected", "agent=site-a"]), 0);
}

#[tokio::test]
async fn an_agent_that_breaks_a_rule_later_is_closed_too() {
    let world = World::new();
    let hub = HubProcess::start(&world, &[]).await;
    let link = dial(&world, hub.agents, "site-a").await;
    let too_many = Services {
        known: true,
        names: (0..4097).map(|i| i.to_string()).collect(),
    };
    let events = vec![
        event(Event::Hello(hello("site-a"))),
        AgentEvent { event: None },
        event(Event::ServicesChanged(ServicesChanged {
            services: Some(too_many),
        })),
    ];
    let heard = soon(serve(&link, Says(events))).await;
    assert!(heard.contains("4097 services"), "{heard}");
    hub.has("site-a").await;
    hub.process
        .says(&["an agent's link ended", "4097 services"])
        .await;
}

#[tokio::test]
async fn an_agent_that_says_hello_twice_is_closed() {
    let world = World::new();
    let hub = world.hub().await;
    let link = dial(&world, hub.agents, "site-a").await;
    let twice = vec![event(Event::Hello(hello("site-a"))); 2];
    let heard = soon(serve(&link, Says(twice))).await;
    assert!(heard.contains("hello twice"), "{heard}");
}

#[tokio::test]
async fn an_agent_whose_events_are_a_flood_or_too_long_is_closed() {
    let world = World::new();
    let hub = world.hub().await;
    let flood = std::iter::repeat_n(event(Event::ServicesChanged(ServicesChanged::default())), 1000);
    let flood = std::iter::once(event(Event::Hello(hello("site-a")))).chain(flood);
    let link = dial(&world, hub.agents, "site-a").await;
    let heard = soon(serve(&link, Says(flood.collect()))).await;
    assert!(heard.contains("more than 200 events"), "{heard}");

    let long = Hello {
        version: "x".repeat(10 << 20),
        ..hello("site-b")
    };
    let link = dial(&world, hub.agents, "site-b").await;
    let heard = soon(serve(&link, Says(vec![event(Event::Hello(long))]))).await;
    assert!(heard.contains("10485"), "the limit is not told: {heard}");
}

#[tokio::test]
async fn an_exclusive_id_has_one_instance_and_then_the_next() {
    let world = World::new();
    let hub = HubProcess::start(&world, &[]).await;
    let sample = Sample::start().await;
    let arguments = ["--exclusive", "--upstream", &sample.url()];
    let mut first = hub.agent(&world, "site-a", &arguments);
    hub.has("site-a").await;
    let mut second = hub.agent(&world, "site-a", &arguments);
    second
        .says(&["WARN", "the hub refuses this agent", "exclusive"])
        .await;
    sample::four_kinds(hub.clients, Some("site-a")).await;
    assert_eq!(first.terminate().await.code(), Some(0));
    // The second dials on, and is taken once the first has gone.
    hub.process
        .says_times(&["an agent is connected", "agent=site-a"], 2)
        .await;
    sample::four_kinds(hub.clients, Some("site-a")).await;
    assert!(second.runs());
}

#[tokio::test]
async fn an_agent_that_drains_gets_no_new_calls() {
    let world = World::new();
    let hub = world.hub_with(|hub| hub.reconnect_grace(SHORT_GRACE)).await;
    let link = dial(&world, hub.agents, "site-a").await;
    let events = vec![
        event(Event::Hello(hello("site-a"))),
        event(Event::Drain(adit_proto::tunnel::v1::Drain {})),
    ];
    let client = RawClient::connect(hub.clients).await;
    let drained = async {
        while client.get_at("site-a", "/a.B/C").await.told()["grpc-status"] == "0" {}
        let reply = client.get_at("site-a", "/a.B/C").await;
        assert_eq!(reply.told()["adit-error"], "draining", "{reply:?}");
    };
    tokio::select! {
        () = soon(drained) => {}
        heard = serve(&link, Says(events)) => panic!("{heard}"),
    }
}

#[tokio::test]
async fn an_agent_that_says_no_hello_is_closed() {
    let world = World::new();
    let hub = HubProcess::start(&world, &[]).await;
    let sample = Sample::start().await;
    let _good = hub.agent(&world, "good", &["--upstream", &sample.url()]);
    hub.has("good").await;
    let begun = Instant::now();
    // One answers the control call and says nothing more; the other doesn't even answer.
    let (link, mute) = (
        dial(&world, hub.agents, "site-a").await,
        dial(&world, hub.agents, "site-b").await,
    );
    let silence = mute.serve(|_| std::future::pending::<Result<Response<Body>, Reset>>());
    let (heard, mute, ()) = soon(async {
        tokio::join!(
            serve(&link, Says(Vec::new())),
            silence,
            sample::four_kinds(hub.clients, Some("good"))
        )
    })
    .await;
    for heard in [heard, mute.to_string()] {
        assert!(heard.contains("no hello came within 5 s"), "{heard}");
    }
    assert!(begun.elapsed() >= HELLO_TIMEOUT);
    assert!(begun.elapsed() < 3 * HELLO_TIMEOUT);
    hub.process
        .says_times(&["WARN", "refused a link", "no hello came"], 2)
        .await;
}

#[tokio::test]
async fn an_agent_that_knows_no_control_call_is_callable_by_id() {
    let world = World::new();
    let hub = world.hub().await;
    let client = RawClient::connect(hub.clients).await;
    // As gRPC answers an unknown method, and as a web server does.
    for grpc in [true, false] {
        let link = dial(&world, hub.agents, "bare").await;
        let serve = link.serve(move |request: Request<Body>| async move {
            if !request.uri().path().starts_with("/adit.") {
                return Ok(empty_answer());
            }
            let response = Response::builder();
            let response = match grpc {
                true => response
                    .header("content-type", "application/grpc")
                    .header("grpc-status", "12"),
                false => response.status(404).header("content-type", "text/plain"),
            };
            Ok(response.body(Body::empty()).unwrap())
        });
        tokio::select! {
            reply = client.get_at("bare", "/a.B/C") => assert_eq!(reply.succeeded(), b""),
            ended = serve => panic!("{ended}"),
        }
        drop(link);
    }
}

#[tokio::test]
async fn a_bare_agent_that_takes_no_new_calls_is_let_go_after_its_last_one() {
    let world = World::new();
    let hub = world.hub_with(|hub| hub.reconnect_grace(SHORT_GRACE)).await;
    let client = RawClient::connect(hub.clients).await;
    let link = dial(&world, hub.agents, "bare").await;
    let (begun, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let serve = {
        let (begun, end) = (Arc::clone(&begun), Arc::clone(&end));
        link.serve(move |request: Request<Body>| {
            let (begun, end) = (Arc::clone(&begun), Arc::clone(&end));
            async move {
                match request.uri().path() {
                    "/a.B/Held" => {
                        begun.notify_one();
                        end.notified().await;
                    }
                    "/a.B/C" => {}
                    _ => return Ok(Response::builder().status(404).body(Body::empty()).unwrap()),
                }
                Ok(empty_answer())
            }
        })
    };
    let calls = async {
        while client.get_at("bare", "/a.B/C").await.told()["grpc-status"] != "0" {}
        let held = async { client.get_at("bare", "/a.B/Held").await.succeeded().len() };
        let leaves = async {
            begun.notified().await;
            tokio::select! {
                () = link.drain() => panic!("a call runs"),
                () = async {
                    // Until the hub has heard of it.
                    while client.get_at("bare", "/a.B/C").await.told()["grpc-status"] == "0" {}
                } => end.notify_one(),
            }
        };
        tokio::join!(held, leaves);
    };
    let (ended, ()) = soon(async { tokio::join!(serve, calls) }).await;
    assert!(
        matches!(&ended, LinkError::Closed(reason) if reason.contains("no new calls")),
        "{ended:?}"
    );
}

/// An agent of `world` in front of `upstream`, and the hub's end of its link, held by hand.
async fn by_hand(world: &World, upstream: &str) -> (crate::world::Agent, HubLink, Listener) {
    let credentials = world.hub_credentials();
    let listener = Listener::bind(
        ANY_PORT,
        credentials.server_config().unwrap(),
        credentials.private_key_der(),
        Tuning::default(),
    )
    .unwrap();
    let address = listener.local_addr().unwrap();
    let agent = world.agent_with(address, "site-a", &[upstream], |agent| agent.advertise("a.B"));
    let handshake = soon(listener.accept()).await.unwrap();
    let link = soon(handshake.establish()).await.unwrap();
    (agent, link, listener)
}

/// Makes a call of the hub whose request has begun, and goes on for ever.
async fn begin(link: &HubLink, path: &str) -> Response<Body> {
    let welcome = message(&HubEvent::default().encode_to_vec());
    let frames = stream::iter([Ok(http_body::Frame::data(welcome))]).chain(stream::pending());
    let request = Request::post(format!("https://hub.adit{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let (head, ()) = request.body(()).unwrap().into_parts();
    let body = Body::new(http_body_util::StreamBody::new(frames));
    soon(link.call(&head, body)).await.unwrap()
}

/// The next event of an agent, of which several may come at once.
async fn next_event(events: &mut Body, heard: &mut BytesMut) -> AgentEvent {
    loop {
        if let Some(length) = heard.get(1..5) {
            let end = 5 + u32::from_be_bytes(length.try_into().unwrap()) as usize;
            if heard.len() >= end {
                return AgentEvent::decode(&heard.split_to(end)[5..]).unwrap();
            }
        }
        let frame = soon(events.frame()).await.unwrap().unwrap();
        heard.extend_from_slice(&frame.into_data().unwrap());
    }
}

#[tokio::test]
async fn an_agent_is_attached_once_to_a_link() {
    let world = World::new();
    let server = Server::echo().await;
    let (_agent, link, _listener) = by_hand(&world, &server.url()).await;
    let first = begin(&link, "/adit.tunnel.v1.Agent/Attach").await;
    let mut events = first.into_body();
    let mut heard = BytesMut::new();
    let said = next_event(&mut events, &mut heard).await;
    let Some(Event::Hello(hello)) = said.event else {
        panic!("{said:?}");
    };
    assert_eq!(hello.id, "site-a");
    assert_eq!(hello.services.unwrap().names, ["a.B"]);
    assert_eq!((hello.slot, hello.generation), (0, 1));
    assert!(!hello.instance.is_empty() && hello.instance.len() <= 64);

    let second = begin(&link, "/adit.tunnel.v1.Agent/Attach").await;
    assert_eq!(second.headers()["grpc-status"], "6", "ALREADY_EXISTS");
    // The first one goes on: with a heartbeat, which asks whether the hello was heard, and then nothing.
    let said = next_event(&mut events, &mut heard).await;
    assert!(
        matches!(said.event, Some(Event::Heartbeat(heartbeat)) if !heartbeat.reply),
        "{said:?}"
    );
    let quiet = tokio::time::timeout(Duration::from_millis(50), events.frame()).await;
    assert!(quiet.is_err(), "{quiet:?}");
}

#[tokio::test]
async fn an_agent_forwards_nothing_that_is_between_it_and_its_hub() {
    let world = World::new();
    let server = Server::echo().await;
    let (_agent, link, _listener) = by_hand(&world, &server.url()).await;
    for (path, status) in [
        ("/adit.other.v1.Thing/Do", "7"),
        ("/adit.tunnel.v1.Agent/Unknown", "12"),
    ] {
        let response = begin(&link, path).await;
        assert_eq!(response.headers()["grpc-status"], status, "{path}");
    }
    let response = begin(&link, "/a.B/C").await;
    assert_eq!(response.headers().get("grpc-status"), None, "the echo goes on");
}

#[tokio::test]
async fn the_hub_takes_only_agents_and_the_agent_only_a_hub() {
    // An agent's certificate cannot serve as a hub's: its usage is a client's.
    let world = World::new();
    let files = world.agent_files("site-a");
    adit_certs::Credentials::load(&files, Role::Hub).unwrap_err();
    let server = Server::echo().await;
    let hub = world.hub().await;
    let link = dial(&world, hub.agents, "site-b").await;
    let serve = serve(&link, Says(vec![event(Event::Hello(hello("site-b")))]));
    let _other = world.agent(&hub, "site-c", &server.url());
    let client = RawClient::connect(hub.clients).await;
    tokio::select! {
        (b, c) = async { tokio::join!(client.get_at("site-b", "/a.B/C"), client.get_at("site-c", "/a.B/C")) } => {
            b.succeeded();
            c.succeeded();
        }
        heard = serve => panic!("{heard}"),
    }
}

#[tokio::test]
async fn raw_tcp_that_an_agent_cuts_off_is_reset_and_an_agent_that_knows_none_is_named() {
    let world = World::new();
    let hub = world.hub_with(|hub| hub.tcp(ANY_PORT)).await;
    let link = dial(&world, hub.agents, "site-a").await;
    let says = Says(vec![event(Event::Hello(hello("site-a")))]);
    let _agent = AbortOnDropHandle::new(tokio::spawn(async move { serve(&link, says).await }));
    let ask = async |target: &str| {
        let mut client = TcpStream::connect(hub.tcp()).await.unwrap();
        let line = format!("{{\"agent\":\"site-a\",\"target\":\"{target}\"}}\n");
        client.write_all(line.as_bytes()).await.unwrap();
        let mut told = Vec::new();
        let ended = soon(client.read_to_end(&mut told)).await;
        (
            String::from_utf8(told).unwrap(),
            ended.map(drop).map_err(|error| error.kind()),
        )
    };
    let (told, ended) = ask("db:1").await;
    assert!(
        told.contains("no-route") && told.contains("does not know raw TCP"),
        "{told}"
    );
    assert_eq!(ended, Ok(()));
    // What came may or may not be read before the reset is, and there is no other end.
    let (_, ended) = ask("cut.off:1").await;
    assert_eq!(ended, Err(std::io::ErrorKind::ConnectionReset));
}
