//! Payload codecs: between a message and its form in a terminal, a file or a pipe.
//!
//! | name | form | several messages |
//! |---|---|---|
//! | `json` | protobuf's JSON mapping | one after the other |
//! | `ndjson` | the same, a line for each | a line each |
//! | `yaml` | the same mapping in YAML | a document each |
//! | `xml` | `docs/xml.md` | an element each |
//! | `text` | protobuf's text format | a record separator (0x1E) between them |
//! | `binary` | protobuf's bytes | the length before each, as a varint |
//!
//! A further format is one implementation of [`PayloadCodec`] and one [`Codecs::register`];
//! [`mapping`] does most of the work where `serde` has the format. `examples/cbor.rs` is such a one.

mod binary;
mod document;
mod guess;
mod json;
pub mod mapping;
mod text;
mod xml;
mod yaml;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage as _};

use crate::MAX_MESSAGE_SIZE;
pub use binary::BinaryCodec;
pub use guess::GuessCodec;
pub use json::JsonCodec;
pub use text::TextCodec;
pub use xml::XmlCodec;
pub use yaml::YamlCodec;

/// How deep messages may be within messages in an input. Protobuf's own decoders take no more.
pub const MAX_DEPTH: usize = 100;

/// A form of messages outside gRPC.
pub trait PayloadCodec: Send + Sync {
    /// What `--format` calls it.
    fn name(&self) -> &'static str;

    /// How names of files of this form end, without the dot.
    fn extensions(&self) -> &'static [&'static str] {
        &[]
    }

    /// True if what is written is for people too. What is not, is kept from terminals.
    fn is_text(&self) -> bool {
        true
    }

    /// True if an input that begins so is of this form and of no other. `beginning` starts with a
    /// character that is not blank, and may be a part of the first line only: then this is asked
    /// again as more of it arrives.
    fn recognizes(&self, beginning: &[u8]) -> bool {
        let _ = beginning;
        false
    }

    /// A decoder of an input that holds messages of type `message`.
    fn decoder(&self, message: MessageDescriptor, options: DecodeOptions) -> Box<dyn PayloadDecoder>;

    /// Appends `message` to `out`, with whatever tells it from the next one. On an error `out` may
    /// hold a part of it and is not to be shown.
    fn encode(
        &self,
        message: &DynamicMessage,
        options: EncodeOptions,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError>;
}

/// How an input is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeOptions {
    /// The input may hold any number of messages; otherwise it holds one.
    pub many: bool,
    /// Fields that the message does not have are left out; otherwise they are errors.
    pub allow_unknown: bool,
    /// The longest message taken, in bytes of its form. No more of an input than that is held.
    pub max_size: usize,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            many: true,
            allow_unknown: false,
            max_size: MAX_MESSAGE_SIZE,
        }
    }
}

/// How messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Others may follow, from which this one must be told.
    pub many: bool,
    /// Fields without presence are written where they have their default too.
    pub emit_defaults: bool,
}

/// Takes bytes as they arrive, in pieces that end anywhere, and gives messages as they are complete.
/// The pieces' boundaries never change what comes out.
pub trait PayloadDecoder: Send {
    /// Takes the next piece of the input.
    fn feed(&mut self, piece: &[u8]);

    /// The next message, if all of it has been fed. After an error nothing further comes.
    fn next(&mut self) -> Result<Option<DynamicMessage>, DecodeError>;

    /// At the end of the input, once `next` has nothing more: the message that only the end
    /// completes, if there is one. To be asked until it has none.
    fn finish(&mut self) -> Result<Option<DynamicMessage>, DecodeError>;
}

/// A place in an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// In text.
    Text {
        /// The line, counted from 1.
        line: usize,
        /// The character in the line, counted from 1.
        column: usize,
    },
    /// In binary data.
    Byte(u64),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { line, column } => write!(f, "line {line}, column {column}"),
            Self::Byte(offset) => write!(f, "byte {offset}"),
        }
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

impl EncodeError {
    /// The error of `message` in `format`.
    pub fn new(message: &DynamicMessage, format: &'static str, problem: impl fmt::Display) -> Self {
        Self {
            message: message.descriptor().full_name().to_owned(),
            format,
            problem: problem.to_string(),
        }
    }
}

/// The codecs there are, by name.
#[derive(Clone)]
pub struct Codecs(Vec<Arc<dyn PayloadCodec>>);

impl Codecs {
    /// All codecs of this crate.
    pub fn standard() -> Self {
        Self(vec![
            Arc::new(JsonCodec::pretty()),
            Arc::new(JsonCodec::lines()),
            Arc::new(YamlCodec),
            Arc::new(XmlCodec),
            Arc::new(TextCodec),
            Arc::new(BinaryCodec),
        ])
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

    /// The codec that a file's name tells by its extension.
    pub fn of_file(&self, path: &Path) -> Option<Arc<dyn PayloadCodec>> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        self.0
            .iter()
            .find(|codec| codec.extensions().contains(&extension.as_str()))
            .cloned()
    }

    /// A codec that finds out from an input's beginning which of these to read it with.
    pub fn guess(&self) -> Arc<dyn PayloadCodec> {
        Arc::new(GuessCodec::new(self.clone()))
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
