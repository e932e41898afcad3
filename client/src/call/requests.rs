//! The requests of a call: read from its input, and sent as the connection takes them.

use prost_reflect::DynamicMessage;
use tokio::sync::mpsc;
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

/// The sending end of a call. To the server, the end of a stream means that it was complete, so the
/// stream ends only by [`RequestSender::finish`]; otherwise the call is reset.
pub(super) struct RequestSender {
    pub(super) sender: mpsc::Sender<DynamicMessage>,
    pub(super) cancel: Option<CancellationHandle>,
}

impl RequestSender {
    /// Waits until the connection takes a message. One that nobody waits for any more is dropped: the
    /// server has answered before it had all of them.
    async fn send(&self, message: DynamicMessage) {
        let _answered_already = self.sender.send(message).await;
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
