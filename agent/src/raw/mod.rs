//! Raw TCP connections: the agent's end of `adit.tunnel.v1.Agent/Dial`.

mod allowed;
mod connect;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use adit_proto::failure::{Delivered, Failure, Reason};
use adit_proto::raw::{InvalidTarget, Target};
use adit_proto::tunnel::v1::Bytes;
use adit_transport::{RawSocket, Reader};
use futures_util::{Stream, stream};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status, Streaming};
use tracing::{Instrument as _, debug, info};

pub use allowed::{AllowedTarget, InvalidAllowedTarget};
pub use connect::RAW_CONNECT_TIMEOUT;

/// Raw TCP connections that an agent has at once, over all of its links.
pub const MAX_RAW_CONNECTIONS: usize = 1024;

/// How long the hub may take to name the target.
const TARGET_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes raw TCP connections to the targets that are allowed. Clones share the limit.
#[derive(Clone, Debug)]
pub(crate) struct Raw(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    allowed: Vec<AllowedTarget>,
    room: Arc<Semaphore>,
}

/// What the hub is sent of one connection.
pub(crate) type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// A piece for the hub, and the way on if there is one.
type Next = Option<(Result<Bytes, Status>, Option<Download>)>;

/// The way from the target to the hub. Dropping it before its end resets the connection.
struct Download {
    target: Target,
    socket: RawSocket,
    reader: Reader<RawSocket>,
    /// Nothing more comes from the target.
    ended: bool,
    /// The other way; `None` once it has ended.
    upload: Option<AbortOnDropHandle<Result<(), Broken>>>,
    /// Why nothing more goes to the target.
    broken: Option<Broken>,
    _permit: OwnedSemaphorePermit,
}

/// Why a way broke off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Target(#[from] io::Error),
    #[error("the hub gave the connection up")]
    Hub,
}

impl Raw {
    /// Nothing but these is allowed.
    pub(crate) fn new(allowed: Vec<AllowedTarget>) -> Self {
        Self::with_room(allowed, MAX_RAW_CONNECTIONS)
    }

    fn with_room(allowed: Vec<AllowedTarget>, connections: usize) -> Self {
        let room = Arc::new(Semaphore::new(connections));
        Self(Arc::new(Shared { allowed, room }))
    }

    /// Connects to the target that the hub names first: what comes from there.
    pub(crate) async fn dial(&self, mut hub: Streaming<Bytes>) -> Result<Pieces, Status> {
        match self.connect(&mut hub).await {
            Ok((target, socket, permit)) => {
                info!(%target, "connected to a target for raw TCP");
                Ok(carry(target, socket, hub, permit))
            }
            Err(failure) => {
                info!(%failure, "no connection to a target for raw TCP");
                Err(failure.to_status())
            }
        }
    }

    async fn connect(
        &self,
        hub: &mut Streaming<Bytes>,
    ) -> Result<(Target, RawSocket, OwnedSemaphorePermit), Failure> {
        let first = tokio::time::timeout(TARGET_TIMEOUT, hub.message()).await;
        let Ok(Ok(Some(first))) = first else {
            return Err(no_target(&"the hub did not say which target is meant"));
        };
        let target: Target = first
            .target
            .parse()
            .map_err(|error: InvalidTarget| no_target(&error))?;
        if !self.0.allowed.iter().any(|allowed| allowed.has(&target)) {
            return Err(Failure::new(
                Reason::Denied,
                format!(
                    "the agent does not allow raw TCP to {target}: start it with --tcp {target}, written as the client writes it"
                ),
            ));
        }
        let Ok(permit) = Arc::clone(&self.0.room).try_acquire_owned() else {
            return Err(Failure::new(
                Reason::AgentBusy,
                format!(
                    "the agent has {MAX_RAW_CONNECTIONS} raw TCP connections, which is the limit: try again later"
                ),
            ));
        };
        let socket = connect::connect(&target).await?;
        Ok((target, socket, permit))
    }
}

/// No reason is nearer than that of a route.
fn no_target(why: &impl ToString) -> Failure {
    Failure::new(Reason::NoRoute, why.to_string()).with_code(Code::InvalidArgument)
}

fn carry(target: Target, socket: RawSocket, hub: Streaming<Bytes>, permit: OwnedSemaphorePermit) -> Pieces {
    let upload = upload(hub, socket.clone()).in_current_span();
    let download = Download {
        target,
        reader: Reader::new(socket.clone()),
        socket,
        ended: false,
        upload: Some(AbortOnDropHandle::new(tokio::spawn(upload))),
        broken: None,
        _permit: permit,
    };
    Box::pin(stream::unfold(Some(download), |download| async {
        download?.next().await
    }))
}

/// Writes to the target what the hub sends, until the hub says that it is all.
async fn upload(mut hub: Streaming<Bytes>, mut socket: RawSocket) -> Result<(), Broken> {
    loop {
        let Ok(Some(Bytes { data, end, .. })) = hub.message().await else {
            // Also where the request ends without a word: it may have been cut off.
            return Err(Broken::Hub);
        };
        socket.write_all(&data).await?;
        if end {
            socket.shutdown().await?;
            return Ok(());
        }
    }
}

impl Download {
    /// The next piece; `None` once both sides have ended in order.
    async fn next(mut self) -> Next {
        while !self.ended {
            let piece = tokio::select! {
                piece = self.reader.piece() => piece,
                ended = uploaded(&mut self.upload) => {
                    match ended {
                        Ok(()) => {}
                        Err(Broken::Hub) => return self.fail(&Broken::Hub),
                        // What the target has sent before it broke is passed on first.
                        Err(broken) => self.broken = Some(broken),
                    }
                    continue;
                }
            };
            return match piece {
                Ok(data) if data.is_empty() => {
                    self.ended = true;
                    match self.broken.take() {
                        Some(broken) => self.fail(&broken),
                        None => self.say(Bytes {
                            end: true,
                            ..Bytes::default()
                        }),
                    }
                }
                Ok(data) => self.say(Bytes {
                    data,
                    ..Bytes::default()
                }),
                Err(error) => self.fail(&error.into()),
            };
        }
        if self.upload.is_some() {
            tokio::select! {
                ended = uploaded(&mut self.upload) => if let Err(broken) = ended {
                    return self.fail(&broken);
                },
                () = self.socket.broken() => {
                    return self.fail(&io::Error::from(io::ErrorKind::ConnectionReset).into());
                }
            }
        }
        self.socket.end();
        debug!(target = %self.target, "a raw TCP connection ended");
        None
    }

    fn say(self, piece: Bytes) -> Next {
        Some((Ok(piece), Some(self)))
    }

    /// Lets go of the connection before the hub hears of it.
    fn fail(self, broken: &Broken) -> Next {
        debug!(target = %self.target, %broken, "a raw TCP connection broke");
        let message = format!("the connection to {} broke: {broken}", self.target);
        let failure = Failure::new(Reason::UpstreamLost, message).with_delivered(Delivered::Maybe);
        Some((Err(failure.to_status()), None))
    }
}

/// Waits for the end of the way to the target: for ever, where it was told of before.
async fn uploaded(upload: &mut Option<AbortOnDropHandle<Result<(), Broken>>>) -> Result<(), Broken> {
    let Some(running) = upload else {
        return std::future::pending().await;
    };
    let ended = running.await;
    *upload = None;
    ended.unwrap_or(Err(Broken::Hub))
}

#[cfg(test)]
mod tests;
