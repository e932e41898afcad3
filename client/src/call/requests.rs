//! The requests of a call: read from its input, and sent as the connection takes them.

use std::sync::Arc;

use prost::Message as _;
use prost_reflect::DynamicMessage;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::CancellationHandle;

use crate::input::{InputError, Messages};

/// The messages to send.
pub(super) enum Requests {
    /// One or none.
    Known(Option<DynamicMessage>),
    /// As many as the input turns out to hold.
    Read(Box<Messages>),
}

impl Requests {
    /// The same once more, if they have not been read away.
    pub(super) fn again(&self) -> Option<Self> {
        match self {
            Self::Known(message) => Some(Self::Known(message.clone())),
            Self::Read(_) => None,
        }
    }

    /// Sends them all, then ends the stream.
    pub(super) async fn feed(self, sender: RequestSender) -> Result<(), InputError> {
        match self {
            Self::Known(message) => {
                if let Some(message) = message {
                    sender.send(message).await;
                }
            }
            Self::Read(mut messages) => {
                while let Some(message) = messages.next().await? {
                    sender.send(message).await;
                }
            }
        }
        sender.finish();
        Ok(())
    }
}

/// How many requests may wait for the connection.
pub(super) const WAITING: usize = 1024;
/// How many bytes they may have, encoded; a longer one waits alone. Small ones have to wait for each other a little: each
/// would be a frame of its own, and servers end connections on which there are too many small frames.
const BYTES_WAITING: u32 = 64 * 1024;

/// A request that waits for the connection.
pub(super) struct Waiting {
    pub(super) message: DynamicMessage,
    /// Its share of [`BYTES_WAITING`].
    _room: OwnedSemaphorePermit,
}

/// The sending end of a call. To the server, the end of a stream means that it was complete, so the
/// stream ends only by [`RequestSender::finish`]; otherwise the call is reset.
pub(super) struct RequestSender {
    sender: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    cancel: Option<CancellationHandle>,
}

impl RequestSender {
    pub(super) fn new(sender: mpsc::Sender<Waiting>, cancel: CancellationHandle) -> Self {
        Self {
            sender,
            room: Arc::new(Semaphore::new(BYTES_WAITING as usize)),
            cancel: Some(cancel),
        }
    }

    /// Waits until there is room for a message. One that nobody waits for any more is dropped: the
    /// server has answered before it had all of them.
    async fn send(&self, message: DynamicMessage) {
        let length = u32::try_from(message.encoded_len()).unwrap_or(BYTES_WAITING);
        let room = Arc::clone(&self.room).acquire_many_owned(length.clamp(1, BYTES_WAITING));
        // Nobody closes it.
        if let Ok(room) = room.await {
            let waiting = Waiting { message, _room: room };
            let _answered_already = self.sender.send(waiting).await;
        }
    }

    fn finish(mut self) {
        self.cancel = None;
    }
}

impl Drop for RequestSender {
    fn drop(&mut self) {
        if let Some(cancel) = self.cancel.take() {
            cancel.cancel();
        }
    }
}
