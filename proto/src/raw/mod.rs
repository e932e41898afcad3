//! What is said before a raw TCP connection through an agent: one line of JSON each way, and then bytes.
//!
//! ```text
//! → {"agent":"site-7","target":"db.internal:5432"}
//! ← {"ok":true}
//! ```
//!
//! A hub that refuses says why, with the reason and the status code that a gRPC call would have failed with:
//! `{"ok":false,"reason":"agent-offline","code":14,"message":"…"}`.

mod line;
mod target;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

pub use line::{LineDecoder, LongLine, MAX_LINE, Split};
pub use target::{Host, InvalidTarget, Target};

/// The longest bearer token.
pub const MAX_TOKEN: usize = 8 << 10;

/// Application protocol (ALPN) of raw TCP connections to a hub over TLS. A client need not offer any.
pub const ALPN: &[u8] = b"adit-tcp";

/// The client's line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The id of the agent.
    pub agent: String,
    /// Where the agent connects to: HOST:PORT.
    pub target: String,
    /// Who the client is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
}

/// A bearer token: a secret, which no log shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

/// The hub's line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Fields", into = "Fields")]
pub enum Answer {
    /// The agent is connected to the target: bytes follow, both ways.
    Connected,
    /// It is not, and nothing follows.
    Refused {
        /// One of the words in `adit-error`.
        reason: String,
        /// The gRPC status code that goes with it.
        code: i32,
        /// For people: what is wrong and what to do.
        message: String,
    },
}

/// The hub's line as it is written. A later hub may say more.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Fields {
    ok: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "is_zero")]
    code: i32,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

/// A line that is not what it has to be. It repeats nothing of the line, which may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// Not JSON.
    #[error("the line is not JSON, from byte {at} on")]
    NotJson {
        /// Counted from 1.
        at: usize,
    },
    /// JSON of something else.
    #[error("the line is JSON of something else")]
    Other,
    /// The token is longer than any.
    #[error("the token has {0} bytes, and {MAX_TOKEN} are the limit")]
    LongToken(usize),
}

impl Request {
    /// Reads a line, with or without what ends it.
    ///
    /// # Errors
    ///
    /// It is none, or has other keys.
    pub fn parse(line: &[u8]) -> Result<Self, BadLine> {
        let request: Self = parse(line)?;
        match &request.token {
            Some(Token(token)) if token.len() > MAX_TOKEN => Err(BadLine::LongToken(token.len())),
            _ => Ok(request),
        }
    }

    /// The line, with what ends it.
    pub fn to_line(&self) -> Vec<u8> {
        to_line(self)
    }
}

impl Answer {
    /// Reads a line, with or without what ends it.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn parse(line: &[u8]) -> Result<Self, BadLine> {
        parse(line)
    }

    /// The line, with what ends it.
    pub fn to_line(&self) -> Vec<u8> {
        to_line(self)
    }
}

impl From<&Failure> for Answer {
    fn from(failure: &Failure) -> Self {
        Self::Refused {
            reason: failure.reason().to_string(),
            code: failure.code().into(),
            message: failure.message().to_owned(),
        }
    }
}

impl From<Fields> for Answer {
    fn from(fields: Fields) -> Self {
        if fields.ok {
            return Self::Connected;
        }
        Self::Refused {
            reason: fields.reason,
            code: fields.code,
            message: fields.message,
        }
    }
}

impl From<Answer> for Fields {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Connected => Self {
                ok: true,
                ..Self::default()
            },
            Answer::Refused {
                reason,
                code,
                message,
            } => Self {
                ok: false,
                reason,
                code,
                message,
            },
        }
    }
}

impl From<String> for Token {
    fn from(token: String) -> Self {
        Self(token)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives references")]
fn is_zero(code: &i32) -> bool {
    *code == 0
}

fn parse<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, BadLine> {
    serde_json::from_slice(line).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => BadLine::Other,
        _ => BadLine::NotJson {
            at: error.column().max(1),
        },
    })
}

fn to_line(value: &impl Serialize) -> Vec<u8> {
    // Strings and numbers can always be written.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests;
