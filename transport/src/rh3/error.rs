//! What a peer did wrong, and how much of the connection that concerns.

use std::borrow::Cow;

use super::code::Code;

/// How much a [`ProtocolError`] concerns (RFC 9114 §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// This stream: reset it and stop its other half, with the error's code. Other calls go on.
    Stream,
    /// The connection: close it with the error's code, because the state shared by its streams can no longer be
    /// trusted.
    Connection,
}

/// A violation of HTTP/3 or QPACK by the peer, or an excess beyond a limit of this endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {reason}")]
pub struct ProtocolError {
    /// What to reset the stream or close the connection with.
    pub code: Code,
    /// Whether the stream or the connection has to end.
    pub scope: Scope,
    /// What was received.
    pub reason: Cow<'static, str>,
}

impl ProtocolError {
    /// An error that ends the connection.
    pub fn connection(code: Code, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            scope: Scope::Connection,
            reason: reason.into(),
        }
    }

    /// An error that ends one stream.
    pub fn stream(code: Code, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            scope: Scope::Stream,
            reason: reason.into(),
        }
    }

    /// Whether a field section is too large for this endpoint, seen from its length or when it was decoded. The message
    /// was not read, and is perhaps well-formed: a server can still answer it.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.code == Code::EXCESSIVE_LOAD && self.scope == Scope::Stream
    }
}
