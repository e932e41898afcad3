//! The order in which the frames of one message may come (RFC 9114 §4.1).

use super::Role;
use super::code::Code;
use super::error::ProtocolError;

/// What a HEADERS frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// The head of the message, or of an interim response.
    Head,
    /// The trailers: nothing follows them.
    Trailers,
}

/// How far one request or response has come.
///
/// It has a head, then content, then perhaps trailers. A response may have interim ones (status 1xx) before it, which
/// are heads alone.
#[derive(Debug)]
pub struct MessageState {
    expects: Expects,
    /// What the content still lacks of its declared length.
    remaining: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expects {
    Head,
    ContentOrTrailers,
    End,
}

impl MessageState {
    /// The state before the first frame.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            expects: Expects::Head,
            remaining: None,
        }
    }

    /// A HEADERS frame came: what it is.
    ///
    /// # Errors
    /// A connection error, [`Code::FRAME_UNEXPECTED`], after the trailers; a stream error, [`Code::MESSAGE_ERROR`], for
    /// trailers after content shorter than was declared.
    pub fn headers(&mut self) -> Result<Section, ProtocolError> {
        match self.expects {
            Expects::Head => {
                self.expects = Expects::ContentOrTrailers;
                Ok(Section::Head)
            }
            Expects::ContentOrTrailers => {
                self.expect_no_more_content()?;
                self.expects = Expects::End;
                Ok(Section::Trailers)
            }
            Expects::End => Err(ProtocolError::connection(
                Code::FRAME_UNEXPECTED,
                "received a HEADERS frame after the trailers of a message",
            )),
        }
    }

    /// The head that just came is that of an interim response: another head follows.
    pub fn interim(&mut self) {
        self.expects = Expects::Head;
    }

    /// The head that just came declares `content-length`. To be left out where the length is not that of the message's
    /// own content: in a response to HEAD, and with status 304.
    pub fn declare_length(&mut self, length: u64) {
        self.remaining = Some(length);
    }

    /// `len` bytes of DATA came.
    ///
    /// # Errors
    /// A connection error, [`Code::FRAME_UNEXPECTED`], before the head or after the trailers; a stream error,
    /// [`Code::MESSAGE_ERROR`], beyond the declared length.
    pub fn data(&mut self, len: usize) -> Result<(), ProtocolError> {
        let when = match self.expects {
            Expects::Head => "before the head",
            Expects::End => "after the trailers",
            Expects::ContentOrTrailers => {
                if let Some(remaining) = &mut self.remaining {
                    *remaining = remaining.checked_sub(len as u64).ok_or_else(|| {
                        ProtocolError::stream(
                            Code::MESSAGE_ERROR,
                            "the content is longer than its content-length",
                        )
                    })?;
                }
                return Ok(());
            }
        };
        Err(ProtocolError::connection(
            Code::FRAME_UNEXPECTED,
            format!("received a DATA frame {when} of a message"),
        ))
    }

    /// The stream ended, where `role` is that of this endpoint.
    ///
    /// # Errors
    /// A stream error if the message is not complete: [`Code::REQUEST_INCOMPLETE`] for a request without a head,
    /// [`Code::MESSAGE_ERROR`] for a response without one, or for content shorter than was declared.
    pub fn finish(&self, role: Role) -> Result<(), ProtocolError> {
        if self.expects == Expects::Head {
            return Err(match role {
                Role::Server => ProtocolError::stream(
                    Code::REQUEST_INCOMPLETE,
                    "the stream ended before the head of the request",
                ),
                Role::Client => ProtocolError::stream(
                    Code::MESSAGE_ERROR,
                    "the stream ended before the head of the final response",
                ),
            });
        }
        self.expect_no_more_content()
    }

    fn expect_no_more_content(&self) -> Result<(), ProtocolError> {
        match self.remaining {
            Some(missing) if missing > 0 => Err(ProtocolError::stream(
                Code::MESSAGE_ERROR,
                format!("the content ended {missing} bytes before its content-length"),
            )),
            _ => Ok(()),
        }
    }
}

impl Default for MessageState {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;
    use crate::rh3::error::Scope;

    #[test]
    fn a_message_is_head_content_and_trailers() {
        let mut state = MessageState::new();
        assert_eq!(state.headers(), Ok(Section::Head));
        assert_eq!(state.finish(Role::Server), Ok(()));
        state.data(5).unwrap();
        state.data(7).unwrap();
        assert_eq!(state.headers(), Ok(Section::Trailers));
        assert_eq!(state.finish(Role::Client), Ok(()));
    }

    #[test]
    fn interim_responses_come_before_the_head() {
        let mut state = MessageState::new();
        for _ in 0..3 {
            assert_eq!(state.headers(), Ok(Section::Head));
            state.interim();
        }
        assert_eq!(state.data(1).unwrap_err().code, Code::FRAME_UNEXPECTED);
        assert_eq!(state.finish(Role::Client).unwrap_err().code, Code::MESSAGE_ERROR);
        assert_eq!(state.headers(), Ok(Section::Head));
        assert_eq!(state.headers(), Ok(Section::Trailers));
    }

    #[test]
    fn a_frame_out_of_order_ends_the_connection() {
        let before_head = MessageState::new().data(1).unwrap_err();
        let mut state = MessageState::new();
        state.headers().unwrap();
        state.headers().unwrap();
        for error in [
            before_head,
            state.data(1).unwrap_err(),
            state.headers().unwrap_err(),
        ] {
            assert_eq!(
                (error.code, error.scope),
                (Code::FRAME_UNEXPECTED, Scope::Connection)
            );
        }
    }

    #[test]
    fn an_end_before_the_head_ends_the_stream() {
        for (role, code) in [
            (Role::Server, Code::REQUEST_INCOMPLETE),
            (Role::Client, Code::MESSAGE_ERROR),
        ] {
            let error = MessageState::new().finish(role).unwrap_err();
            assert_eq!((error.code, error.scope), (code, Scope::Stream));
        }
    }

    #[test]
    fn content_has_its_declared_length() {
        let mut state = MessageState::new();
        state.headers().unwrap();
        state.declare_length(10);
        state.data(4).unwrap();
        assert_eq!(state.finish(Role::Client).unwrap_err().code, Code::MESSAGE_ERROR);
        let error = state.headers().unwrap_err();
        assert_eq!((error.code, error.scope), (Code::MESSAGE_ERROR, Scope::Stream));
        state.data(6).unwrap();
        state.finish(Role::Client).unwrap();
        let error = state.data(1).unwrap_err();
        assert_eq!((error.code, error.scope), (Code::MESSAGE_ERROR, Scope::Stream));
    }
}
