//! An empty request with every field in it, to be filled in.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

/// Types within which the same type is left out, and no more than so many levels.
const MAX_LEVELS: usize = 8;

/// A message of this type in which every field has a value: its default where it has one, one element
/// where it is repeated, and of a oneof the first field. A type within itself is left empty.
pub fn template(of: &MessageDescriptor) -> DynamicMessage {
    message(of, &mut Vec::new())
}

fn message(of: &MessageDescriptor, within: &mut Vec<String>) -> DynamicMessage {
    let mut filled = DynamicMessage::new(of.clone());
    if within.len() >= MAX_LEVELS || within.iter().any(|name| name == of.full_name()) {
        return filled;
    }
    match of.full_name() {
        // JSON has a form of an Any only where it holds something.
        "google.protobuf.Any" => {
            let empty = "type.googleapis.com/google.protobuf.Empty".to_owned();
            filled.set_field_by_number(1, Value::String(empty));
        }
        "google.protobuf.Value" => filled.set_field_by_number(1, Value::EnumNumber(0)),
        "google.protobuf.Struct" | "google.protobuf.ListValue" | "google.protobuf.FieldMask" => {}
        name => {
            within.push(name.to_owned());
            for field in of.fields() {
                let first = field.containing_oneof().and_then(|oneof| oneof.fields().next());
                if first.is_none_or(|first| first == field) {
                    let value = field_value(&field, within);
                    filled.set_field(&field, value);
                }
            }
            within.pop();
        }
    }
    filled
}

fn field_value(field: &FieldDescriptor, within: &mut Vec<String>) -> Value {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            let key = Value::default_value(&entry.map_entry_key_field().kind()).into_map_key();
            let value = value(&entry.map_entry_value_field().kind(), within);
            Value::Map([(key.unwrap_or(MapKey::String(String::new())), value)].into())
        }
        kind if field.is_list() => Value::List(vec![value(&kind, within)]),
        Kind::Message(of) => Value::Message(message(&of, within)),
        _ => field.default_value(),
    }
}

fn value(kind: &Kind, within: &mut Vec<String>) -> Value {
    match kind {
        Kind::Message(of) => Value::Message(message(of, within)),
        kind => Value::default_value(kind),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::template;
    use crate::codec::{Codecs, DecodeOptions, EncodeOptions};
    use crate::testing::message;

    #[test]
    fn a_template_has_every_field_once_and_can_be_read_in_every_form() {
        let of = message("kitchen.Order");
        let order = template(&of);
        let options = EncodeOptions {
            many: false,
            emit_defaults: true,
        };
        let everything = order.get_field_by_name("everything").unwrap().into_owned();
        let everything = everything.as_message().unwrap();
        assert!(everything.has_field_by_name("word") && !everything.has_field_by_name("number"));
        let codecs = Codecs::standard();
        for name in codecs.names() {
            let codec = codecs.get(name).unwrap();
            let mut form = Vec::new();
            codec.encode(&order, options, &mut form).unwrap();
            let many = DecodeOptions {
                many: false,
                ..DecodeOptions::default()
            };
            let mut decoder = codec.decoder(of.clone(), many);
            decoder.feed(&form);
            let read = decoder.next().unwrap();
            assert!(read.or_else(|| decoder.finish().unwrap()).is_some(), "{name}");
            let text = String::from_utf8_lossy(&form);
            if codec.is_text() {
                for field in [
                    "name", "count", "jar", "inner", "children", "wine", "year", "1999", "word",
                ] {
                    assert!(text.contains(field), "{name} lacks {field}: {text}");
                }
            }
        }
    }
}
