//! Protobuf's own bytes; several messages with the length before each, as a varint.

use bytes::{Buf as _, BytesMut};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};

use super::{DecodeError, DecodeOptions, EncodeError, EncodeOptions, PayloadCodec, PayloadDecoder, Position};

/// The longest length prefix.
const MAX_PREFIX: usize = 10;

/// The codec `binary`. One message, where there can be no other, is its bytes and nothing else.
#[derive(Clone, Copy, Debug)]
pub struct BinaryCodec;

impl PayloadCodec for BinaryCodec {
    fn name(&self) -> &'static str {
        "binary"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["binpb", "pb", "bin"]
    }

    fn is_text(&self) -> bool {
        false
    }

    fn recognizes(&self, beginning: &[u8]) -> bool {
        match str::from_utf8(beginning) {
            Ok(text) => text
                .chars()
                .any(|character| character.is_control() && !character.is_whitespace() && character != '\x1E'),
            // A character that is cut off at the end may be completed by what follows.
            Err(error) => error.error_len().is_some(),
        }
    }

    fn decoder(&self, message: MessageDescriptor, options: DecodeOptions) -> Box<dyn PayloadDecoder> {
        Box::new(BinaryDecoder {
            message,
            options,
            buffer: BytesMut::new(),
            offset: 0,
            done: false,
        })
    }

    fn encode(
        &self,
        message: &DynamicMessage,
        options: EncodeOptions,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let written = if options.many {
            message.encode_length_delimited(out)
        } else {
            message.encode(out)
        };
        written.map_err(|error| EncodeError::new(message, self.name(), error))
    }
}

struct BinaryDecoder {
    message: MessageDescriptor,
    options: DecodeOptions,
    buffer: BytesMut,
    /// How many bytes of the input came before the buffer.
    offset: usize,
    /// The one message of an input that has one was given.
    done: bool,
}

impl PayloadDecoder for BinaryDecoder {
    fn feed(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    fn next(&mut self) -> Result<Option<DynamicMessage>, DecodeError> {
        if !self.options.many {
            return if self.buffer.len() > self.options.max_size {
                Err(self.too_long(0, None))
            } else {
                Ok(None)
            };
        }
        let mut rest = &self.buffer[..];
        let length = match prost::decode_length_delimiter(&mut rest) {
            Ok(length) => length,
            Err(_) if self.buffer.len() < MAX_PREFIX => return Ok(None),
            Err(error) => return Err(self.error(0, format!("this is no length of a message: {error}"))),
        };
        let prefix = self.buffer.len() - rest.len();
        if length > self.options.max_size {
            return Err(self.too_long(prefix, Some(length)));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let decoded = DynamicMessage::decode(self.message.clone(), rest.get(..length).unwrap_or(rest));
        let decoded = decoded.map_err(|error| self.error(prefix, error.to_string()))?;
        self.buffer.advance(prefix + length);
        self.offset += prefix + length;
        Ok(Some(decoded))
    }

    fn finish(&mut self) -> Result<Option<DynamicMessage>, DecodeError> {
        if self.options.many {
            return match self.buffer.len() {
                0 => Ok(None),
                rest => Err(self.error(
                    rest,
                    format!(
                        "the input ends in the middle of the message that begins at byte {}; \
                         each message needs its length before it, as a varint",
                        self.offset
                    ),
                )),
            };
        }
        if std::mem::replace(&mut self.done, true) {
            return Ok(None);
        }
        DynamicMessage::decode(self.message.clone(), &self.buffer[..])
            .map(Some)
            .map_err(|error| self.error(0, error.to_string()))
    }
}

impl BinaryDecoder {
    fn error(&self, at: usize, problem: String) -> DecodeError {
        DecodeError {
            position: Position::Byte((self.offset + at) as u64),
            field: None,
            problem,
        }
    }

    fn too_long(&self, at: usize, length: Option<usize>) -> DecodeError {
        let length = length.map_or_else(String::new, |length| format!("{length} bytes long, "));
        let problem = format!(
            "the message that begins here is {length}longer than {} bytes; --max-message-size takes longer ones",
            self.options.max_size
        );
        self.error(at, problem)
    }
}
