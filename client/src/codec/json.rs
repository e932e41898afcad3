//! Protobuf's JSON mapping in JSON.
//!
//! Input may hold any number of messages, one after the other or one a line.

mod split;
#[cfg(test)]
mod tests;

use prost_reflect::{DynamicMessage, MessageDescriptor};

use super::document::{Document, too_long};
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
        Box::new(JsonDecoder {
            message,
            options,
            splitter: Splitter::new(options.max_size),
        })
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

struct JsonDecoder {
    message: MessageDescriptor,
    options: DecodeOptions,
    splitter: Splitter,
}

impl PayloadDecoder for JsonDecoder {
    fn feed(&mut self, piece: &[u8]) {
        self.splitter.feed(piece);
    }

    fn next(&mut self) -> Result<Option<DynamicMessage>, DecodeError> {
        if let Some(document) = self.splitter.next() {
            return self.decode(&document).map(Some);
        }
        match self.splitter.overflow() {
            None => Ok(None),
            Some(document) => Err(self.refuse(&document)),
        }
    }

    fn finish(&mut self) -> Result<Option<DynamicMessage>, DecodeError> {
        (self.splitter.finish())
            .map(|document| self.decode(&document))
            .transpose()
    }
}

impl JsonDecoder {
    fn decode(&self, document: &Document) -> Result<DynamicMessage, DecodeError> {
        self.parse(document)
            .map_err(|error| self.explain(document, &error))
    }

    fn parse(&self, document: &Document) -> serde_json::Result<DynamicMessage> {
        let mut json = serde_json::Deserializer::from_slice(&document.bytes);
        let decoded = mapping::decode(&self.message, &mut json, self.options)?;
        json.end().map(|()| decoded)
    }

    /// What to say of a document that has been read up to the limit. More often than a message of
    /// that size it is a bracket that is never closed: what is wrong with its beginning says more
    /// than its length.
    fn refuse(&self, document: &Document) -> DecodeError {
        match self.parse(document) {
            Err(error) if !error.is_eof() => self.explain(document, &error),
            _ => too_long(document, self.options.max_size),
        }
    }

    fn explain(&self, document: &Document, error: &serde_json::Error) -> DecodeError {
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
            mapping::explain(&self.message, &mut json, self.options, &problem)
        };
        DecodeError {
            position,
            field,
            problem,
        }
    }
}

/// `serde_json` ends its messages with a position inside the document.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let suffix = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&suffix).map(ToOwned::to_owned).unwrap_or(text)
}
