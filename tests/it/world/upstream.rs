//! Upstreams that do what no gRPC library would: handlers of bare HTTP/2 calls.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// A server that ends, with its connections, when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

/// One call.
pub(crate) struct Exchange {
    pub(crate) request: Request<RecvStream>,
    pub(crate) respond: SendResponse<Bytes>,
}

/// What answers calls.
pub(crate) type Handler = Arc<dyn Fn(Exchange) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl Server {
    /// Answers each call with `handler`.
    pub(crate) async fn start<F, R>(handler: F) -> Self
    where
        F: Fn(Exchange) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self::start_on(super::ANY_PORT, handler).await
    }

    /// The same on one address.
    pub(crate) async fn start_on<F, R>(address: SocketAddr, handler: F) -> Self
    where
        F: Fn(Exchange) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |exchange| Box::pin(handler(exchange)));
        let listener = TcpListener::bind(address).await.unwrap();
        Self::accept(listener, move |stream| serve(stream, Arc::clone(&handler)))
    }

    /// Hands each connection to `handler`.
    pub(crate) fn accept<F, R>(listener: TcpListener, handler: F) -> Self
    where
        F: Fn(TcpStream) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                connections.spawn(handler(stream));
            }
        });
        Self {
            address,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Answers each call with what it was sent.
    pub(crate) async fn echo() -> Self {
        Self::start(echo).await
    }

    /// The address as `--upstream` takes it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Serves one connection until it ends; its calls end with it.
pub(crate) async fn serve(io: impl AsyncRead + AsyncWrite + Unpin, handler: Handler) {
    serve_until(io, handler, std::future::pending()).await;
}

/// The same. When `old` is ready the client is told GOAWAY, and its calls go on.
pub(crate) async fn serve_until(
    io: impl AsyncRead + AsyncWrite + Unpin,
    handler: Handler,
    old: impl Future<Output = ()>,
) {
    let mut calls = JoinSet::new();
    let mut builder = Builder::new();
    builder
        .max_header_list_size(1 << 20)
        // As hyper and so tonic have it. h2 allows half of it for the cost of small messages that are not read yet, and
        // of its own default of 64 KiB a few dozen calls at once would leave nothing.
        .initial_connection_window_size(1 << 20);
    let Ok(mut connection) = builder.handshake(io).await else {
        return;
    };
    let mut old = std::pin::pin!(old);
    let mut told = false;
    loop {
        let call = tokio::select! {
            () = &mut old, if !told => {
                connection.graceful_shutdown();
                told = true;
                continue;
            }
            call = connection.accept() => call,
        };
        let Some(call) = call else { return };
        match call {
            // It has no health service. Agents ask, and the test's handler is for the test's calls.
            Ok((request, mut respond)) if request.uri().path().starts_with("/grpc.health.") => {
                let mut unimplemented = head();
                unimplemented.headers_mut().extend(status("12"));
                let _ = respond.send_response(unimplemented, true);
            }
            Ok((request, respond)) => drop(calls.spawn(handler(Exchange { request, respond }))),
            // An agent that is dropped leaves answers unread, so that its connections are reset.
            Err(error) if error.is_io() => return,
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Sends back what comes, as it comes, and then status 0.
pub(crate) async fn echo(mut exchange: Exchange) {
    let mut send = exchange.respond.send_response(head(), false).unwrap();
    let body = exchange.request.body_mut();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        if !send_all(&mut send, data).await {
            return;
        }
    }
    let _ = send.send_trailers(status("0"));
}

/// Answers a call at once with `data` and status 0.
pub(crate) async fn answer(mut exchange: Exchange, data: Bytes) {
    let mut send = exchange.respond.send_response(head(), false).unwrap();
    if send_all(&mut send, data).await {
        let _ = send.send_trailers(status("0"));
    }
}

/// Sends as much as the other end takes at a time, and says whether it took all.
pub(crate) async fn send_all(send: &mut SendStream<Bytes>, mut data: Bytes) -> bool {
    while !data.is_empty() {
        send.reserve_capacity(data.len());
        match std::future::poll_fn(|cx| send.poll_capacity(cx)).await {
            Some(Ok(room)) => {
                let chunk = data.split_to(room.min(data.len()));
                if send.send_data(chunk, false).is_err() {
                    return false;
                }
            }
            _ => return false,
        }
    }
    true
}

/// A gRPC response's head.
pub(crate) fn head() -> Response<()> {
    Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .unwrap()
}

/// Trailers with a status.
pub(crate) fn status(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static(code),
    )])
}

/// The code that the agent resets a call with, waited for.
pub(crate) async fn reset(send: &mut SendStream<Bytes>) -> Option<h2::Reason> {
    std::future::poll_fn(|cx| send.poll_reset(cx)).await.ok()
}
