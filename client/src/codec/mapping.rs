//! Protobuf's JSON mapping (<https://protobuf.dev/programming-guides/json/>), by `prost-reflect`,
//! for every format that `serde` has: what most codecs are made of.

mod times;
mod words;

use prost_reflect::{
    DeserializeOptions, DynamicMessage, EnumDescriptor, Kind, MessageDescriptor, SerializeOptions,
};
use serde::{Deserializer, Serializer};
use serde_path_to_error::{Path, Segment, Track};

use super::{DecodeOptions, EncodeOptions};
use crate::suggest;

/// Reads a message.
///
/// # Errors
///
/// The deserializer's; [`explain`] says more of what is wrong and in which field.
pub fn decode<'de, D: Deserializer<'de>>(
    message: &MessageDescriptor,
    deserializer: D,
    options: DecodeOptions,
) -> Result<DynamicMessage, D::Error> {
    let options = DeserializeOptions::new().deny_unknown_fields(!options.allow_unknown);
    DynamicMessage::deserialize_with_options(message.clone(), deserializer, &options)
}

/// Writes a message.
///
/// # Errors
///
/// The serializer's, or that the mapping has no form of the message: it holds an `Any` of an unknown
/// type, or a `Timestamp` or the like that is out of its range.
pub fn encode<S: Serializer>(
    message: &DynamicMessage,
    serializer: S,
    options: EncodeOptions,
) -> Result<S::Ok, S::Error> {
    times::check(message).map_err(serde::ser::Error::custom)?;
    let options = SerializeOptions::new().skip_default_fields(!options.emit_defaults);
    message.serialize_with_options(words::Words(serializer), &options)
}

/// Reads a message that is known to be wrong once more, this time keeping account of the path. Gives
/// the field's path, and `problem` in better words.
pub fn explain<'de, D: Deserializer<'de>>(
    message: &MessageDescriptor,
    deserializer: D,
    options: DecodeOptions,
    problem: &str,
) -> (Option<String>, String) {
    let mut track = Track::new();
    let tracked = serde_path_to_error::Deserializer::new(deserializer, &mut track);
    let _known_to_fail = decode(message, tracked, options);
    let path = track.path();
    let target = target(message, &path);
    let problem = match &target {
        Some(target) => in_better_words(target, problem),
        None => problem.to_owned(),
    };
    (Some(path.to_string()).filter(|path| path != "."), problem)
}

fn in_better_words(target: &Target, problem: &str) -> String {
    let quoted = |prefix: &str| Some(problem.strip_prefix(prefix)?.trim_matches('\''));
    match target {
        Target::Message(message) => quoted("unrecognized field name ")
            .map_or_else(|| problem.to_owned(), |name| unknown_field(message, name)),
        Target::Kind(kind) => match (kind, quoted("unrecognized enum value "), takes(kind)) {
            (Kind::Enum(of), Some(name), _) => unknown_value(of, name),
            (.., Some(takes)) => format!("{problem}; it takes {takes}"),
            _ => problem.to_owned(),
        },
    }
}

/// What is said of a field that a message does not have.
pub(super) fn unknown_field(message: &MessageDescriptor, name: &str) -> String {
    let names: Vec<String> = (message.fields())
        .map(|field| field.json_name().to_owned())
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    suggest::unknown(message.full_name(), "field", name, &names)
}

/// What is said of a name that is none of an enum's.
pub(super) fn unknown_value(of: &EnumDescriptor, name: &str) -> String {
    let names: Vec<String> = of.values().map(|value| value.name().to_owned()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    suggest::unknown(of.full_name(), "value", name, &names)
}

/// What a field of this kind takes, for somebody who wrote something else.
pub(super) fn takes(kind: &Kind) -> Option<String> {
    Some(match kind {
        Kind::Double | Kind::Float => "a number, NaN, Infinity or -Infinity".to_owned(),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            format!("an integer from {} to {}", i32::MIN, i32::MAX)
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            format!("an integer from {} to {}", i64::MIN, i64::MAX)
        }
        Kind::Uint32 | Kind::Fixed32 => format!("an integer from 0 to {}", u32::MAX),
        Kind::Uint64 | Kind::Fixed64 => format!("an integer from 0 to {}", u64::MAX),
        Kind::Bool => "true or false".to_owned(),
        Kind::String => "a string".to_owned(),
        Kind::Bytes => "bytes in base64".to_owned(),
        Kind::Enum(of) => format!("a value of {}", of.full_name()),
        Kind::Message(of) => match of.full_name() {
            "google.protobuf.Timestamp" => "a time such as 2026-01-31T12:00:00.5Z".to_owned(),
            "google.protobuf.Duration" => "a duration in seconds such as 1.5s".to_owned(),
            "google.protobuf.Any" => "an object with the key @type".to_owned(),
            _ => return None,
        },
    })
}

/// What a path leads to.
enum Target {
    /// A message whose field names are wrong, if anything is.
    Message(MessageDescriptor),
    /// A single value.
    Kind(Kind),
}

/// Follows a path; `None` where it leads through an Any or a Struct.
fn target(root: &MessageDescriptor, path: &Path) -> Option<Target> {
    let mut kind = Kind::Message(root.clone());
    let mut in_map = false;
    for segment in path {
        match segment {
            // The element of a list, or a key of a map: of the type that its field said.
            Segment::Seq { .. } => {}
            Segment::Map { .. } if in_map => in_map = false,
            Segment::Map { key } => {
                let Kind::Message(message) = &kind else {
                    return None;
                };
                let (is_map, of) = match message
                    .get_field_by_json_name(key)
                    .or_else(|| message.get_field_by_name(key))
                {
                    Some(field) => (field.is_map(), field.kind()),
                    None => (false, message.get_extension_by_json_name(key)?.kind()),
                };
                in_map = is_map;
                kind = match of {
                    Kind::Message(entry) if is_map => entry.map_entry_value_field().kind(),
                    kind => kind,
                };
            }
            Segment::Enum { .. } | Segment::Unknown => return None,
        }
    }
    Some(match kind {
        Kind::Message(message) if takes(&Kind::Message(message.clone())).is_none() => {
            Target::Message(message)
        }
        kind => Target::Kind(kind),
    })
}
