//! Messages as XML, by their schema: `docs/xml.md` defines the form.

mod read;
mod split;
mod write;

use prost_reflect::{DynamicMessage, MessageDescriptor};

use super::document::DocumentDecoder;
use super::{DecodeOptions, EncodeError, EncodeOptions, PayloadCodec, PayloadDecoder};
use split::Splitter;

/// The attribute that says of which type an Any is.
const TYPE: &str = "type";
/// The attribute that says how the text of an element is to be read.
const ENCODING: &str = "encoding";
/// The one encoding there is.
const BASE64: &str = "base64";
/// The element of an extension, whose name is in the attribute [`NAME`].
const EXTENSION: &str = "extension";
/// The attribute with the full name of an extension.
const NAME: &str = "name";
/// The elements of a map.
const ENTRY: &str = "entry";
const KEY: &str = "key";
const VALUE: &str = "value";

const ANY: &str = "google.protobuf.Any";

/// The codec `xml`.
#[derive(Clone, Copy, Debug)]
pub struct XmlCodec;

impl PayloadCodec for XmlCodec {
    fn name(&self) -> &'static str {
        "xml"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["xml"]
    }

    fn recognizes(&self, beginning: &[u8]) -> bool {
        beginning.first() == Some(&b'<')
    }

    fn decoder(&self, message: MessageDescriptor, options: DecodeOptions) -> Box<dyn PayloadDecoder> {
        Box::new(DocumentDecoder::new(
            message,
            options,
            Splitter::new(options.max_size),
            read::XmlReader,
        ))
    }

    fn encode(
        &self,
        message: &DynamicMessage,
        options: EncodeOptions,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        write::document(message, options, out)
            .map_err(|problem| EncodeError::new(message, self.name(), problem))
    }
}

/// True if XML 1.0 has no room for a character, however it is written.
fn is_forbidden(character: char) -> bool {
    match character {
        '\t' | '\n' | '\r' => false,
        '\u{FFFE}' | '\u{FFFF}' => true,
        character => character < ' ',
    }
}

/// True for the messages that are one value, and are written as it.
fn is_wrapper(name: &str) -> bool {
    let wrapped = name
        .strip_prefix("google.protobuf.")
        .and_then(|name| name.strip_suffix("Value"));
    matches!(
        wrapped,
        Some("Double" | "Float" | "Int64" | "UInt64" | "Int32" | "UInt32" | "Bool" | "String" | "Bytes")
    )
}
