//! Protobuf's JSON mapping (<https://protobuf.dev/programming-guides/json/>), by `prost-reflect`.
//!
//! Input may hold any number of messages, one after the other or one a line.

mod split;
#[cfg(test)]
mod tests;

use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, SerializeOptions};

use super::{DecodeError, EncodeError, PayloadCodec, PayloadDecoder, Position};
use crate::MAX_MESSAGE_SIZE;
use split::{Document, Splitter};

/// How many of a message's fields are named when one is not known.
const FIELDS_NAMED: usize = 20;

/// The codec `json`.
#[derive(Clone, Copy, Debug)]
pub struct JsonCodec;

impl PayloadCodec for JsonCodec {
    fn name(&self) -> &'static str {
        "json"
    }

    fn decoder(&self, message: MessageDescriptor) -> Box<dyn PayloadDecoder> {
        Box::new(JsonDecoder {
            message,
            splitter: Splitter::new(MAX_MESSAGE_SIZE),
        })
    }

    fn encode(&self, message: &DynamicMessage, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let mut serializer = serde_json::Serializer::pretty(&mut *out);
        message
            .serialize_with_options(&mut serializer, &SerializeOptions::new())
            .map_err(|error| EncodeError {
                message: prost_reflect::ReflectMessage::descriptor(message)
                    .full_name()
                    .to_owned(),
                format: self.name(),
                problem: error.to_string(),
            })?;
        out.push(b'\n');
        Ok(())
    }
}

struct JsonDecoder {
    message: MessageDescriptor,
    splitter: Splitter,
}

impl PayloadDecoder for JsonDecoder {
    fn feed(&mut self, piece: &[u8]) {
        self.splitter.feed(piece);
    }

    fn next(&mut self) -> Result<Option<DynamicMessage>, DecodeError> {
        if let Some(document) = self.splitter.next() {
            return decode(&self.message, &document).map(Some);
        }
        match self.splitter.overflow() {
            None => Ok(None),
            Some(document) => Err(too_long(&self.message, &document)),
        }
    }

    fn finish(&mut self) -> Result<Option<DynamicMessage>, DecodeError> {
        self.splitter
            .finish()
            .map(|document| decode(&self.message, &document))
            .transpose()
    }
}

fn decode(message: &MessageDescriptor, document: &Document) -> Result<DynamicMessage, DecodeError> {
    parse(message, document).map_err(|error| explain(message, document, &error))
}

fn parse(message: &MessageDescriptor, document: &Document) -> serde_json::Result<DynamicMessage> {
    let mut json = serde_json::Deserializer::from_slice(&document.bytes);
    let decoded = DynamicMessage::deserialize(message.clone(), &mut json)?;
    json.end().map(|()| decoded)
}

/// What to say of a document that has been read up to the limit. More often than a message of that
/// size it is a bracket that is never closed: what is wrong with its beginning says more than its
/// length.
fn too_long(message: &MessageDescriptor, document: &Document) -> DecodeError {
    match parse(message, document) {
        Err(error) if !error.is_eof() => explain(message, document, &error),
        _ => DecodeError {
            position: document.start,
            field: None,
            problem: format!("the message that begins here is longer than {MAX_MESSAGE_SIZE} bytes"),
        },
    }
}

/// Reads a document that is known to be wrong once more, this time keeping account of the path.
fn explain(message: &MessageDescriptor, document: &Document, error: &serde_json::Error) -> DecodeError {
    let position = document.position_of(error);
    let problem = without_position(error);
    if error.is_eof() {
        let problem = format!("{problem}; the message began at {}", document.start);
        return DecodeError {
            position,
            field: None,
            problem,
        };
    }
    if error.is_syntax() {
        return DecodeError {
            position,
            field: None,
            problem,
        };
    }
    let mut json = serde_json::Deserializer::from_slice(&document.bytes);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let _known_to_fail = DynamicMessage::deserialize(message.clone(), tracked);
    let path = track.path();
    let problem = match problem.strip_prefix("unrecognized field name ") {
        Some(name) => unknown_field(name, message_at(message, &path)),
        None => problem,
    };
    let field = Some(path.to_string()).filter(|path| path != ".");
    DecodeError {
        position,
        field,
        problem,
    }
}

fn unknown_field(name: &str, message: Option<MessageDescriptor>) -> String {
    let Some(message) = message else {
        return format!("there is no field {name}");
    };
    let fields: Vec<_> = message
        .fields()
        .map(|field| field.json_name().to_owned())
        .collect();
    let known = match fields.len() {
        0 => "it has no fields".to_owned(),
        all if all > FIELDS_NAMED => {
            format!(
                "it has {all} fields, among them {}",
                fields.get(..FIELDS_NAMED).unwrap_or_default().join(", ")
            )
        }
        _ => format!("it has {}", fields.join(", ")),
    };
    format!("{} has no field {name}; {known}", message.full_name())
}

/// The type of the message at a path; `None` where the path leads through an Any or a Struct.
fn message_at(root: &MessageDescriptor, path: &serde_path_to_error::Path) -> Option<MessageDescriptor> {
    use serde_path_to_error::Segment;

    let mut message = root.clone();
    let mut in_map = false;
    for segment in path {
        match segment {
            // The element of a list, or a key of a map: of the type that its field said.
            Segment::Seq { .. } => {}
            Segment::Map { .. } if in_map => in_map = false,
            Segment::Map { key } => {
                let field = message
                    .get_field_by_json_name(key)
                    .or_else(|| message.get_field_by_name(key))?;
                in_map = field.is_map();
                let kind = match field.kind() {
                    Kind::Message(entry) if in_map => entry.map_entry_value_field().kind(),
                    kind => kind,
                };
                match kind {
                    Kind::Message(inner) => message = inner,
                    _ => return None,
                }
            }
            Segment::Enum { .. } | Segment::Unknown => return None,
        }
    }
    (message.full_name() != "google.protobuf.Any").then_some(message)
}

/// `serde_json` ends its messages with a position inside the document.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let suffix = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&suffix).map(ToOwned::to_owned).unwrap_or(text)
}

impl Document {
    fn position_of(&self, error: &serde_json::Error) -> Position {
        self.position(error.line(), error.column())
    }
}
