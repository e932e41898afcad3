//! Protobuf's text format (<https://protobuf.dev/reference/protobuf/textformat-spec/>), by
//! `prost-reflect`.
//!
//! Several messages have a record separator (0x1E) between them, as grpcurl has it: the format itself
//! has nothing to tell one message from the next.

mod split;

use prost_reflect::text_format::{FormatOptions, ParseError};
use prost_reflect::{DynamicMessage, MessageDescriptor};

use super::document::{Document, too_long};
use super::{
    DecodeError, DecodeOptions, EncodeError, EncodeOptions, MAX_DEPTH, PayloadCodec, PayloadDecoder, mapping,
};
use split::{Record, Splitter};

/// Between two messages.
const RECORD_SEPARATOR: u8 = 0x1E;

/// The codec `text`.
#[derive(Clone, Copy, Debug)]
pub struct TextCodec;

impl PayloadCodec for TextCodec {
    fn name(&self) -> &'static str {
        "text"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["txtpb", "textproto", "textpb", "pbtxt", "prototxt"]
    }

    /// `name {`, `name <` or `name:value`: what has a space after the colon is YAML too.
    fn recognizes(&self, beginning: &[u8]) -> bool {
        let name = beginning
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_')
            .count();
        let rest = beginning.get(name..).unwrap_or_default();
        let value = rest.strip_prefix(b":").unwrap_or_default();
        let opens = |text: &[u8]| matches!(text.trim_ascii_start().first(), Some(b'{' | b'<'));
        name > 0 && (opens(rest) || value.first().is_some_and(|byte| !byte.is_ascii_whitespace()))
    }

    fn decoder(&self, message: MessageDescriptor, options: DecodeOptions) -> Box<dyn PayloadDecoder> {
        Box::new(TextDecoder {
            message,
            options,
            splitter: Splitter::new(options.max_size),
            given: 0,
        })
    }

    fn encode(
        &self,
        message: &DynamicMessage,
        options: EncodeOptions,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let format = FormatOptions::new()
            .pretty(true)
            .skip_default_fields(!options.emit_defaults);
        let text = message.to_text_format_with_options(&format);
        out.extend_from_slice(text.as_bytes());
        if !text.is_empty() {
            out.push(b'\n');
        }
        if options.many {
            out.extend_from_slice(&[RECORD_SEPARATOR, b'\n']);
        }
        Ok(())
    }
}

struct TextDecoder {
    message: MessageDescriptor,
    options: DecodeOptions,
    splitter: Splitter,
    given: usize,
}

impl PayloadDecoder for TextDecoder {
    fn feed(&mut self, piece: &[u8]) {
        self.splitter.feed(piece);
    }

    fn next(&mut self) -> Result<Option<DynamicMessage>, DecodeError> {
        match self.splitter.next() {
            None => Ok(None),
            Some(record) => self.decode(record).map(Some),
        }
    }

    fn finish(&mut self) -> Result<Option<DynamicMessage>, DecodeError> {
        match self.splitter.finish() {
            // Nothing at all is how the format writes an empty message.
            None if !self.options.many && self.given == 0 => {
                self.given += 1;
                Ok(Some(DynamicMessage::new(self.message.clone())))
            }
            None => Ok(None),
            Some(record) => self.decode(record).map(Some),
        }
    }
}

impl TextDecoder {
    fn decode(&mut self, record: Record) -> Result<DynamicMessage, DecodeError> {
        self.given += 1;
        let document = match record {
            Record::Whole(document) => document,
            Record::TooLong(document) => return Err(too_long(&document, self.options.max_size)),
            Record::TooDeep(document) => {
                return Err(DecodeError {
                    position: document.at(document.bytes.len()).into(),
                    field: None,
                    problem: format!("messages are nested more than {MAX_DEPTH} deep here"),
                });
            }
        };
        DynamicMessage::parse_text_format(self.message.clone(), document.text()?)
            .map_err(|error| self.explain(&document, &error))
    }

    fn explain(&self, document: &Document, error: &ParseError) -> DecodeError {
        use miette::Diagnostic as _;

        let offset = error
            .labels()
            .and_then(|mut labels| labels.next())
            .map_or(document.bytes.len(), |label| label.offset());
        DecodeError {
            position: document.at(offset).into(),
            field: None,
            problem: self.in_better_words(&error.to_string()),
        }
    }

    fn in_better_words(&self, problem: &str) -> String {
        let pool = self.message.parent_pool();
        let words: Vec<&str> = problem.split('\'').collect();
        let better = match words.as_slice() {
            ["field ", name, " not found for message ", message, ""] => pool
                .get_message_by_name(message)
                .map(|message| mapping::unknown_field(&message, name)),
            ["value ", name, " was not found for enum ", of, ""] => pool
                .get_enum_by_name(of)
                .map(|of| mapping::unknown_value(&of, name)),
            _ => None,
        };
        better.unwrap_or_else(|| problem.to_owned())
    }
}
