//! Single values from the text of an element.

use std::fmt::Display;
use std::str::FromStr;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use prost_reflect::{Kind, Value};

use crate::codec::mapping;

const CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);

/// The value of a field of this kind that the text is.
pub(super) fn value(kind: &Kind, text: &str, encoded: bool) -> Result<Value, String> {
    let trimmed = text.trim();
    match kind {
        Kind::String if encoded => String::from_utf8(base64(text)?.into())
            .map(Value::String)
            .map_err(|_| "the base64 is of bytes that are not UTF-8, so they are no string".to_owned()),
        _ if encoded && !matches!(kind, Kind::Bytes) => {
            Err("encoding=\"base64\" is for strings, bytes and messages in an Any".to_owned())
        }
        Kind::String => Ok(Value::String(text.to_owned())),
        Kind::Bytes => base64(text).map(Value::Bytes),
        Kind::Bool => match trimmed {
            "true" | "1" => Ok(Value::Bool(true)),
            "false" | "0" => Ok(Value::Bool(false)),
            _ => Err(wrong(kind, trimmed, "")),
        },
        Kind::Double => float(kind, trimmed).map(Value::F64),
        Kind::Float => float(kind, trimmed).map(Value::F32),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => parse(kind, trimmed).map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => parse(kind, trimmed).map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => parse(kind, trimmed).map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => parse(kind, trimmed).map(Value::U64),
        Kind::Enum(of) => match (of.get_value_by_name(trimmed), trimmed.parse()) {
            (Some(value), _) => Ok(Value::EnumNumber(value.number())),
            (None, Ok(number)) => Ok(Value::EnumNumber(number)),
            (None, Err(_)) => Err(mapping::unknown_value(of, trimmed)),
        },
        Kind::Message(_) => Err(wrong(kind, trimmed, "")),
    }
}

/// The bytes that a text is, with or without padding, in either alphabet, over several lines or in one.
pub(super) fn base64(text: &str) -> Result<Bytes, String> {
    let text: String = text.split_ascii_whitespace().collect();
    let engine = if text.contains(['-', '_']) {
        URL_SAFE
    } else {
        STANDARD
    };
    engine
        .decode(text)
        .map(Bytes::from)
        .map_err(|error| format!("this is not base64: {error}"))
}

fn float<T: FromStr<Err: Display> + Infinite>(kind: &Kind, text: &str) -> Result<T, String> {
    let text = match text {
        "INF" => "inf",
        "-INF" => "-inf",
        text => text,
    };
    let value: T = parse(kind, text)?;
    // A number that is too large is not meant to be an infinite one.
    if value.is_infinite() && text.contains(|character: char| character.is_ascii_digit()) {
        return Err(wrong(kind, text, ": it is too large"));
    }
    Ok(value)
}

trait Infinite {
    fn is_infinite(&self) -> bool;
}

impl Infinite for f32 {
    fn is_infinite(&self) -> bool {
        f32::is_infinite(*self)
    }
}

impl Infinite for f64 {
    fn is_infinite(&self) -> bool {
        f64::is_infinite(*self)
    }
}

fn parse<T: FromStr<Err: Display>>(kind: &Kind, text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|error| wrong(kind, text, &format!(": {error}")))
}

fn wrong(kind: &Kind, text: &str, why: &str) -> String {
    let excerpt: String = text.chars().take(40).collect();
    let takes = mapping::takes(kind).unwrap_or_else(|| "elements".to_owned());
    format!("{excerpt:?} is wrong here{why}; it takes {takes}")
}
