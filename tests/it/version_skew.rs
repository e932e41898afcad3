//! An agent of a later version, which says more than this hub knows.
//!
//! The other direction, a hub of a later version, is tested at the agent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use adit_proto::hub::v1::link::State;
use adit_proto::tunnel::v1::{Health, Heartbeat, Hello, HubEvent, Services, hub_event};
use adit_transport::{Body, Dialer, Reset, Tuning};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use prost::Message;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::world::operator::Operator;
use crate::world::process::HubProcess;
use crate::world::raw::{RawClient, message, request, to};
use crate::world::upstream::{head, status};
use crate::world::{World, soon};

/// The numbers of the events that there are (`AgentEvent`).
const HELLO: u64 = 1;
const HEARTBEAT: u64 = 2;
const SERVICES_CHANGED: u64 = 3;
const DRAIN: u64 = 4;
const HEALTH_CHANGED: u64 = 5;

/// Events that wait to be said or heard.
const QUEUE: usize = 16;

/// One field: its number, its wire type and its value as it is written (protobuf's "Encoding").
fn field(number: u64, wire_type: u64, value: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    prost::encoding::encode_varint(number << 3 | wire_type, &mut field);
    field.put_slice(value);
    field
}

/// A field that is a message, or bytes.
fn inner(number: u64, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(value.len() as u64, &mut bytes);
    bytes.put_slice(value);
    field(number, 2, &bytes)
}

/// Fields that no message has, of each wire type.
fn unknown() -> Vec<u8> {
    [
        field(100, 0, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        field(101, 1, &[1, 2, 3, 4, 5, 6, 7, 8]),
        // Bytes that are no message, and ones that are: its field 1 is "hi".
        inner(102, &[0xff, 0xff, 0xff]),
        inner(103, &inner(1, b"hi")),
        // A group, with a varint in it.
        field(104, 3, &field(1, 0, &[1])),
        field(104, 4, &[]),
        field(105, 5, &[1, 2, 3, 4]),
        // The highest number.
        field((1 << 29) - 1, 0, &[1]),
    ]
    .concat()
}

/// The fields of a message, between such as are unknown.
fn among_unknown(fields: &[u8]) -> Vec<u8> {
    [&unknown(), fields, &unknown()].concat()
}

/// A message of this version, among fields of a later one.
fn more_than(message: &impl Message) -> Vec<u8> {
    among_unknown(&message.encode_to_vec())
}

/// An event of a later version: what it has under `number`, and what it has beside that.
fn event(number: u64, fields: &[u8]) -> Vec<u8> {
    among_unknown(&inner(number, &among_unknown(fields)))
}

/// A hello with unknown fields in every message of it.
fn hello(exclusive: bool) -> Vec<u8> {
    let hello = Hello {
        id: "site-a".to_owned(),
        instance: format!("later, exclusive: {exclusive}"),
        generation: 1,
        version: "99.0.0".to_owned(),
        exclusive,
        ..Hello::default()
    };
    let label = [inner(1, b"region"), inner(2, b"eu")].concat();
    let fields = [
        hello.encode_to_vec(),
        inner(6, &among_unknown(&label)),
        inner(7, &services(&["a.B"])),
        inner(9, &more_than(&Health::default())),
    ];
    event(HELLO, &fields.concat())
}

fn services(names: &[&str]) -> Vec<u8> {
    more_than(&Services {
        known: true,
        names: names.iter().map(|&name| name.to_owned()).collect(),
    })
}

fn heartbeat(sequence: u64, reply: bool) -> Vec<u8> {
    event(HEARTBEAT, &Heartbeat { sequence, reply }.encode_to_vec())
}

/// An agent of a later version, made of bytes: a link, and the control call on it.
struct Later {
    say: mpsc::Sender<Bytes>,
    hear: mpsc::Receiver<hub_event::Event>,
    /// Why the link ended.
    ended: AbortOnDropHandle<String>,
}

/// The agent's ends of the control call.
type Ends = (mpsc::Receiver<Bytes>, mpsc::Sender<hub_event::Event>);

impl Later {
    async fn dial(world: &World, hub: SocketAddr) -> Self {
        let tls = world.agent_credentials("site-a").client_config().unwrap();
        let dialer = Dialer::new(tls, Tuning::default()).unwrap();
        let link = soon(dialer.dial(hub, "127.0.0.1")).await.unwrap();
        let (say, said) = mpsc::channel(QUEUE);
        let (heard, hear) = mpsc::channel(QUEUE);
        let ends = Arc::new(Mutex::new(Some((said, heard))));
        let served = async move {
            let answer = move |request: Request<Body>| {
                let attach = request.uri().path() == "/adit.tunnel.v1.Agent/Attach";
                let ends = attach.then(|| ends.lock().unwrap().take().expect("one Attach"));
                async move {
                    Ok::<_, Reset>(match ends {
                        Some(ends) => attached(request.into_body(), ends),
                        None => empty_answer(),
                    })
                }
            };
            link.serve(answer).await.to_string()
        };
        Self {
            say,
            hear,
            ended: AbortOnDropHandle::new(tokio::spawn(served)),
        }
    }

    async fn says(&self, event: &[u8]) {
        self.say.send(message(event)).await.unwrap();
    }

    async fn hears(&mut self) -> hub_event::Event {
        soon(self.hear.recv()).await.expect("the link ended")
    }

    /// The next heartbeat of the hub: its own, or the answer to one of the agent.
    async fn hears_heartbeat(&mut self) -> Heartbeat {
        loop {
            if let hub_event::Event::Heartbeat(heartbeat) = self.hears().await {
                return heartbeat;
            }
        }
    }
}

/// Answers the control call, with headers of a later version.
fn attached(hub: Body, (said, heard): Ends) -> Response<Body> {
    let listening = AbortOnDropHandle::new(tokio::spawn(listen(hub, heard)));
    let events = stream::unfold((said, listening), |(mut said, listening)| async {
        let event = said.recv().await?;
        Some((Ok(Frame::data(event)), (said, listening)))
    });
    Response::builder()
        .header("content-type", "application/grpc+proto")
        .header("adit-later", "1")
        .header("adit-later-bin", "AQID")
        .header("adit-error-detail", "none")
        .header("grpc-accept-encoding", "identity,later")
        .body(Body::new(StreamBody::new(events.chain(stream::pending()))))
        .unwrap()
}

/// Hears what the hub says until the link ends.
async fn listen(mut hub: Body, heard: mpsc::Sender<hub_event::Event>) {
    let mut bytes = BytesMut::new();
    while let Some(Ok(frame)) = hub.frame().await {
        bytes.extend_from_slice(&frame.into_data().unwrap());
        while let Some(length) = bytes.get(1..5) {
            let end = 5 + u32::from_be_bytes(length.try_into().unwrap()) as usize;
            if bytes.len() < end {
                break;
            }
            let event = HubEvent::decode(&bytes.split_to(end)[5..]).unwrap();
            if heard.send(event.event.unwrap()).await.is_err() {
                return;
            }
        }
    }
}

fn empty_answer() -> Response<Body> {
    let trailers = std::future::ready(Some(Ok(status("0"))));
    let body = Full::new(message(b"")).with_trailers(trailers);
    head().map(|()| Body::new(body.map_err(|never| match never {})))
}

#[tokio::test]
async fn a_hub_takes_an_agent_that_says_more_than_it_knows() {
    let world = World::new();
    let hub = HubProcess::start(&world, &["--reconnect-grace", "50ms"]).await;
    let mut agent = Later::dial(&world, hub.agents).await;
    agent.says(&hello(false)).await;
    let mut operator = Operator::at(hub.admin).await;
    let links = operator.sees(|links| links.len() == 1).await;
    let link = &links[0];
    assert_eq!((link.agent.as_str(), link.version.as_str()), ("site-a", "99.0.0"));
    assert_eq!(link.labels["region"], "eu");
    assert_eq!(link.services, ["a.B"]);
    assert_eq!((link.state(), link.down), (State::Ready, false));

    // Two events that this hub does not know, one by the next number that is free, and one that is nothing.
    agent.says(&event(6, &inner(1, b"later"))).await;
    agent.says(&event(99, &inner(1, b"later"))).await;
    agent.says(&[]).await;
    agent
        .says(&event(SERVICES_CHANGED, &inner(1, &services(&["a.B", "c.D"]))))
        .await;
    let not_serving = Health {
        down: false,
        not_serving: vec!["c.D".to_owned()],
    };
    agent
        .says(&event(HEALTH_CHANGED, &inner(1, &more_than(&not_serving))))
        .await;
    // The hub answers this one, and by then it has acted on all that came before.
    agent.says(&heartbeat(77, false)).await;
    let answer = agent.hears_heartbeat().await;
    assert_eq!((answer.sequence, answer.reply), (77, true));
    let links = operator.sees(|links| links[0].services.len() == 2).await;
    assert_eq!(links[0].services, ["a.B", "c.D"]);
    assert_eq!(links[0].not_serving, ["c.D"]);

    let client = RawClient::connect(hub.clients).await;
    for path in ["/a.B/C", "/c.D/E"] {
        let by_label = request(path).header("adit-select", "region=eu").body(());
        let by_service = request(path).body(());
        for call in [to("site-a", path), by_label.unwrap(), by_service.unwrap()] {
            client.get(call).await.succeeded();
        }
    }
    for word in ["WARN", "ERROR", "refused", "an agent's link ended"] {
        assert_eq!(hub.process.said(&[word]), 0, "{word}");
    }

    // Whoever wants the id alone is refused, because the hub asks this one whether it lives, and understands its answer.
    let other = Later::dial(&world, hub.agents).await;
    other.says(&hello(true)).await;
    let asked = agent.hears_heartbeat().await;
    assert!(!asked.reply);
    agent.says(&heartbeat(asked.sequence, true)).await;
    let refused = soon(other.ended).await.unwrap();
    assert!(refused.contains("exclusive"), "{refused}");

    agent.says(&event(DRAIN, &[])).await;
    operator.sees(|links| links[0].state() == State::Draining).await;
    let reply = client.get_at("site-a", "/a.B/C").await;
    assert_eq!(reply.told()["adit-error"], "draining", "{reply:?}");
    assert!(!agent.ended.is_finished());
}
