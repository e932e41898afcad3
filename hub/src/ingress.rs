//! The clients' port: HTTP/2 connections and what they may cost.

use std::io::{self, Cursor};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{Instrument as _, debug, info_span, warn};

use crate::call::{Calls, MAX_HEADER_SECTION};

/// Connections of clients at once. Further ones wait in the system's queue.
pub const MAX_CONNECTIONS: usize = 16_384;

/// Streams at once on one connection; a client with more calls waits, or opens another connection.
pub const MAX_STREAMS: u32 = 1024;

/// What a client may send on one stream before the agent has taken it: 1 MiB fills 100 Mbit/s at 80 ms.
const STREAM_WINDOW: u32 = 1 << 20;

/// The same over all streams of one connection. hyper can't raise it for uploads that stand still, so it is large
/// enough for a hundred and more of them beside the live ones.
const CONNECTION_WINDOW: u32 = 128 << 20;

/// Bytes of responses that wait for one stream's client: one window's worth is enough to keep it busy.
const SEND_BUFFER: usize = 256 << 10;

/// h2's own limit for header sections. Above ours, because h2 answers an excess with HTTP 431, which gRPC doesn't know,
/// and closes the whole connection beyond four times this.
const H2_HEADER_SECTION: u32 = 256 << 10;
const _: () = assert!(H2_HEADER_SECTION as usize > MAX_HEADER_SECTION);

/// How long a client may take to say that it speaks HTTP/2.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection on which nothing comes for this long is asked whether it lives,
const PING_INTERVAL: Duration = Duration::from_secs(60);

/// and closed when it doesn't answer within this.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long to wait when the system has no socket left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every HTTP/2 connection of a client begins with (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes that are read of an HTTP/1.1 client that has been answered.
const LINGER: u64 = 64 << 10;

/// What an HTTP/1.1 client is told.
const NOT_HTTP2: &[u8] =
    b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: text/plain\r\nconnection: close\r\n\
    content-length: 57\r\n\r\nThis is a gRPC port: it speaks HTTP/2 without upgrading.\n";

/// How many connections there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections(Arc<()>);

impl Connections {
    /// Those that hold a clone of this, beside whoever asks and the port itself.
    pub(crate) fn count(&self) -> usize {
        Arc::strong_count(&self.0).saturating_sub(2)
    }
}

/// Takes clients' connections until it is dropped, which drops them all.
pub(crate) async fn serve(listener: TcpListener, calls: Arc<Calls>, open: Connections) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "cannot accept a client's connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
        };
        let calls = Arc::clone(&calls);
        let open = open.clone();
        let connection = async move {
            let (_permit, _open) = (permit, open);
            connection(stream, peer, calls).await;
        };
        connections.spawn(connection.instrument(info_span!("client", %peer)));
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, calls: Arc<Calls>) {
    // Small answers must not wait for the acknowledgement of the last one.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot turn Nagle's algorithm off");
    }
    let stream = match tokio::time::timeout(PREFACE_TIMEOUT, prefaced(stream)).await {
        Ok(Ok(Some(stream))) => stream,
        Ok(Ok(None)) => return debug!(%peer, "a client does not speak HTTP/2"),
        Ok(Err(error)) => return debug!(%peer, %error, "a client left before its first request"),
        Err(_) => return debug!(%peer, "a client connected and said nothing"),
    };
    let service = service_fn(move |request| {
        let calls = Arc::clone(&calls);
        async move { calls.handle(request).await }
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        // A date would be one more piece of metadata that the service did not send.
        .auto_date_header(false)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(H2_HEADER_SECTION)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%peer, %error, "a client's connection ended");
    }
}

/// The connection with its preface, where it is an HTTP/2 one.
pub(crate) async fn prefaced(
    mut stream: TcpStream,
) -> io::Result<Option<impl AsyncRead + AsyncWrite + Unpin>> {
    if !expect_preface(&mut stream).await? {
        return Ok(None);
    }
    let (read, write) = stream.into_split();
    Ok(Some(tokio::io::join(Cursor::new(PREFACE).chain(read), write)))
}

/// Reads what a connection begins with, and answers in HTTP/1.1 what is HTTP/1.1.
async fn expect_preface(stream: &mut TcpStream) -> io::Result<bool> {
    let mut start = [0; PREFACE.len()];
    let mut read = 0;
    while read < PREFACE.len() {
        let count = stream.read(&mut start[read..]).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read += count;
        if start[..read] != PREFACE[..read] {
            if start[0].is_ascii_uppercase() {
                refuse_http1(stream).await?;
            }
            return Ok(false);
        }
    }
    Ok(true)
}

/// Answers in HTTP/1.1, and closes the connection only when the client has, or has sent enough: the system resets a
/// connection that is closed with unread bytes, and the answer would be lost with it.
async fn refuse_http1(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(NOT_HTTP2).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(LINGER);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}
