//! One unary call in memory, without a socket anywhere: what the tunnel costs a call in processor time.
//!
//! tonic's client and server are at the two ends, in one thread. Between them is nothing, then a link on a pipe, then a
//! whole hub's way of a call and that link. The link is HTTP/2, as the carrier `tls` has it, without TLS: QUIC needs sockets
//! (the bench `calls` has them).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench fails by panicking"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use adit_agent::Upstream;
use adit_bench::echo::pb::Payload;
use adit_bench::echo::pb::echo_client::EchoClient;
use adit_bench::echo::{self, SERVICE_NAME};
use adit_hub::bench::Portless;
use adit_transport::{AgentLink, Body, BodyError, Code, HubLink, Tuning};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::{BoxFuture, join_all};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::runtime::Runtime;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::client::GrpcService;

/// Calls at a time.
const CONCURRENCY: [u64; 2] = [1, 64];

/// A message of the usual small size.
const DATA: Bytes = Bytes::from_static(&[b'a'; 100]);

/// What the two ends of a link may have under way: as much as a socket.
const PIPE: usize = 256 << 10;

/// Two ends of a link that are a task each, on one thread.
struct Link {
    hub: HubLink,
    _agent: AbortOnDropHandle<()>,
}

impl Link {
    /// A link to an agent that serves the echo.
    async fn new() -> Self {
        let tuning = Tuning::default();
        let (near, far) = tokio::io::duplex(PIPE);
        let nowhere: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let (hub, agent) = tokio::try_join!(
            HubLink::in_memory(near, nowhere, &tuning),
            AgentLink::in_memory(far, nowhere, &tuning)
        )
        .unwrap();
        let upstream = Upstream::service(echo::service());
        let serving = async move {
            agent
                .serve(move |request| {
                    let upstream = upstream.clone();
                    async move { upstream.call(request).await }
                })
                .await;
        };
        Self {
            hub,
            _agent: AbortOnDropHandle::new(tokio::spawn(serving)),
        }
    }
}

/// What tonic's client makes its calls on, always ready for another.
#[derive(Clone)]
struct Way<F>(F);

impl<F> GrpcService<tonic::body::Body> for Way<F>
where
    F: Fn(Request<tonic::body::Body>) -> BoxFuture<'static, Result<Response<tonic::body::Body>, Status>>,
{
    type ResponseBody = tonic::body::Body;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<tonic::body::Body>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        (self.0)(addressed(request))
    }
}

/// What a client's connection says of every call.
fn addressed(mut request: Request<tonic::body::Body>) -> Request<tonic::body::Body> {
    let path = request.uri().path_and_query().unwrap().as_str();
    let uri = format!("http://hub.example:9090{path}").parse().unwrap();
    *request.uri_mut() = uri;
    request
}

fn failed(error: impl std::fmt::Display) -> Status {
    Status::unknown(error.to_string())
}

async fn on_link(
    link: HubLink,
    request: Request<tonic::body::Body>,
) -> Result<Response<tonic::body::Body>, Status> {
    let (head, body) = request.into_parts();
    let body = Body::new(body.map_err(|_| BodyError::Reset(Code::REQUEST_CANCELLED)));
    let response = link.call(&head, body).await.map_err(failed)?;
    Ok(response.map(tonic::body::Body::new))
}

async fn through_hub(
    hub: Portless,
    request: Request<tonic::body::Body>,
) -> Result<Response<tonic::body::Body>, Status> {
    let response = hub.call(request).await.map_err(failed)?;
    Ok(response.map(tonic::body::Body::new))
}

fn memory(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let Link { hub: link, _agent } = runtime.block_on(Link::new());
    let hub = Portless::new(link.clone(), SERVICE_NAME).unwrap();

    measure(
        criterion,
        &runtime,
        "service alone",
        &EchoClient::new(echo::service()),
    );
    let way = Way(move |request| Box::pin(on_link(link.clone(), request)) as BoxFuture<'static, _>);
    measure(criterion, &runtime, "link", &EchoClient::new(way));
    let way = Way(move |request| Box::pin(through_hub(hub.clone(), request)) as BoxFuture<'static, _>);
    measure(criterion, &runtime, "hub and link", &EchoClient::new(way));
}

fn measure<S>(criterion: &mut Criterion, runtime: &Runtime, name: &str, client: &EchoClient<S>)
where
    S: GrpcService<tonic::body::Body, ResponseBody = tonic::body::Body, Error: std::fmt::Debug> + Clone,
    tonic::codegen::StdError: From<S::Error>,
{
    let mut group = criterion.benchmark_group("unary in memory");
    group.throughput(Throughput::Elements(1));
    for concurrency in CONCURRENCY {
        group.bench_function(format!("{name}, {concurrency} at a time"), |bencher| {
            bencher.iter_custom(|count| runtime.block_on(calls(client, count, concurrency)));
        });
    }
    group.finish();
}

/// Makes `count` calls, `concurrency` at a time, and says how long all of them took.
async fn calls<S>(client: &EchoClient<S>, count: u64, concurrency: u64) -> Duration
where
    S: GrpcService<tonic::body::Body, ResponseBody = tonic::body::Body> + Clone,
    tonic::codegen::StdError: From<S::Error>,
{
    let begun = Instant::now();
    join_all((0..concurrency).map(|index| {
        let mut client = client.clone();
        let share = count / concurrency + u64::from(index < count % concurrency);
        async move {
            for _ in 0..share {
                let answer = client.unary(Payload { data: DATA }).await.unwrap();
                assert_eq!(answer.get_ref().data, DATA);
            }
        }
    }))
    .await;
    begun.elapsed()
}

criterion_group!(benches, memory);
criterion_main!(benches);
