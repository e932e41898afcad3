//! A message as XML.

use std::collections::HashMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MapKey, ReflectMessage as _, Value};

use super::super::EncodeOptions;
use super::{ANY, BASE64, ENCODING, ENTRY, EXTENSION, KEY, NAME, TYPE, VALUE, is_forbidden, is_wrapper};

/// Spaces for each level.
const INDENT: usize = 2;

/// Writes a message as an element.
pub(super) fn document(
    message: &DynamicMessage,
    options: EncodeOptions,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let of = message.descriptor();
    let mut writer = Writer {
        text: String::new(),
        options,
        types: of.parent_pool().clone(),
    };
    writer.message(0, &Tag::named(of.name()), message)?;
    out.extend_from_slice(writer.text.as_bytes());
    Ok(())
}

struct Writer {
    text: String,
    options: EncodeOptions,
    /// What an Any may hold.
    types: DescriptorPool,
}

/// The name of an element and an attribute.
#[derive(Clone)]
struct Tag {
    name: String,
    attributes: String,
}

impl Tag {
    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            attributes: String::new(),
        }
    }

    fn with(mut self, attribute: &str, value: &str) -> Self {
        self.attributes.push_str(&format!(" {attribute}=\""));
        escape(value, &mut self.attributes);
        self.attributes.push('"');
        self
    }
}

impl Writer {
    fn message(&mut self, depth: usize, tag: &Tag, message: &DynamicMessage) -> Result<(), String> {
        match message.descriptor().full_name() {
            ANY => return self.any(depth, tag, message),
            "google.protobuf.Timestamp" | "google.protobuf.Duration" => {
                let text = serde_json::to_value(message).map_err(|error| error.to_string())?;
                self.text(depth, tag, text.as_str().unwrap_or_default());
                return Ok(());
            }
            "google.protobuf.FieldMask" => {
                let paths = message.get_field_by_number(1);
                let paths = paths
                    .as_ref()
                    .and_then(|paths| paths.as_list())
                    .unwrap_or_default();
                let paths: Vec<&str> = paths.iter().filter_map(Value::as_str).collect();
                self.text(depth, tag, &paths.join(","));
                return Ok(());
            }
            name if is_wrapper(name) => {
                if let Some(field) = message.descriptor().get_field(1) {
                    return self.value(depth, tag, &field.kind(), &message.get_field(&field));
                }
            }
            _ => {}
        }
        self.fields(depth, tag, message)
    }

    fn fields(&mut self, depth: usize, tag: &Tag, message: &DynamicMessage) -> Result<(), String> {
        let begin = self.text.len();
        self.start(depth, tag, ">\n");
        let inside = self.text.len();
        for field in message.descriptor().fields() {
            // A field without presence that has its default, if defaults are asked for.
            let default = self.options.emit_defaults && !field.supports_presence();
            if message.has_field(&field) || default {
                let tag = Tag::named(field.name());
                self.field(depth + 1, &tag, &field.kind(), &message.get_field(&field))?;
            }
        }
        for (extension, value) in message.extensions() {
            let tag = Tag::named(EXTENSION).with(NAME, extension.full_name());
            self.field(depth + 1, &tag, &extension.kind(), value)?;
        }
        if self.text.len() == inside {
            self.text.truncate(begin);
            self.start(depth, tag, "/>\n");
        } else {
            self.indent(depth);
            self.end(tag);
        }
        Ok(())
    }

    /// A field with all that it holds.
    fn field(&mut self, depth: usize, tag: &Tag, kind: &Kind, value: &Value) -> Result<(), String> {
        match value {
            Value::List(items) => items
                .iter()
                .try_for_each(|item| self.value(depth, tag, kind, item)),
            Value::Map(entries) => self.map(depth, tag, kind, entries),
            value => self.value(depth, tag, kind, value),
        }
    }

    fn map(
        &mut self,
        depth: usize,
        tag: &Tag,
        kind: &Kind,
        entries: &HashMap<MapKey, Value>,
    ) -> Result<(), String> {
        let (Kind::Message(entry), false) = (kind, entries.is_empty()) else {
            return Ok(());
        };
        let (key_kind, value_kind) = (
            entry.map_entry_key_field().kind(),
            entry.map_entry_value_field().kind(),
        );
        let mut entries: Vec<_> = entries.iter().collect();
        entries.sort_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        self.start(depth, tag, ">\n");
        for (key, value) in entries {
            self.start(depth + 1, &Tag::named(ENTRY), ">\n");
            let key = Value::from(key.clone());
            self.value(depth + 2, &Tag::named(KEY), &key_kind, &key)?;
            self.value(depth + 2, &Tag::named(VALUE), &value_kind, value)?;
            self.indent(depth + 1);
            self.end(&Tag::named(ENTRY));
        }
        self.indent(depth);
        self.end(tag);
        Ok(())
    }

    fn value(&mut self, depth: usize, tag: &Tag, kind: &Kind, value: &Value) -> Result<(), String> {
        match value {
            Value::Bool(value) => self.text(depth, tag, &value.to_string()),
            Value::I32(value) => self.text(depth, tag, &value.to_string()),
            Value::I64(value) => self.text(depth, tag, &value.to_string()),
            Value::U32(value) => self.text(depth, tag, &value.to_string()),
            Value::U64(value) => self.text(depth, tag, &value.to_string()),
            Value::F32(value) => self.text(depth, tag, &number(f64::from(*value), format!("{value:?}"))),
            Value::F64(value) => self.text(depth, tag, &number(*value, format!("{value:?}"))),
            // What XML cannot hold even escaped goes as the bytes that it is in UTF-8.
            Value::String(value) if value.contains(is_forbidden) => {
                let tag = tag.clone().with(ENCODING, BASE64);
                self.text(depth, &tag, &STANDARD.encode(value));
            }
            Value::String(value) => self.text(depth, tag, value),
            Value::Bytes(value) => self.text(depth, tag, &STANDARD.encode(value)),
            Value::EnumNumber(number) => {
                let name = match kind {
                    Kind::Enum(of) => of.get_value(*number).map(|value| value.name().to_owned()),
                    _ => None,
                };
                self.text(depth, tag, &name.unwrap_or_else(|| number.to_string()));
            }
            Value::Message(message) => return self.message(depth, tag, message),
            Value::List(_) | Value::Map(_) => return Err("a list or a map within a list or a map".to_owned()),
        }
        Ok(())
    }

    /// The message in an Any, or its bytes where its type is not known.
    fn any(&mut self, depth: usize, tag: &Tag, any: &DynamicMessage) -> Result<(), String> {
        let any: prost_types::Any = any.transcode_to().map_err(|error| error.to_string())?;
        if any == prost_types::Any::default() {
            self.start(depth, tag, "/>\n");
            return Ok(());
        }
        let tag = tag.clone().with(TYPE, &any.type_url);
        let name = any.type_url.rsplit('/').next().unwrap_or_default();
        let inner = self.types.get_message_by_name(name);
        let inner = inner.and_then(|of| DynamicMessage::decode(of, &any.value[..]).ok());
        match inner {
            // The type of an Any in an Any needs an element of its own.
            Some(inner) if inner.descriptor().full_name() == ANY && inner.encode_to_vec() == any.value => {
                self.start(depth, &tag, ">\n");
                self.message(depth + 1, &Tag::named(VALUE), &inner)?;
                self.indent(depth);
                self.end(&tag);
                Ok(())
            }
            // Only what comes back the same is shown in full.
            Some(inner) if !needs_encoding(&inner) && inner.encode_to_vec() == any.value => {
                self.message(depth, &tag, &inner)
            }
            _ => {
                self.text(depth, &tag.with(ENCODING, BASE64), &STANDARD.encode(&any.value));
                Ok(())
            }
        }
    }

    fn text(&mut self, depth: usize, tag: &Tag, text: &str) {
        self.start(depth, tag, ">");
        escape(text, &mut self.text);
        self.end(tag);
    }

    fn start(&mut self, depth: usize, tag: &Tag, close: &str) {
        self.indent(depth);
        // Writing to a string cannot fail.
        let _ = write!(self.text, "<{}{}{close}", tag.name, tag.attributes);
    }

    fn end(&mut self, tag: &Tag) {
        let _ = writeln!(self.text, "</{}>", tag.name);
    }

    fn indent(&mut self, depth: usize) {
        self.text.extend(std::iter::repeat_n(' ', depth * INDENT));
    }
}

/// A number as it is read back, without a row of zeros where it is very large or very small.
fn number(value: f64, shown: String) -> String {
    if value.is_infinite() {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}Infinity");
    }
    shown
}

/// A text alone that XML cannot hold: an Any's element says already that it is base64 by another rule.
fn needs_encoding(message: &DynamicMessage) -> bool {
    message.descriptor().full_name() == "google.protobuf.StringValue"
        && message
            .get_field_by_number(1)
            .is_some_and(|value| value.as_str().is_some_and(|text| text.contains(is_forbidden)))
}

/// Appends text so that it is read back as it is.
fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML reads the end of a line as \n, whatever it was, and a terminal obeys the others.
            '\r' | '\u{7F}'..='\u{9F}' | '\u{2028}' => {
                let _ = write!(out, "&#x{:X};", u32::from(character));
            }
            character => out.push(character),
        }
    }
}
