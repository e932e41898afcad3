//! HTTP/2 servers to forward to, and calls to forward.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use adit_transport::{Body, BodyError};
use bytes::Bytes;
use futures_util::stream;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::upstream::{Upstream, UpstreamAddr, UpstreamTls};

/// A server that ends with the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

pub(crate) type Exchange = (Request<RecvStream>, SendResponse<Bytes>);
type Handler = Arc<dyn Fn(Exchange) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl Server {
    /// Answers each call with `handler`, on as many connections as come.
    pub(crate) async fn start<F, R>(builder: Builder, handler: F) -> Self
    where
        F: Fn(Exchange) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |exchange| Box::pin(handler(exchange)));
        Self::accept(move |stream| {
            let (builder, handler) = (builder.clone(), Arc::clone(&handler));
            async move { serve(stream, &builder, &handler).await }
        })
        .await
    }

    /// Hands each connection to `handler`.
    pub(crate) async fn accept<F, R>(handler: F) -> Self
    where
        F: Fn(tokio::net::TcpStream) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                tasks.spawn(handler(stream));
            }
        });
        Self {
            address,
            connections,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Connections that were accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn upstream(&self) -> Upstream {
        upstream(&format!("http://{}", self.address))
    }
}

/// Serves one connection until it ends.
pub(crate) async fn serve<T>(io: T, builder: &Builder, handler: &Handler)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut tasks = JoinSet::new();
    let Ok(mut connection) = builder.handshake(io).await else {
        return;
    };
    while let Some(Ok(exchange)) = connection.accept().await {
        tasks.spawn(handler(exchange));
    }
}

/// The upstream at an address.
pub(crate) fn upstream(address: &str) -> Upstream {
    let UpstreamAddr { target, .. } = address.parse().unwrap();
    Upstream::at(target, &UpstreamTls::default()).unwrap()
}

/// A request of `path` with nothing in it.
pub(crate) fn get(path: &str) -> Request<Body> {
    request(path, Body::empty())
}

pub(crate) fn request(path: &str, body: Body) -> Request<Body> {
    Request::post(format!("https://client.example{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap()
}

pub(crate) fn full(data: impl Into<Bytes>) -> Body {
    Body::new(Full::new(data.into()).map_err(|never| match never {}))
}

/// A body that is fed by the test, and ends when its sender is dropped.
pub(crate) fn streamed() -> (mpsc::Sender<Result<Frame<Bytes>, BodyError>>, Body) {
    let (sender, receiver) = mpsc::channel(4);
    let frames = stream::unfold(receiver, |mut receiver| async {
        Some((receiver.recv().await?, receiver))
    });
    (sender, Body::new(StreamBody::new(Box::pin(frames))))
}

/// A gRPC response's head.
pub(crate) fn head() -> Response<()> {
    Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .unwrap()
}

pub(crate) fn trailers() -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), "0".parse().unwrap())])
}

/// Answers a call at once with `data` and status 0.
pub(crate) async fn answer((_, mut respond): Exchange, data: &'static str) {
    let mut send = respond.send_response(head(), false).unwrap();
    send.send_data(Bytes::from_static(data.as_bytes()), false)
        .unwrap();
    send.send_trailers(trailers()).unwrap();
}

/// Everything of a body.
pub(crate) async fn collect(body: Body) -> Result<(Bytes, HeaderMap), BodyError> {
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok((collected.to_bytes(), trailers))
}

/// Ends a test that would wait for ever.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("it takes too long")
}
