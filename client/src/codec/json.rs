//! Protobuf's JSON mapping in JSON.
//!
//! Input may hold any number of messages, one after the other or one a line.

mod split;
#[cfg(test)]
mod tests;

use prost_reflect::{DynamicMessage, MessageDescriptor};

use super::document::{Document, DocumentDecoder, Read, too_long};
use super::{DecodeError, DecodeOptions, EncodeError, EncodeOptions, PayloadCodec, PayloadDecoder, mapping};
use split::Splitter;

/// The codecs `json` and `ndjson`, which read the same and write JSON over several lines or in one.
#[derive(Clone, Copy, Debug)]
pub struct JsonCodec {
    lines: bool,
}

impl JsonCodec {
    /// `json`: indented, for people.
    pub const fn pretty() -> Self {
        Self { lines: false }
    }

    /// `ndjson`: each message is a line, for programs that read lines.
    pub const fn lines() -> Self {
        Self { lines: true }
    }
}

impl PayloadCodec for JsonCodec {
    fn name(&self) -> &'static str {
        if self.lines { "ndjson" } else { "json" }
    }

    fn extensions(&self) -> &'static [&'static str] {
        if self.lines {
            &["ndjson", "jsonl"]
        } else {
            &["json"]
        }
    }

    fn recognizes(&self, beginning: &[u8]) -> bool {
        matches!(beginning.first(), Some(b'{' | b'[' | b'"'))
    }

    fn decoder(&self, message: MessageDescriptor, options: DecodeOptions) -> Box<dyn PayloadDecoder> {
        Box::new(DocumentDecoder::new(
            message,
            options,
            Splitter::new(options.max_size),
            JsonReader,
        ))
    }

    fn encode(
        &self,
        message: &DynamicMessage,
        options: EncodeOptions,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let written = if self.lines {
            mapping::encode(message, &mut serde_json::Serializer::new(&mut *out), options)
        } else {
            mapping::encode(message, &mut serde_json::Serializer::pretty(&mut *out), options)
        };
        written.map_err(|error| EncodeError::new(message, self.name(), error))?;
        out.push(b'\n');
        Ok(())
    }
}

struct JsonReader;

impl Read for JsonReader {
    fn read(
        &self,
        message: &MessageDescriptor,
        document: &Document,
        options: DecodeOptions,
    ) -> Result<DynamicMessage, DecodeError> {
        parse(message, document, options).map_err(|error| explain(message, document, options, &error))
    }

    /// More often than a message of that size it is a bracket that is never closed: what is wrong with
    /// its beginning says more than its length.
    fn refuse(
        &self,
        message: &MessageDescriptor,
        document: &Document,
        options: DecodeOptions,
    ) -> DecodeError {
        match parse(message, document, options) {
            Err(error) if !error.is_eof() => explain(message, document, options, &error),
            _ => too_long(document, options.max_size),
        }
    }
}

fn parse(
    message: &MessageDescriptor,
    document: &Document,
    options: DecodeOptions,
) -> serde_json::Result<DynamicMessage> {
    let mut json = serde_json::Deserializer::from_slice(&document.bytes);
    let decoded = mapping::decode(message, &mut json, options)?;
    json.end().map(|()| decoded)
}

fn explain(
    message: &MessageDescriptor,
    document: &Document,
    options: DecodeOptions,
    error: &serde_json::Error,
) -> DecodeError {
    let position = document.position(error.line(), error.column()).into();
    let problem = without_position(error);
    let (field, problem) = if error.is_eof() {
        (
            None,
            format!("{problem}; the message began at {}", document.start),
        )
    } else if error.is_syntax() {
        (None, problem)
    } else {
        let mut json = serde_json::Deserializer::from_slice(&document.bytes);
        mapping::explain(message, &mut json, options, &problem)
    };
    DecodeError {
        position,
        field,
        problem,
    }
}

/// `serde_json` ends its messages with a position inside the document.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let suffix = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&suffix).map(ToOwned::to_owned).unwrap_or(text)
}
