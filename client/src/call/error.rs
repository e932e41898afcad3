//! Why a call did not succeed.

use std::io;

use tonic::Code;

use crate::codec::EncodeError;
use crate::dynamic::MISMATCH;
use crate::input::{Input, InputError};
use crate::schema::ResolveError;
use crate::status::Failure;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The method is not known; no call was made.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The requests cannot be read. A call that was open has been cancelled.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The method takes one message and the input has none; no call was made.
    #[error("{method} takes one message, and there is none in {input}; without -d an empty message is sent")]
    NoMessage {
        /// The method.
        method: String,
        /// What was read.
        input: Input,
    },
    /// The method takes one message and the input has more; no call was made.
    #[error("{method} takes one message, and {input} has more than one; make a call for each")]
    ManyMessages {
        /// The method.
        method: String,
        /// What was read.
        input: Input,
    },
    /// The call failed; the service, the tunnel or the connection says so.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// An answer cannot be written in the output's format.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// An answer cannot be written out.
    #[error("cannot write the answer: {0}")]
    Output(#[source] io::Error),
}

impl CallError {
    /// The failure of the call, or of the reflection on its behalf, if that is what went wrong.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) | Self::Resolve(ResolveError::Failed(failure)) => Some(failure),
            _ => None,
        }
    }

    /// True if it may be so because the description is not, or not any more, the service's.
    pub(super) fn is_mismatch(&self) -> bool {
        match self {
            Self::Input(InputError::Decode { .. }) => true,
            Self::Failed(failure) => {
                let status = failure.status();
                let undecodable = status.code() == Code::Internal && status.message().contains(MISMATCH);
                failure.tunnel_reason().is_none() && (undecodable || status.code() == Code::Unimplemented)
            }
            _ => false,
        }
    }
}
