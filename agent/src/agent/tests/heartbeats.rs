//! Signs of life, and what a later version may say.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use adit_proto::tunnel::v1::agent_event::Event;
use adit_proto::tunnel::v1::{AgentEvent, Heartbeat, hub_event};
use adit_transport::Body;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use http::Request;
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message as _;
use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

use super::hub::{ANY_PORT, Running, World, at_once, call, soon};

#[tokio::test]
async fn a_heartbeat_comes_back_as_it_was_sent() {
    let world = World::new();
    let hub = world.hub();
    let _agent = Running::start(world.agent(&[hub.address()], at_once));
    let mut attached = hub.attach().await;
    for sequence in [7, 0, u64::MAX] {
        let heartbeat = Heartbeat {
            sequence,
            reply: false,
        };
        attached.say(hub_event::Event::Heartbeat(heartbeat)).await;
        let echo = soon(attached.listen()).await;
        let expected = Heartbeat {
            sequence,
            reply: true,
        };
        assert_eq!(echo, Some(Event::Heartbeat(expected)));
    }
}

#[tokio::test]
async fn a_hub_that_falls_silent_under_a_call_is_probed_given_up_and_dialled_again() {
    let world = World::new();
    let hub = world.hub();
    let path = Path::to(hub.address()).await;
    let never = |path: String| -> futures_util::future::BoxFuture<'static, _> {
        match path.as_str() {
            "/a.B/Never" => Box::pin(std::future::pending()),
            _ => at_once(path),
        }
    };
    let _agent = Running::start(world.agent(&[path.address], never));
    let mut attached = hub.attach().await;
    // The first heartbeat comes after the hello: it asks whether the hub sends calls by now.
    let Event::Heartbeat(first) = attached.hear().await else {
        panic!("no heartbeat");
    };
    assert!(!first.reply);
    let reply = Heartbeat { reply: true, ..first };
    attached.say(hub_event::Event::Heartbeat(reply)).await;

    let link = attached.link.clone();
    let running = tokio::spawn(async move { call(&link, "Never").await });
    soon(call(&attached.link, "C")).await.unwrap();
    // A call runs, and nothing is heard: the agent asks.
    let Event::Heartbeat(probe) = attached.hear().await else {
        panic!("no heartbeat");
    };
    assert!(!probe.reply && probe.sequence != first.sequence);
    let reply = Heartbeat { reply: true, ..probe };
    attached.say(hub_event::Event::Heartbeat(reply)).await;

    path.cut();
    let cut = Instant::now();
    let again = hub.attach().await;
    let found = cut.elapsed();
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(6)).contains(&found),
        "found dead after {found:?}"
    );
    assert_eq!((again.hello.slot, again.hello.generation), (0, 2));
    running.abort();
}

/// A UDP port on the way to a hub. Each agent's socket has a flow of its own.
struct Path {
    address: SocketAddr,
    /// Flows so far pass nothing any more; those to come do.
    cuts: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Path {
    async fn to(hub: SocketAddr) -> Self {
        let near = Arc::new(UdpSocket::bind(ANY_PORT).await.unwrap());
        let address = near.local_addr().unwrap();
        let cuts = Arc::new(AtomicUsize::new(0));
        let task = {
            let cuts = Arc::clone(&cuts);
            async move {
                let mut flows = HashMap::new();
                let mut packet = vec![0; 2048];
                loop {
                    let (length, agent) = near.recv_from(&mut packet).await.unwrap();
                    let flow: &Flow = match flows.entry(agent) {
                        Entry::Occupied(flow) => flow.into_mut(),
                        Entry::Vacant(new) => {
                            new.insert(Flow::open(agent, hub, Arc::clone(&near), Arc::clone(&cuts)).await)
                        }
                    };
                    if flow.since == cuts.load(Ordering::Relaxed) {
                        flow.far.send(&packet[..length]).await.unwrap();
                    }
                }
            }
        };
        Self {
            address,
            cuts,
            _task: AbortOnDropHandle::new(tokio::spawn(task)),
        }
    }

    fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::Relaxed);
    }
}

struct Flow {
    far: Arc<UdpSocket>,
    since: usize,
    _back: AbortOnDropHandle<()>,
}

impl Flow {
    async fn open(agent: SocketAddr, hub: SocketAddr, near: Arc<UdpSocket>, cuts: Arc<AtomicUsize>) -> Self {
        let far = Arc::new(UdpSocket::bind(ANY_PORT).await.unwrap());
        far.connect(hub).await.unwrap();
        let since = cuts.load(Ordering::Relaxed);
        let back = {
            let far = Arc::clone(&far);
            async move {
                let mut packet = vec![0; 2048];
                loop {
                    let length = far.recv(&mut packet).await.unwrap();
                    if since == cuts.load(Ordering::Relaxed) {
                        near.send_to(&packet[..length], agent).await.unwrap();
                    }
                }
            }
        };
        Self {
            far,
            since,
            _back: AbortOnDropHandle::new(tokio::spawn(back)),
        }
    }
}

#[tokio::test]
async fn what_a_later_hub_says_is_ignored() {
    let world = World::new();
    let hub = world.hub();
    let _agent = Running::start(world.agent(&[hub.address()], at_once));
    let link = hub.accept().await;
    let said = [
        // Field 99, an event that there is none of: a message with one string.
        &[0x9a, 0x06, 0x04, 0x0a, 0x02, b'h', b'i'][..],
        // A welcome with a version, and with a field 15 of fixed 64 bits.
        &[0x0a, 0x0d, 0x0a, 0x02, b'9', b'9', 0x79, 1, 2, 3, 4, 5, 6, 7, 8],
        // No event at all.
        &[],
        // A drain event with a field 1: a time, say. What is known of it counts.
        &[0x1a, 0x02, 0x08, 0x1e],
        // A heartbeat with the sequence 5, no reply, a field 3, and beside it a field 20 of the event.
        &[0x12, 0x04, 0x08, 0x05, 0x18, 0x01, 0xa0, 0x01, 0x2a],
    ];
    let messages: Vec<Bytes> = said
        .into_iter()
        .map(|message| {
            let mut framed = BytesMut::new();
            framed.put_u8(0);
            framed.put_u32(message.len().try_into().unwrap());
            framed.put_slice(message);
            framed.freeze()
        })
        .collect();
    let frames = stream::iter(messages).map(|message| Ok(http_body::Frame::data(message)));
    let request = Request::post("https://hub.adit/adit.tunnel.v1.Agent/Attach")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        // Headers of a later version, too.
        .header("adit-future", "1")
        .body(())
        .unwrap();
    let (head, ()) = request.into_parts();
    let body = Body::new(StreamBody::new(frames.chain(stream::pending())));
    let mut body = soon(link.call(&head, body)).await.unwrap().into_body();
    let mut events = Vec::new();
    while events.len() < 3 {
        let data = soon(body.frame()).await.unwrap().unwrap().into_data().unwrap();
        let mut data = data;
        while !data.is_empty() {
            let mut message = data.split_off(5);
            let length = u32::from_be_bytes(data[1..].try_into().unwrap());
            data = message.split_off(length.try_into().unwrap());
            events.push(AgentEvent::decode(message).unwrap().event.unwrap());
        }
    }
    assert!(matches!(events[0], Event::Hello(_)), "{events:?}");
    let echo = Heartbeat {
        sequence: 5,
        reply: true,
    };
    assert!(events.contains(&Event::Heartbeat(echo)), "{events:?}");
    // The drain was understood: another link comes.
    hub.attach().await;
    soon(call(&link, "C")).await.unwrap();
}
