//! A raw TCP connection through an agent: a call of `adit.tunnel.v1.Agent/Dial`, which goes the way of all calls.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use adit_certs::AgentId;
use adit_proto::failure::{ADIT_ERROR, Failure, Reason};
use adit_proto::raw::Target;
use adit_proto::tunnel::v1::Bytes as Piece;
use adit_proto::tunnel::v1::agent_client::AgentClient;
use adit_transport::{RawSocket, Reader};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt as _, stream};
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};
use tower_service::Service;

use crate::call::Calls;
use crate::control;
use crate::response::{self, ResponseBody};
use crate::status::Ending;

/// The longest piece that an agent may send.
const MAX_PIECE: usize = 1 << 20;

/// Where a client wants to be connected to.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) agent: AgentId,
    pub(crate) target: Target,
}

/// A connection that the agent has made to the target, whose bytes have yet to be written to the client.
#[derive(Debug)]
pub(crate) struct Connected {
    from_agent: Streaming<Piece>,
    upload: Upload,
}

/// The way from the client to the agent, which the call pulls at.
#[derive(Clone, Debug, Default)]
struct Upload {
    /// The client's side broke off.
    lost: CancellationToken,
    bytes: Arc<AtomicU64>,
}

/// What came of a connection.
#[derive(Debug)]
pub(crate) struct Carried {
    /// Bytes that came from the client.
    pub(crate) sent: u64,
    /// Bytes that were written to the client.
    pub(crate) received: u64,
    pub(crate) end: Result<(), Broken>,
}

/// Why a connection did not end in order.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the client reset it, or went away")]
    Client,
    #[error("the client cannot be written to: {0}")]
    Write(#[from] io::Error),
    #[error("{}", .0.message())]
    Told(Status),
    #[error("the agent ended it without a word")]
    Cut,
    #[error("the hub stopped")]
    Stopped,
}

/// Has the agent connect to the target, and makes `first` and then what `client` reads the bytes to it.
///
/// # Errors
///
/// Why there is no connection; `None` where the client left meanwhile.
pub(crate) async fn connect<R>(
    calls: &Arc<Calls>,
    wanted: &Wanted,
    first: Vec<u8>,
    client: R,
    socket: &RawSocket,
    answer_timeout: Duration,
) -> Result<Connected, Option<Failure>>
where
    R: AsyncRead + Send + Unpin + 'static,
{
    let upload = Upload::default();
    let channel = Channel {
        calls: Arc::clone(calls),
        agent: wanted.agent.clone(),
    };
    let mut agent = AgentClient::with_origin(channel, control::origin()).max_decoding_message_size(MAX_PIECE);
    let said = upload.clone().said(&wanted.target, first, client);
    // An agent that is not there is waited for, and beyond that it bounds its own wait for the target.
    let dialled = timeout(calls.reconnect_grace() + answer_timeout, agent.dial(said));
    let dialled = tokio::select! {
        dialled = dialled => dialled,
        () = upload.lost.cancelled() => return Err(None),
        () = socket.broken() => return Err(None),
    };
    match dialled {
        Ok(Ok(response)) => Ok(Connected {
            from_agent: response.into_inner(),
            upload,
        }),
        Ok(Err(status)) => Err(Some(refused(&wanted.agent, &status))),
        Err(_elapsed) => {
            let message = format!(
                "agent {} did not say within {} s whether it is connected to {}",
                wanted.agent,
                answer_timeout.as_secs(),
                wanted.target
            );
            Err(Some(Failure::new(Reason::Deadline, message)))
        }
    }
}

impl Connected {
    /// Carries bytes both ways until both sides have ended, one of them has broken off, or `stopped` is cancelled. The call
    /// ends with it.
    pub(crate) async fn carry<W>(
        mut self,
        mut client: W,
        socket: &RawSocket,
        stopped: &CancellationToken,
    ) -> Carried
    where
        W: AsyncWrite + Unpin,
    {
        let mut received = 0;
        let end = tokio::select! {
            end = download(&mut self.from_agent, &mut client, &mut received) => end,
            () = self.upload.lost.cancelled() => Err(Broken::Client),
            () = socket.broken() => Err(Broken::Client),
            () = stopped.cancelled() => Err(Broken::Stopped),
        };
        Carried {
            sent: self.upload.bytes.load(Ordering::Relaxed),
            received,
            end,
        }
    }
}

/// Writes to the client what the agent sends. The agent ends the call in order once both sides have ended.
async fn download<W>(
    from_agent: &mut Streaming<Piece>,
    client: &mut W,
    received: &mut u64,
) -> Result<(), Broken>
where
    W: AsyncWrite + Unpin,
{
    let mut ended = false;
    loop {
        match from_agent.message().await {
            Ok(Some(Piece { data, end, .. })) => {
                client.write_all(&data).await?;
                client.flush().await?;
                *received += data.len() as u64;
                if end {
                    client.shutdown().await?;
                    ended = true;
                }
            }
            Ok(None) if ended => return Ok(()),
            Ok(None) => return Err(Broken::Cut),
            Err(status) => return Err(Broken::Told(status)),
        }
    }
}

impl Upload {
    /// What the hub says to the agent.
    fn said<R>(self, target: &Target, first: Vec<u8>, client: R) -> impl Stream<Item = Piece> + Send + use<R>
    where
        R: AsyncRead + Send + Unpin + 'static,
    {
        let target = Piece {
            target: target.to_string(),
            ..Piece::default()
        };
        let data = Bytes::from(first);
        self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        let first = (!data.is_empty()).then(|| Piece {
            data,
            ..Piece::default()
        });
        let rest = stream::unfold(Some((self, Reader::new(client))), |state| async {
            let (upload, mut reader) = state?;
            match reader.piece().await {
                Ok(data) if data.is_empty() => {
                    let end = Piece {
                        end: true,
                        ..Piece::default()
                    };
                    Some((end, None))
                }
                Ok(data) => {
                    upload.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                    let piece = Piece {
                        data,
                        ..Piece::default()
                    };
                    Some((piece, Some((upload, reader))))
                }
                Err(_) => {
                    upload.lost.cancel();
                    // The call is given up, and this with it: its end would be another one.
                    std::future::pending().await
                }
            }
        });
        stream::iter([Some(target), first].into_iter().flatten()).chain(rest)
    }
}

/// What a client is told in place of the status that a call had.
fn refused(agent: &AgentId, status: &Status) -> Failure {
    let reason = status.metadata().get(ADIT_ERROR.as_str());
    let reason = reason.and_then(|said| Reason::ALL.into_iter().find(|reason| said == reason.as_str()));
    match (reason, status.code()) {
        (Some(reason), code) => Failure::new(reason, status.message()).with_code(code),
        (None, Code::Unimplemented) => Failure::new(
            Reason::NoRoute,
            format!("agent {agent} does not know raw TCP: it needs a later version of adit"),
        ),
        (None, code) => Failure::new(
            Reason::UpstreamProtocol,
            format!("agent {agent}: {code:?}: {}", status.message()),
        ),
    }
}

/// What tonic's client reaches an agent through.
#[derive(Clone)]
struct Channel {
    calls: Arc<Calls>,
    agent: AgentId,
}

impl Service<Request<tonic::body::Body>> for Channel {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<ResponseBody>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let Self { calls, agent } = self.clone();
        Box::pin(async move {
            Ok(match calls.to_agent(agent.clone(), request).await {
                Ok(response) => response,
                Err(Ending::Failed(failure)) => response::failed(failure),
                Err(Ending::Reset(h2::Reason::REFUSED_STREAM)) => response::failed(Failure::new(
                    Reason::Draining,
                    format!("agent {agent} takes no new connections: it is stopping; try again later"),
                )),
                Err(Ending::Reset(code)) => response::failed(Failure::new(
                    Reason::UpstreamProtocol,
                    format!("agent {agent} gave the connection up: {code}"),
                )),
            })
        })
    }
}
