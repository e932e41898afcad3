//! Payload codecs: between a message and its form in a terminal, a file or a pipe.
//!
//! A further format is one implementation of [`PayloadCodec`] and one [`Codecs::register`].

mod json;

use std::fmt;
use std::sync::Arc;

use prost_reflect::{DynamicMessage, MessageDescriptor};

pub use json::JsonCodec;

/// A form of messages outside gRPC.
pub trait PayloadCodec: Send + Sync {
    /// What `--format` calls it.
    fn name(&self) -> &'static str;

    /// A decoder of a stream of messages of type `message`.
    fn decoder(&self, message: MessageDescriptor) -> Box<dyn PayloadDecoder>;

    /// Appends `message` to `out`, with whatever tells it from the next one. On an error `out` may
    /// hold a part of it and is not to be shown.
    fn encode(&self, message: &DynamicMessage, out: &mut Vec<u8>) -> Result<(), EncodeError>;
}

/// Takes bytes as they arrive, in pieces that end anywhere, and gives messages as they are complete.
/// The pieces' boundaries never change what comes out.
pub trait PayloadDecoder: Send {
    /// Takes the next piece of the input.
    fn feed(&mut self, piece: &[u8]);

    /// The next message, if all of it has been fed. After an error nothing further comes.
    fn next(&mut self) -> Result<Option<DynamicMessage>, DecodeError>;

    /// At the end of the input, once `next` has nothing more: the message that only the end
    /// completes, if there is one.
    fn finish(&mut self) -> Result<Option<DynamicMessage>, DecodeError>;
}

/// A place in an input, both counted from 1; a column is a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// An input is not a message of the type that the method takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{position}: {}{problem}", .field.as_ref().map(|field| format!("in field {field}: ")).unwrap_or_default())]
pub struct DecodeError {
    /// Where in the input, across all its messages.
    pub position: Position,
    /// The path of the field that is concerned, as in `route.points[3].latitude`.
    pub field: Option<String>,
    /// What is wrong with it.
    pub problem: String,
}

/// A message has no form in the format asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot write this {message} as {format}: {problem}")]
pub struct EncodeError {
    /// The message's type.
    pub message: String,
    /// The codec's name.
    pub format: &'static str,
    /// Why not.
    pub problem: String,
}

/// The codecs there are, by name.
#[derive(Clone)]
pub struct Codecs(Vec<Arc<dyn PayloadCodec>>);

impl Codecs {
    /// All codecs of this crate.
    pub fn standard() -> Self {
        Self(vec![Arc::new(JsonCodec)])
    }

    /// Adds a codec; one of the same name gives way to it.
    pub fn register(&mut self, codec: Arc<dyn PayloadCodec>) {
        self.0.retain(|known| known.name() != codec.name());
        self.0.push(codec);
    }

    /// The codec of this name.
    pub fn get(&self, name: &str) -> Option<Arc<dyn PayloadCodec>> {
        self.0.iter().find(|codec| codec.name() == name).cloned()
    }

    /// All names, in order of registration.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.iter().map(|codec| codec.name())
    }
}

impl fmt::Debug for Codecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
