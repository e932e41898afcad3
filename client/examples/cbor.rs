//! A payload codec of one's own: CBOR (RFC 8949), with protobuf's JSON mapping in it; several messages
//! are a CBOR sequence (RFC 8742).
//!
//! ```sh
//! cargo run -p adit-client --example cbor
//! ```

use std::error::Error;
use std::sync::Arc;

use adit_client::codec::{
    Codecs, DecodeError, DecodeOptions, EncodeError, EncodeOptions, PayloadCodec, PayloadDecoder, Position,
    mapping,
};
use cbor4ii::core::error::DecodeError as Malformed;
use cbor4ii::core::utils::{BufWriter, IoReader};
use cbor4ii::serde::{Deserializer, Serializer};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

/// What `--format` would call it.
struct CborCodec;

impl PayloadCodec for CborCodec {
    fn name(&self) -> &'static str {
        "cbor"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["cbor"]
    }

    fn is_text(&self) -> bool {
        false
    }

    fn decoder(&self, message: MessageDescriptor, options: DecodeOptions) -> Box<dyn PayloadDecoder> {
        Box::new(CborDecoder {
            message,
            options,
            unread: Vec::new(),
            offset: 0,
        })
    }

    fn encode(
        &self,
        message: &DynamicMessage,
        options: EncodeOptions,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let mut serializer = Serializer::new(BufWriter::new(Vec::new()));
        mapping::encode(message, &mut serializer, options)
            .map_err(|error| EncodeError::new(message, self.name(), error))?;
        out.extend(serializer.into_inner().into_inner());
        Ok(())
    }
}

struct CborDecoder {
    message: MessageDescriptor,
    options: DecodeOptions,
    unread: Vec<u8>,
    /// How many bytes of the input came before.
    offset: usize,
}

impl PayloadDecoder for CborDecoder {
    fn feed(&mut self, piece: &[u8]) {
        self.unread.extend_from_slice(piece);
    }

    fn next(&mut self) -> Result<Option<DynamicMessage>, DecodeError> {
        let mut rest = &self.unread[..];
        let mut deserializer = Deserializer::new(IoReader::new(&mut rest));
        let decoded = mapping::decode(&self.message, &mut deserializer, self.options);
        match decoded {
            Ok(message) => {
                let read = self.unread.len() - rest.len();
                self.offset += read;
                self.unread.drain(..read);
                Ok(Some(message))
            }
            // More of it may come, but no more than a message may have.
            Err(cbor4ii::serde::DecodeError::Core(
                Malformed::Eof { .. } | Malformed::RequireLength { .. },
            )) if self.unread.len() <= self.options.max_size => Ok(None),
            Err(error) => {
                let mut again = &self.unread[..];
                let mut deserializer = Deserializer::new(IoReader::new(&mut again));
                let (field, problem) =
                    mapping::explain(&self.message, &mut deserializer, self.options, &error.to_string());
                Err(self.error(field, problem))
            }
        }
    }

    fn finish(&mut self) -> Result<Option<DynamicMessage>, DecodeError> {
        match self.unread.len() {
            0 => Ok(None),
            _ => Err(self.error(None, "the input ends in the middle of a message".to_owned())),
        }
    }
}

impl CborDecoder {
    /// An error in the message that begins at what is unread.
    fn error(&self, field: Option<String>, problem: String) -> DecodeError {
        DecodeError {
            position: Position::Byte(self.offset as u64),
            field,
            problem,
        }
    }
}

/// Reads messages as JSON and writes them with the codec called `format`.
fn converted(json: &[u8], from: &str, to: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut codecs = Codecs::standard();
    codecs.register(Arc::new(CborCodec));
    let codec = |name| codecs.get(name).ok_or("there is no such codec");
    let message = DescriptorPool::global()
        .get_message_by_name("google.protobuf.Struct")
        .ok_or("the well-known types are not there")?;

    let mut decoder = codec(from)?.decoder(message, DecodeOptions::default());
    decoder.feed(json);
    let options = EncodeOptions {
        many: true,
        ..EncodeOptions::default()
    };
    let mut out = Vec::new();
    while let Some(message) = decoder.next()? {
        codec(to)?.encode(&message, options, &mut out)?;
    }
    while let Some(message) = decoder.finish()? {
        codec(to)?.encode(&message, options, &mut out)?;
    }
    Ok(out)
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> Result<(), Box<dyn Error>> {
    let cbor = converted(br#"{"a": [1, "x", true]} {"b": "c"}"#, "json", "cbor")?;
    let hex: Vec<String> = cbor.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{}", hex.join(" "));
    println!("{}", String::from_utf8(converted(&cbor, "cbor", "yaml")?)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Error, converted};

    #[test]
    fn there_and_back_is_the_same() -> Result<(), Box<dyn Error>> {
        let json = b"{\"a\":[1.0,\"x\",true]}\n{\"b\":\"c\"}\n";
        let cbor = converted(json, "ndjson", "cbor")?;
        assert_eq!(cbor.first(), Some(&0xA1), "a map of one pair");
        assert_eq!(converted(&cbor, "cbor", "ndjson")?, json);
        assert!(converted(&cbor[..5], "cbor", "json").is_err());
        assert!(converted(b"\x01", "cbor", "json").is_err());
        Ok(())
    }
}
