//! For tests: a schema compiled on the spot, and a server of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

pub(crate) mod messages;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt as _, stream};
use http_body_util::BodyExt as _;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, Value};
use prost_types::FileDescriptorSet;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower_service::Service;

use crate::dynamic::DynamicCodec;

/// `kitchen.proto` and what it imports.
pub(crate) static FILES: LazyLock<FileDescriptorSet> = LazyLock::new(|| {
    protox::compile(
        ["kitchen.proto"],
        [concat!(env!("CARGO_MANIFEST_DIR"), "/src/testing")],
    )
    .unwrap()
});

pub(crate) static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut files = crate::schema::Files::default();
    for file in &FILES.file {
        files.add(&prost::Message::encode_to_vec(file)).unwrap();
    }
    // Of an edition, and so encoded by another compiler.
    let vault: &[u8] = include_bytes!("testing/vault.binpb");
    let set = <crate::schema::DescriptorSet as prost::Message>::decode(vault).unwrap();
    for file in &set.file {
        files.add(file).unwrap();
    }
    files.into_pool().unwrap()
});

pub(crate) fn message(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(name).unwrap()
}

pub(crate) fn dish(name: &str, count: u64) -> DynamicMessage {
    let mut dish = DynamicMessage::new(message("kitchen.Dish"));
    dish.set_field_by_name("name", Value::String(name.to_owned()));
    dish.set_field_by_name("count", Value::U64(count));
    dish
}

/// Which reflection a server offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offers {
    V1,
    V1Alpha,
    Nothing,
}

/// What the server has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Path and headers of each request, in order; reflection's not included.
    pub(crate) requests: Mutex<Vec<http::HeaderMap>>,
    /// How often a request was found to be reset: by its body, or, where the server noticed before
    /// the body was read again, by the end of the call of `Collect`.
    pub(crate) resets: AtomicUsize,
    /// How often reflection was called.
    pub(crate) reflections: AtomicUsize,
}

/// A server of `kitchen.Kitchen`; dropped, it is gone.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TestServer {
    pub(crate) async fn start(offers: Offers) -> Self {
        Self::serve(offers, None).await
    }

    pub(crate) async fn start_tls(tls: rustls::ServerConfig) -> Self {
        Self::serve(Offers::V1, Some(TlsAcceptor::from(Arc::new(tls)))).await
    }

    async fn serve(offers: Offers, tls: Option<TlsAcceptor>) -> Self {
        let seen = Arc::new(Seen::default());
        let mut routes = Routes::builder();
        routes.add_service(Kitchen { seen: seen.clone() });
        let reflection =
            || tonic_reflection::server::Builder::configure().register_file_descriptor_set(FILES.clone());
        match offers {
            Offers::V1 => {
                routes.add_service(reflection().build_v1().unwrap());
            }
            Offers::V1Alpha => {
                routes.add_service(reflection().build_v1alpha().unwrap());
            }
            Offers::Nothing => {}
        }
        let service = TowerToHyperService::new(Watched {
            routes: routes.routes().prepare(),
            seen: seen.clone(),
        });

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, service) = (tls.clone(), service.clone());
                connections.spawn(async move {
                    // How a connection ends is for the client's side of the test to say.
                    let http = http2::Builder::new(TokioExecutor::new());
                    match tls {
                        None => {
                            let _ended = http.serve_connection(TokioIo::new(stream), service).await;
                        }
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                let _ended = http.serve_connection(TokioIo::new(stream), service).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, seen, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Counts the calls of reflection.
#[derive(Clone)]
struct Watched {
    routes: Routes,
    seen: Arc<Seen>,
}

impl Service<http::Request<hyper::body::Incoming>> for Watched {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = <Routes as Service<http::Request<hyper::body::Incoming>>>::Future;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<hyper::body::Incoming>) -> Self::Future {
        if request.uri().path().starts_with("/grpc.reflection.") {
            self.seen.reflections.fetch_add(1, Ordering::SeqCst);
        }
        self.routes.call(request)
    }
}

#[derive(Clone)]
struct Kitchen {
    seen: Arc<Seen>,
}

impl NamedService for Kitchen {
    const NAME: &'static str = "kitchen.Kitchen";
}

impl Service<http::Request<Body>> for Kitchen {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.seen.requests.lock().unwrap().push(request.headers().clone());
        let name = request.uri().path().rsplit('/').next().unwrap().to_owned();
        let service = POOL.get_service_by_name(Self::NAME).unwrap();
        let Some(method) = service.methods().find(|method| method.name() == name) else {
            return Box::pin(async { Ok(Status::unimplemented("").into_http()) });
        };
        let seen = self.seen.clone();
        let request = request.map(|body| {
            // Watched here, because tonic shows a cancelled stream to its service as one that ended.
            Body::new(body.map_err(move |error| {
                seen.resets.fetch_add(1, Ordering::SeqCst);
                error
            }))
        });
        let handler = Handler {
            method: method.clone(),
            seen: self.seen.clone(),
        };
        Box::pin(async move {
            Ok(Grpc::new(DynamicCodec::new(method.input()))
                .streaming(handler, request)
                .await)
        })
    }
}

struct Handler {
    method: MethodDescriptor,
    seen: Arc<Seen>,
}

type Dishes = Pin<Box<dyn Stream<Item = Result<DynamicMessage, Status>> + Send>>;

impl StreamingService<DynamicMessage> for Handler {
    type Response = DynamicMessage;
    type ResponseStream = Dishes;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Dishes>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<DynamicMessage>>) -> Self::Future {
        let mut orders = request.into_inner();
        let seen = self.seen.clone();
        let name = self.method.name().to_owned();
        Box::pin(async move {
            let dishes: Dishes = match name.as_str() {
                "Chat" => Box::pin(orders.map(|order| order.and_then(|order| cooked(&order)))),
                "Collect" => {
                    let mut names = Vec::new();
                    let unfinished = Unfinished(seen.clone());
                    while let Some(order) = orders.message().await? {
                        names.push(field(&order));
                    }
                    std::mem::forget(unfinished);
                    Box::pin(stream::iter([Ok(dish(&names.join(","), names.len() as u64))]))
                }
                _ => {
                    let order = orders
                        .message()
                        .await?
                        .ok_or_else(|| Status::internal("no order"))?;
                    if field(&order) == "never" {
                        std::future::pending::<()>().await;
                    }
                    let first = cooked(&order)?;
                    let count = order.get_field_by_name("count").unwrap().as_u64().unwrap();
                    let served = if name == "Cook" { 1 } else { count };
                    let then =
                        (field(&order) == "burnt").then(|| Err(Status::data_loss("burnt in the middle")));
                    Box::pin(stream::iter(
                        (0..served).map(move |_| Ok(first.clone())).chain(then),
                    ))
                }
            };
            Ok(Response::new(dishes))
        })
    }
}

/// A call that the server drops, as it does when the client resets the stream, counts as reset.
struct Unfinished(Arc<Seen>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.resets.fetch_add(1, Ordering::SeqCst);
    }
}

fn field(order: &DynamicMessage) -> String {
    order
        .get_field_by_name("name")
        .unwrap()
        .as_str()
        .unwrap()
        .to_owned()
}

/// What becomes of an order. Some names are orders to fail.
fn cooked(order: &DynamicMessage) -> Result<DynamicMessage, Status> {
    match field(order).as_str() {
        "nothing" => Err(Status::with_error_details(
            tonic::Code::NotFound,
            "no such dish",
            ErrorDetails::with_error_info("NO_DISH", "kitchen", []),
        )),
        "offline" => {
            let mut status = Status::unavailable("agent site-7 is not connected");
            status
                .metadata_mut()
                .insert("adit-error", "agent-offline".parse().unwrap());
            status
                .metadata_mut()
                .insert("adit-delivered", "no".parse().unwrap());
            Err(status)
        }
        name => {
            let mut answer = dish(name, order.get_field_by_name("count").unwrap().as_u64().unwrap());
            if name == "garnished" {
                let any = prost_types::Any {
                    type_url: "type.googleapis.com/acme.Leaf".into(),
                    value: vec![8, 1],
                };
                let mut garnish =
                    DynamicMessage::new(POOL.get_message_by_name("google.protobuf.Any").unwrap());
                garnish.transcode_from(&any).unwrap();
                answer.set_field_by_name("garnish", Value::Message(garnish));
            }
            Ok(answer)
        }
    }
}
