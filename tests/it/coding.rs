//! Calls that are compressed between hub and agent: nobody beyond them sees anything of it but fewer bytes on the way.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use adit_agent::Carrier;
use adit_proto::failure::Reason;
use adit_transport::coding::{Coding, Codings, Decoder, Encoder, Zstd};
use adit_transport::{Body, Dialer, LinkError, Tuning};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;

use crate::world::operator::{Operator, ready};
use crate::world::process::{self, HubProcess};
use crate::world::raw::{RawClient, Reply, message, next_message, to};
use crate::world::sample::{self, Sample};
use crate::world::upstream::{Server, head, send_all, status};
use crate::world::{World, soon};

const ALL: [Carrier; 3] = [Carrier::Quic, Carrier::Tls, Carrier::WebSocket];

/// Like JSON of a sensor.
fn readings() -> Bytes {
    let reading = |at: usize| {
        format!(
            "{{\"sensor\":\"boiler-{}\",\"celsius\":{}.5}},",
            at % 7,
            60 + at % 30
        )
    };
    (0..20_000).map(reading).collect::<String>().into()
}

/// zstd, and how many bytes it makes of how many.
#[derive(Debug, Default)]
struct Counted {
    name: &'static str,
    encoded: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
}

struct CountedEncoder {
    encoder: Box<dyn Encoder>,
    encoded: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
}

impl Counted {
    /// Known by this name, and to both ends alike.
    fn named(name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            name,
            ..Self::default()
        })
    }

    fn encoded(&self) -> usize {
        self.encoded.load(Ordering::Relaxed)
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Coding for Counted {
    fn name(&self) -> &'static str {
        self.name
    }

    fn encoder(&self) -> io::Result<Box<dyn Encoder>> {
        Ok(Box::new(CountedEncoder {
            encoder: Zstd.encoder()?,
            encoded: Arc::clone(&self.encoded),
            sent: Arc::clone(&self.sent),
        }))
    }

    fn decoder(&self) -> io::Result<Box<dyn Decoder>> {
        Zstd.decoder()
    }
}

impl CountedEncoder {
    fn count(
        &mut self,
        out: &mut Vec<u8>,
        step: impl FnOnce(&mut dyn Encoder, &mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        let before = out.len();
        step(&mut *self.encoder, out)?;
        self.sent.fetch_add(out.len() - before, Ordering::Relaxed);
        Ok(())
    }
}

impl Encoder for CountedEncoder {
    fn encode(&mut self, data: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        self.encoded.fetch_add(data.len(), Ordering::Relaxed);
        self.count(out, |encoder, out| encoder.encode(data, out))
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.count(out, |encoder, out| encoder.flush(out))
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.count(out, |encoder, out| encoder.finish(out))
    }
}

fn knowing(codings: &[Arc<Counted>]) -> Tuning {
    Tuning {
        codings: Codings::new(codings.iter().map(|coding| Arc::clone(coding) as Arc<dyn Coding>)),
        ..Tuning::default()
    }
}

#[tokio::test]
async fn calls_of_all_kinds_are_coded_on_every_carrier() {
    let world = World::new();
    let mine = Counted::named("mine");
    let tuning = knowing(&[Arc::clone(&mine)]);
    let hub = world.hub_with(|hub| hub.tuning(tuning.clone())).await;
    let (sample, echo) = (Sample::start().await, Server::echo().await);
    for carrier in ALL {
        let id = format!("site-{carrier}");
        let echo = format!("echo={}", echo.url());
        let _agent = world.agent_with(hub.agents, &id, &[&sample.url(), &echo], |agent| {
            agent
                .tuning(tuning.clone())
                .coding("mine")
                .carrier(carrier)
                .advertise("echo.Echo")
        });
        let links = Operator::of(&hub).await.sees(ready(1)).await;
        assert_eq!(links[0].coding, "mine");
        sample::four_kinds(hub.clients, Some(&id)).await;

        let client = RawClient::connect(hub.clients).await;
        let before = (mine.encoded(), mine.sent());
        let reply = soon(client.call(to(&id, "/echo.Echo/Say"), message(&readings())))
            .await
            .unwrap();
        assert!(reply.succeeded() == &readings()[..], "{carrier}: other bytes");
        assert!(!reply.told().contains_key("adit-coding"));
        let (encoded, sent) = (mine.encoded() - before.0, mine.sent() - before.1);
        assert_eq!(
            encoded,
            2 * message(&readings()).len(),
            "{carrier}: both directions"
        );
        assert!(sent * 10 < encoded, "{carrier}: {sent} bytes for {encoded}");

        // No message waits for the next.
        let (response, mut talk) = client.send(to(&id, "/echo.Echo/Say"), false).await;
        talk.send_data(message(b"first"), false).unwrap();
        let mut body = soon(response).await.unwrap().into_body();
        assert_eq!(next_message(&mut body).await, message(b"first"));
        for word in [&b"second"[..], b"", b"third"] {
            talk.send_data(message(word), false).unwrap();
            assert_eq!(next_message(&mut body).await, message(word));
        }
        // One that is given up is so at the upstream, and the link goes on.
        talk.send_reset(h2::Reason::CANCEL);
        let reply = client
            .call(to(&id, "/echo.Echo/Say"), message(b"beside"))
            .await
            .unwrap();
        assert_eq!(reply.succeeded(), b"beside");
        drop(_agent);
        Operator::of(&hub).await.sees(<[_]>::is_empty).await;
    }
}

#[tokio::test]
async fn both_ends_have_to_know_a_coding() {
    for (hub_knows, agent_wants, expected) in [
        (&["a", "b"][..], &["b", "a"][..], "b"),
        (&["a"], &["b", "a"], "a"),
        (&["a"], &["b"], ""),
        (&["a"], &[], ""),
        (&[], &["a"], ""),
    ] {
        let named =
            |names: &[&'static str]| names.iter().map(|name| Counted::named(name)).collect::<Vec<_>>();
        let (at_hub, at_agent) = (named(hub_knows), named(&["a", "b"]));
        let world = World::new();
        let hub = world.hub_with(|hub| hub.tuning(knowing(&at_hub))).await;
        let echo = Server::echo().await;
        let _agent = world.agent_with(hub.agents, "site-a", &[&echo.url()], |agent| {
            let agent = agent.tuning(knowing(&at_agent)).advertise("echo.Echo");
            agent_wants.iter().fold(agent, |agent, name| agent.coding(*name))
        });
        let links = Operator::of(&hub).await.sees(ready(1)).await;
        assert_eq!(links[0].coding, expected, "{hub_knows:?} {agent_wants:?}");
        let client = RawClient::connect(hub.clients).await;
        let reply = client.call(to("site-a", "/echo.Echo/Say"), message(b"x"));
        assert_eq!(soon(reply).await.unwrap().succeeded(), b"x");
        for (end, coding) in at_hub
            .iter()
            .map(|coding| ("hub", coding))
            .chain(at_agent.iter().map(|coding| ("agent", coding)))
        {
            assert_eq!(
                coding.encoded() > 0,
                coding.name == expected,
                "{end}: {}",
                coding.name
            );
        }
    }
}

#[tokio::test]
async fn what_clients_and_upstreams_say_of_a_coding_is_not_heard() {
    let world = World::new();
    let hub = world.hub().await;
    // It claims that its plain bytes are zstd, and sends back what it has seen.
    let upstream = Server::start(|mut exchange| async move {
        let seen = exchange.request.headers().contains_key("adit-coding");
        let mut head = head();
        head.headers_mut().insert("adit-coding", "zstd".parse().unwrap());
        let mut send = exchange.respond.send_response(head, false).unwrap();
        if send_all(&mut send, message(format!("{seen}").as_bytes())).await {
            let _ = send.send_trailers(status("0"));
        }
    })
    .await;
    for coding in [None, Some("zstd")] {
        let _agent = world.agent_with(hub.agents, "site-a", &[&upstream.url()], |agent| {
            coding
                .into_iter()
                .fold(agent.advertise("a.B"), adit_agent::Builder::coding)
        });
        Operator::of(&hub)
            .await
            .sees(|links| links.len() == 1 && links[0].coding == coding.unwrap_or_default())
            .await;
        let mut request = to("site-a", "/a.B/C");
        request
            .headers_mut()
            .insert("adit-coding", "zstd".parse().unwrap());
        let client = RawClient::connect(hub.clients).await;
        let reply = soon(client.call(request, message(b"no zstd at all")))
            .await
            .unwrap();
        assert_eq!(reply.succeeded(), b"false", "{coding:?}");
        assert!(!reply.head.headers.contains_key("adit-coding"));
    }
}

/// A coding by another's name, whose encoder writes these bytes whatever it is given.
#[derive(Clone, Debug)]
struct Forged(&'static str, Bytes);

impl Coding for Forged {
    fn name(&self) -> &'static str {
        self.0
    }

    fn encoder(&self) -> io::Result<Box<dyn Encoder>> {
        Ok(Box::new(self.clone()))
    }

    fn decoder(&self) -> io::Result<Box<dyn Decoder>> {
        Zstd.decoder()
    }
}

impl Encoder for Forged {
    fn encode(&mut self, _: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        out.extend(std::mem::take(&mut self.1));
        Ok(())
    }

    fn flush(&mut self, _: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }
}

/// Zeros, after a gRPC message's length, in a thousandth of the bytes.
fn bomb() -> Bytes {
    let (mut zstd, mut bomb) = (Zstd.encoder().unwrap(), Vec::new());
    let zeros = vec![0; 1 << 20];
    for _ in 0..BOMB / zeros.len() {
        zstd.encode(&zeros, &mut bomb).unwrap();
    }
    zstd.finish(&mut bomb).unwrap();
    assert!(bomb.len() < BOMB / 1000, "{} bytes are no bomb", bomb.len());
    bomb.into()
}

const BOMB: usize = 512 << 20;

#[tokio::test]
async fn what_a_hostile_agent_calls_coded_costs_its_own_calls_only() {
    let world = World::new();
    let hub = HubProcess::start(&world, &[]).await;
    let client = RawClient::connect(hub.clients).await;
    let bomb = bomb();
    for (name, bytes) in [
        ("zstd", Bytes::from_static(b"noise")),
        ("zstd", bomb.slice(..40)),
        ("lz4", Bytes::from_static(b"noise")),
    ] {
        let _agent = hostile(&world, hub.agents, Forged(name, bytes)).await;
        hub.has("site-a").await;
        let (response, mut send) = client.send(to("site-a", "/a.B/C"), false).await;
        send.send_data(message(b"x"), true).unwrap();
        let reply = Reply::read(soon(response).await.unwrap().into_parts())
            .await
            .unwrap();
        reply.failed(Reason::UpstreamProtocol, Code::Internal, "maybe");
    }

    // A reader that stands still is owed no more than what it has room for.
    let _agent = hostile(&world, hub.agents, Forged("zstd", bomb)).await;
    hub.has("site-a").await;
    let before = hub.process.memory();
    let (response, mut send) = client.send(to("site-a", "/a.B/C"), false).await;
    send.send_data(message(b"x"), true).unwrap();
    let mut body = soon(response).await.unwrap().into_body();
    let mut came = 0;
    while came < 16 << 20 {
        let data = soon(body.data()).await.unwrap().unwrap();
        assert!(data.iter().all(|&byte| byte == 0));
        body.flow_control().release_capacity(data.len()).unwrap();
        came += data.len();
    }
    let costs = hub.process.memory().saturating_sub(before);
    assert!(costs < 32 << 20, "{costs} bytes");
}

/// An agent of the transport alone.
async fn hostile(world: &World, hub: SocketAddr, coding: Forged) -> AbortOnDropHandle<LinkError> {
    let tls = world.agent_credentials("site-a").client_config().unwrap();
    let tuning = Tuning {
        codings: Codings::new([Arc::new(coding.clone()) as Arc<dyn Coding>]),
        ..Tuning::default()
    };
    let dialer = Dialer::new(tls, tuning).unwrap();
    let agent = soon(dialer.dial(hub, "127.0.0.1")).await.unwrap();
    assert_eq!(agent.code_with(&[coding.0.to_owned()]), Some(coding.0));
    let answer = |request: Request<Body>| async move {
        if request.uri().path().starts_with("/adit.") {
            // It is a bare one.
            return Ok(Response::new(Body::empty()));
        }
        let trailers = async { Some(Ok(status("0"))) };
        let body = http_body_util::Full::new(message(b"anything")).with_trailers(trailers);
        let (head, ()) = head().into_parts();
        Ok(Response::from_parts(
            head,
            Body::new(body.map_err(|never: Infallible| match never {})),
        ))
    };
    AbortOnDropHandle::new(tokio::spawn(async move { agent.serve(answer).await }))
}

#[tokio::test]
async fn a_coding_that_nobody_knows_is_refused_with_those_that_there_are() {
    let world = World::new();
    let more = ["--upstream", "http://127.0.0.1:1", "--coding", "gzip"];
    let said = process::fails(&world.agent_arguments("site-a", "127.0.0.1:1", &more), 1).await;
    assert!(
        said.contains("unknown coding \"gzip\": use identity, or zstd"),
        "{said}"
    );
}
