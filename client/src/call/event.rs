//! What is told of a call while it is made, and after it.

use std::time::Duration;

use prost_reflect::MethodDescriptor;
use tonic::metadata::MetadataMap;

use crate::schema::Origin;
use crate::status::Failure;

/// What happens in a call, for whoever wants to know while it does.
#[derive(Debug)]
pub enum Event<'a> {
    /// The method is known.
    Described {
        /// From where.
        origin: Origin,
        /// How long that took.
        took: Duration,
        /// What is known.
        method: &'a MethodDescriptor,
    },
    /// The server answers, if only to say that there will be answers.
    Headers {
        /// Its metadata.
        metadata: &'a MetadataMap,
        /// How long after the call was begun.
        after: Duration,
    },
    /// The first answer is there.
    Answer {
        /// How long after the call was begun.
        after: Duration,
    },
    /// The call has failed and is made once more.
    Retry {
        /// How it failed.
        failure: &'a Failure,
        /// How long is waited first.
        wait: Duration,
    },
}

/// How a call that succeeded went.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The metadata that came before the answers.
    pub headers: MetadataMap,
    /// The metadata that came after them.
    pub trailers: MetadataMap,
    /// How many answers were written.
    pub answers: u64,
}
