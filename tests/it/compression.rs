//! Compressed calls: client and upstream agree on it between themselves, and nobody on the way looks.

use std::sync::{Arc, Mutex};

use adit_examples::route_guide::pb::RouteNote;
use adit_examples::route_guide::{self, RouteGuideClient};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tonic::codec::CompressionEncoding;
use tonic::transport::server::TcpIncoming;

use crate::world::raw::{RawClient, Reply, message, to};
use crate::world::sample::{self, a_place, everywhere, request};
use crate::world::upstream::{Exchange, Server, head, send_all, status};
use crate::world::{ANY_PORT, Agent, Hub, World, soon};

const GZIP: CompressionEncoding = CompressionEncoding::Gzip;

/// A message with the flag that says that it is compressed.
fn compressed(data: &[u8]) -> Bytes {
    let mut bytes = message(data).to_vec();
    bytes[0] = 1;
    bytes.into()
}

/// Fields of a request or a response that are about compression.
fn about_compression(metadata: &HeaderMap) -> Vec<(String, HeaderValue)> {
    let about = metadata
        .iter()
        .filter(|(name, _)| name.as_str().contains("encoding"));
    about
        .map(|(name, value)| (name.to_string(), value.clone()))
        .collect()
}

/// What an upstream has seen of a request.
#[derive(Clone, Debug, Default)]
struct Seen {
    metadata: HeaderMap,
    data: Vec<u8>,
}

/// A hub and an agent `site-a` before an upstream that sends back what it is sent, bytes and words on compression.
struct Mirror {
    hub: Hub,
    seen: Arc<Mutex<Seen>>,
    _agent: Agent,
    _server: Server,
    _world: World,
}

impl Mirror {
    async fn start() -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let server = Server::start({
            let seen = Arc::clone(&seen);
            move |exchange| reflect(exchange, Arc::clone(&seen))
        })
        .await;
        let world = World::new();
        let hub = world.hub().await;
        let agent = world.agent_with(hub.agents, "site-a", &[&server.url()], |agent| {
            agent.advertise("a.B")
        });
        Self {
            hub,
            seen,
            _agent: agent,
            _server: server,
            _world: world,
        }
    }

    fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }
}

async fn reflect(mut exchange: Exchange, seen: Arc<Mutex<Seen>>) {
    let metadata = exchange.request.headers().clone();
    let mut response = head();
    for (name, value) in &metadata {
        if name.as_str().contains("encoding") {
            response.headers_mut().append(name, value.clone());
        }
    }
    let mut send = exchange.respond.send_response(response, false).unwrap();
    let mut data = Vec::new();
    let body = exchange.request.body_mut();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        data.extend_from_slice(&chunk);
        assert!(send_all(&mut send, chunk).await);
    }
    *seen.lock().unwrap() = Seen { metadata, data };
    send.send_trailers(status("0")).unwrap();
}

#[tokio::test]
async fn the_flag_of_each_message_and_what_it_holds_are_untouched() {
    let mirror = Mirror::start().await;
    let client = RawClient::connect(mirror.hub.clients).await;
    // Compressed and not, in one stream; empty ones; and bytes that no method of compression has made, which whoever
    // looks at them would stumble over. The last flag is none that gRPC knows.
    let mut reserved = message(b"reserved").to_vec();
    reserved[0] = 0xfe;
    let messages = [
        compressed(b"\x1f\x8b\x08 not gzip after all"),
        message(b"plain"),
        compressed(b""),
        message(b""),
        compressed(&[0xff; 40_000]),
        reserved.into(),
    ];
    for encoding in ["gzip", "zstd", "snappy", "my-own.v2"] {
        let mut request = to("site-a", "/a.B/C");
        let fields = request.headers_mut();
        fields.insert("grpc-encoding", HeaderValue::from_static(encoding));
        let accepted = HeaderValue::from_static("identity,deflate, gzip ,my-own.v2");
        fields.insert("grpc-accept-encoding", accepted);
        fields.append("grpc-accept-encoding", HeaderValue::from_static("br"));
        let about = about_compression(fields);
        let reply = client.call(request, messages.concat()).await.unwrap();
        let seen = mirror.seen();
        assert_eq!(about_compression(&seen.metadata), about);
        assert!(seen.data == messages.concat(), "{seen:?}");
        assert_eq!(about_compression(&reply.head.headers), about);
        assert!(reply.data == messages.concat(), "{reply:?}");
        assert_eq!(reply.told()["grpc-status"], "0");
    }
}

#[tokio::test]
async fn a_stream_that_is_compressed_as_a_whole_passes_as_it_is() {
    let mirror = Mirror::start().await;
    let client = RawClient::connect(mirror.hub.clients).await;
    // There are no messages in it that anybody on the way could find: their lengths are compressed too.
    let whole: Vec<u8> = [0x1f, 0x8b, 0x08, 0xff]
        .into_iter()
        .chain((0..=255).cycle().take(100_000))
        .collect();
    for encoding in ["gzip", "stream/gzip"] {
        let mut request = to("site-a", "/a.B/C");
        let fields = request.headers_mut();
        fields.insert("content-encoding", HeaderValue::from_static(encoding));
        let accepted = HeaderValue::from_static("identity,gzip");
        fields.insert("accept-encoding", accepted.clone());
        fields.insert("grpc-accept-encoding", accepted);
        let about = about_compression(fields);
        let (response, mut send) = client.send(request, false).await;
        let upload = async {
            for piece in whole.chunks(7_001) {
                assert!(send_all(&mut send, Bytes::copy_from_slice(piece)).await);
            }
            send.send_data(Bytes::new(), true).unwrap();
        };
        let download = async { Reply::read(response.await.unwrap().into_parts()).await };
        let (reply, ()) = soon(async { tokio::join!(download, upload) }).await;
        let reply = reply.unwrap();
        assert!(mirror.seen().data == whole);
        assert!(reply.data == whole);
        assert_eq!(about_compression(&mirror.seen().metadata), about);
        assert_eq!(about_compression(&reply.head.headers), about);
    }
}

/// A client that compresses what it sends, and takes the same.
fn compressing(hub: &Hub) -> RouteGuideClient<tonic::transport::Channel> {
    sample::client(hub.clients)
        .send_compressed(GZIP)
        .accept_compressed(GZIP)
}

#[tokio::test]
async fn what_a_grpc_library_compresses_arrives_compressed() {
    let mirror = Mirror::start().await;
    let notes = ["all of it the same ".repeat(500), "short".to_owned()].map(|message| RouteNote {
        location: a_place().location,
        message,
    });
    let mut client = compressing(&mirror.hub);
    let said = futures_util::stream::iter(notes.clone());
    let chat = client.route_chat(request(Some("site-a"), said));
    let mut heard = soon(chat).await.unwrap().into_inner();
    for note in &notes {
        assert_eq!(soon(heard.message()).await.unwrap().as_ref(), Some(note));
    }
    assert_eq!(soon(heard.message()).await.unwrap(), None);
    let seen = mirror.seen();
    assert_eq!(seen.metadata["grpc-encoding"], "gzip");
    assert_eq!(seen.data[0], 1, "the message is flagged");
    assert!(seen.data.len() < 1000, "{} bytes", seen.data.len());
}

#[tokio::test]
async fn a_grpc_library_s_client_and_server_compress_both_ways() {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = route_guide::service()
        .accept_compressed(GZIP)
        .send_compressed(GZIP);
    let serve = tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
    let _server = AbortOnDropHandle::new(tokio::spawn(serve));
    let world = World::new();
    let hub = world.hub().await;
    let _agent = world.agent_with(hub.agents, "site-a", &[&format!("http://{address}")], |agent| {
        agent.advertise("routeguide.RouteGuide")
    });
    let mut client = compressing(&hub);
    let listed = client.list_features(request(Some("site-a"), everywhere()));
    let listed = soon(listed).await.unwrap();
    assert_eq!(listed.metadata().get("grpc-encoding").unwrap(), "gzip");
    let mut listed = listed.into_inner();
    let mut names = Vec::new();
    while let Some(feature) = soon(listed.message()).await.unwrap() {
        names.push(feature.name);
    }
    assert!(names.contains(&a_place().name), "{} names", names.len());

    // The same in bytes: what the server has compressed comes flagged to a client that takes it, and only to it.
    let raw = RawClient::connect(hub.clients).await;
    for (accepted, flag) in [("gzip,identity", 1), ("identity", 0)] {
        let mut call = to("site-a", "/routeguide.RouteGuide/GetFeature");
        let accepted = HeaderValue::from_static(accepted);
        call.headers_mut().insert("grpc-accept-encoding", accepted);
        let reply = raw.get(call).await;
        assert_eq!(reply.data[0], flag, "{reply:?}");
        reply.succeeded();
    }
    // A method of compression that the server does not know is refused in the server's words.
    let unknown: Request<()> = {
        let mut call = to("site-a", "/routeguide.RouteGuide/GetFeature");
        let encoding = HeaderValue::from_static("my-own.v2");
        call.headers_mut().insert("grpc-encoding", encoding);
        call
    };
    let reply = raw.call(unknown, compressed(b"?")).await.unwrap();
    assert_eq!(reply.told()["grpc-status"], "12", "{reply:?}");
    assert_eq!(reply.told().get("adit-error"), None, "{reply:?}");
}
