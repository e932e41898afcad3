//! A client that sees every frame: HTTP/2 without a gRPC library, which would hide what came.

use std::net::SocketAddr;

use adit_proto::failure::Reason;
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode, request, response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::soon;

/// One connection to a hub's port for clients.
pub(crate) struct RawClient {
    sender: SendRequest<Bytes>,
    _driver: AbortOnDropHandle<()>,
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) head: response::Parts,
    /// The HEADERS frame that begins the response ends it too.
    pub(crate) headers_only: bool,
    pub(crate) data: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

/// A gRPC request for `path`.
pub(crate) fn request(path: &str) -> request::Builder {
    Request::post(format!("http://hub.example{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}

/// The same, for an agent.
pub(crate) fn to(agent: &str, path: &str) -> Request<()> {
    request(path).header("adit-agent", agent).body(()).unwrap()
}

/// A gRPC message: not compressed, its length, itself.
pub(crate) fn message(data: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(5 + data.len());
    message.put_u8(0);
    message.put_u32(u32::try_from(data.len()).unwrap());
    message.extend_from_slice(data);
    message.freeze()
}

impl RawClient {
    /// Connects with windows that hold nothing up.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let mut builder = Builder::new();
        builder
            .initial_window_size(32 << 20)
            .initial_connection_window_size(256 << 20);
        Self::connect_with(address, &builder).await
    }

    pub(crate) async fn connect_with(address: SocketAddr, builder: &Builder) -> Self {
        let stream = soon(TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream, builder).await
    }

    /// On a connection that is there.
    pub(crate) async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        builder: &Builder,
    ) -> Self {
        let (sender, connection) = soon(builder.handshake(stream)).await.unwrap();
        let driver = async move {
            // Its calls fail with it.
            let _ = connection.await;
        };
        Self {
            sender,
            _driver: AbortOnDropHandle::new(tokio::spawn(driver)),
        }
    }

    /// Sends a request's head; `end` says that nothing follows.
    pub(crate) async fn send(&self, request: Request<()>, end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let mut sender = soon(self.sender.clone().ready()).await.unwrap();
        sender.send_request(request, end).unwrap()
    }

    /// The same, or `None` where the connection takes no further call: it has ended, or the hub has said GOAWAY.
    pub(crate) async fn send_if_open(
        &self,
        request: Request<()>,
        end: bool,
    ) -> Option<(ResponseFuture, SendStream<Bytes>)> {
        let mut sender = soon(self.sender.clone().ready()).await.ok()?;
        // It was open a moment ago, and only this task could find out that it is not.
        Some(sender.send_request(request, end).unwrap())
    }

    /// Makes a call whose request is `data`.
    pub(crate) async fn call(
        &self,
        request: Request<()>,
        data: impl Into<Bytes>,
    ) -> Result<Reply, h2::Error> {
        let (response, mut send) = self.send(request, false).await;
        send.send_data(data.into(), true)?;
        Reply::read(soon(response).await?.into_parts()).await
    }

    /// Makes a call of an empty message, which has to have a response.
    pub(crate) async fn get(&self, request: Request<()>) -> Reply {
        self.call(request, message(b"")).await.unwrap()
    }

    /// Makes a call of an empty message at an agent, which has to have a response.
    pub(crate) async fn get_at(&self, agent: &str, path: &str) -> Reply {
        self.get(to(agent, path)).await
    }
}

impl Reply {
    pub(crate) async fn read((head, mut body): (response::Parts, RecvStream)) -> Result<Self, h2::Error> {
        let headers_only = body.is_end_stream();
        let mut data = BytesMut::new();
        while let Some(chunk) = soon(body.data()).await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            data.extend_from_slice(&chunk);
        }
        Ok(Self {
            head,
            headers_only,
            data: data.freeze(),
            trailers: soon(body.trailers()).await?,
        })
    }

    /// Where the status is: the trailers, or the head of a trailers-only response.
    pub(crate) fn told(&self) -> &HeaderMap {
        self.trailers.as_ref().unwrap_or(&self.head.headers)
    }

    /// Checks that it is status 0 and returns the message.
    pub(crate) fn succeeded(&self) -> &[u8] {
        assert_eq!(self.told()["grpc-status"], "0", "{self:?}");
        self.data.get(5..).unwrap_or_default()
    }

    /// Checks a failure that the hub or agent made, and returns its message.
    pub(crate) fn failed(&self, reason: Reason, code: Code, delivered: &str) -> String {
        let told = self.told();
        assert_eq!(self.head.status, StatusCode::OK, "{self:?}");
        assert_eq!(self.head.headers["content-type"], "application/grpc", "{self:?}");
        assert_eq!(
            told.get("adit-error").expect("adit-error"),
            reason.as_str(),
            "{self:?}"
        );
        assert_eq!(told["grpc-status"], (code as i32).to_string(), "{self:?}");
        assert_eq!(told["adit-delivered"], delivered, "{self:?}");
        let status = Status::from_header_map(told).unwrap();
        let info = status.get_details_error_info().expect("an ErrorInfo");
        assert_eq!(info.domain, "adit");
        assert_eq!(info.reason, reason.as_str().replace('-', "_").to_uppercase());
        status.message().to_owned()
    }

    /// The same of a failure before any response: one HEADERS frame.
    pub(crate) fn failed_at_once(&self, reason: Reason, code: Code, delivered: &str) -> String {
        assert!(self.headers_only, "more than one HEADERS frame: {self:?}");
        self.failed(reason, code, delivered)
    }
}

/// The next message of a response, whose next one is sent only afterwards. It may come in pieces.
pub(crate) async fn next_message(body: &mut RecvStream) -> Bytes {
    let mut message = BytesMut::new();
    loop {
        let chunk = soon(body.data()).await.expect("a message").unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        message.extend_from_slice(&chunk);
        if let Some((prefix, data)) = message.split_first_chunk::<5>() {
            let [_, length @ ..] = *prefix;
            let length = u32::from_be_bytes(length) as usize;
            assert!(data.len() <= length, "more than one message: {message:?}");
            if data.len() == length {
                return message.freeze();
            }
        }
    }
}

/// The code that the peer reset a stream with.
pub(crate) fn reset_code(error: &h2::Error) -> h2::Reason {
    assert!(error.is_reset() && error.is_remote(), "{error}");
    error.reason().unwrap()
}
