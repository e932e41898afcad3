#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use proptest::prelude::*;
use prost_reflect::{DynamicMessage, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value};

use super::split::Splitter;
use super::{JsonCodec, PayloadCodec as _, too_long};
use crate::codec::{DecodeError, Position};
use crate::testing::message;

fn decode_all(pieces: &[&[u8]], of: MessageDescriptor) -> Result<Vec<DynamicMessage>, DecodeError> {
    let mut decoder = JsonCodec.decoder(of);
    let mut messages = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        while let Some(message) = decoder.next()? {
            messages.push(message);
        }
    }
    messages.extend(decoder.finish()?);
    Ok(messages)
}

fn error(text: &str) -> String {
    decode_all(&[text.as_bytes()], message("kitchen.Order"))
        .unwrap_err()
        .to_string()
}

fn encoded(message: &DynamicMessage) -> String {
    let mut out = Vec::new();
    JsonCodec.encode(message, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn errors_say_where_and_in_which_field() {
    assert_eq!(
        error("{\"count\": -1}"),
        "line 1, column 12: in field count: out of range integral type conversion attempted"
    );
    assert_eq!(
        error("{}\n{\"everything\": {\"children\": [{}, {\"byName\": {\"ü\": {\"int32\": \"x\"}}}]}}"),
        "line 2, column 63: in field everything.children[1].byName.ü.int32: invalid digit found in string"
    );
    assert_eq!(
        error("{\"jar\": {\"inner\": [{\"lable\": 1}]}}"),
        "line 1, column 27: in field jar.inner[0]: shelf.Jar has no field 'lable'; it has label, inner"
    );
    assert_eq!(
        error("{\"everything\": {\"byName\": {\"a\": {\"nope\": 1}}}}")
            .split("; ")
            .next()
            .unwrap(),
        "line 1, column 39: in field everything.byName.a: kitchen.Everything has no field 'nope'"
    );
    assert!(
        error("{\"everything\": {\"heat\": \"TEPID\"}}")
            .contains("in field everything.heat: unrecognized enum value 'TEPID'")
    );
    assert_eq!(
        error("[]"),
        "line 1, column 1: invalid type: sequence, expected a map"
    );
    assert_eq!(error("{} {]"), "line 1, column 5: key must be a string");
    assert_eq!(error("{}\n\n  soup"), "line 3, column 3: expected value");
    assert_eq!(error("}"), "line 1, column 1: expected value");
    assert_eq!(
        error("{\"name\": \"\u{1}\"}"),
        "line 1, column 11: control character (\\u0000-\\u001F) found while parsing a string"
    );
    assert_eq!(
        error("{\"name\": \"x\"}\n {\"name\":\n"),
        "line 3, column 1: EOF while parsing a value; the message began at line 2, column 2"
    );
    assert_eq!(error("\u{FEFF}\u{FEFF}{}"), "line 1, column 1: expected value");
}

#[test]
fn a_byte_order_mark_before_the_input_is_no_part_of_it() {
    let text = "\u{FEFF} {\"name\": \"x\"}".as_bytes();
    for cut in 0..text.len() {
        let (head, tail) = text.split_at(cut);
        assert_eq!(
            decode_all(&[head, tail], message("kitchen.Order")).unwrap().len(),
            1
        );
    }
    assert_eq!(decode_all(&[], message("kitchen.Order")).unwrap().len(), 0);
}

#[test]
fn messages_that_are_not_objects_are_told_apart_too() {
    let messages = decode_all(
        &[b"\"1970-01-01T00:00:01Z\"\"1970-01-01T00:00:02.5Z\""],
        message("google.protobuf.Timestamp"),
    )
    .unwrap();
    assert_eq!(messages.len(), 2);
    let messages = decode_all(
        &[b"1 -2.5e", b"3 tr", b"ue null[", b"1,\"]\"]{} \"x\" 7"],
        message("google.protobuf.Value"),
    )
    .unwrap();
    let texts: Vec<_> = messages
        .iter()
        .map(|message| serde_json::to_string(message).unwrap())
        .collect();
    assert_eq!(
        texts,
        [
            "1.0",
            "-2500.0",
            "true",
            "null",
            "[1.0,\"]\"]",
            "{}",
            "\"x\"",
            "7.0"
        ]
    );
}

#[test]
fn a_message_is_not_read_past_the_limit() {
    let mut splitter = Splitter::new(12);
    splitter.feed(b"{\"name\":\"\"} {\"name\": \"");
    assert_eq!(&splitter.next().unwrap().bytes[..], b"{\"name\":\"\"}");
    assert!(splitter.next().is_none() && splitter.overflow().is_none());
    splitter.feed(b"0123456789");
    assert!(splitter.next().is_none());
    let document = splitter.overflow().unwrap();
    assert_eq!(document.start, Position { line: 1, column: 13 });
    assert_eq!(document.bytes.len(), 13);
    let error = too_long(&message("kitchen.Order"), &document);
    assert!(error.problem.contains("is longer than"), "{error}");
}

#[test]
fn a_limit_reached_by_a_mistake_tells_the_mistake() {
    let mut splitter = Splitter::new(8);
    splitter.feed(b"[{} {} {} {} {} {}");
    assert!(splitter.next().is_none());
    let error = too_long(&message("kitchen.Order"), &splitter.overflow().unwrap());
    assert_eq!(error.problem, "invalid type: sequence, expected a map");
}

#[test]
fn what_json_has_no_numbers_for_are_words() {
    let mut everything = DynamicMessage::new(message("kitchen.Everything"));
    everything.set_field_by_name("float", Value::F32(f32::NEG_INFINITY));
    everything.set_field_by_name("double", Value::F64(f64::NAN));
    everything.set_field_by_name("uint64", Value::U64(u64::MAX));
    everything.set_field_by_name("heat", Value::EnumNumber(-7));
    everything.set_field_by_name("renamed", Value::I32(1));
    let text = encoded(&everything);
    assert_eq!(
        text.split_whitespace().collect::<String>(),
        r#"{"uint64":"18446744073709551615","float":"-Infinity","double":"NaN","heat":"BURNING","otherName":1}"#
    );
    let back = decode_all(&[text.as_bytes()], message("kitchen.Everything")).unwrap();
    assert!(
        back[0]
            .get_field_by_name("double")
            .unwrap()
            .as_f64()
            .unwrap()
            .is_nan()
    );
}

#[test]
fn an_any_of_an_unknown_type_is_an_error_that_names_it() {
    let any = prost_types::Any {
        type_url: "type.googleapis.com/acme.Leaf".into(),
        value: vec![],
    };
    let mut garnish = DynamicMessage::new(message("google.protobuf.Any"));
    garnish.transcode_from(&any).unwrap();
    let error = JsonCodec.encode(&garnish, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("acme.Leaf"), "{error}");
}

proptest! {
    #[test]
    fn json_and_back_is_the_same_message(Shown(everything) in any_message(message("kitchen.Everything"), 3).prop_map(Shown)) {
        // Over the wire once, so that fields set to their defaults are gone, as they are from JSON.
        let everything = from(&everything.descriptor(), &everything);
        let text = encoded(&everything);
        let back = decode_all(&[text.as_bytes()], everything.descriptor()).unwrap();
        prop_assert!(back == [everything], "{text}");
    }

    #[test]
    fn pieces_may_end_anywhere(
        values in prop::collection::vec(any_json(), 0..5),
        gaps in prop::collection::vec("[ \t\r\n]{1,3}", 5),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut text = String::new();
        for (value, gap) in values.iter().zip(&gaps) {
            text.push_str(gap);
            text.push_str(value);
        }
        // A number or a word ends where white space begins.
        text.push(' ');
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(text.len())).chain([0, text.len()]).collect();
        at.sort_unstable();
        let mut splitter = Splitter::new(usize::MAX);
        let mut found = Vec::new();
        for piece in at.windows(2) {
            splitter.feed(&text.as_bytes()[piece[0]..piece[1]]);
            found.extend(std::iter::from_fn(|| splitter.next()));
        }
        prop_assert_eq!(splitter.finish(), None);
        for document in &found {
            // A document is where it says it is.
            let line = text.split('\n').nth(document.start.line - 1).unwrap();
            let from: String = line.chars().skip(document.start.column - 1).collect();
            let first_line = document.bytes.split(|&byte| byte == b'\n').next().unwrap();
            prop_assert!(from.as_bytes().starts_with(first_line));
        }
        let found: Vec<_> = found.iter().map(|document| std::str::from_utf8(&document.bytes).unwrap()).collect();
        prop_assert_eq!(found, values);
    }

    #[test]
    fn no_input_is_a_panic_and_pieces_never_matter(
        bytes in prop::collection::vec(prop::sample::select(&b"{}[]\"\\ \n,:1tn\xC3\xBC\xEF\xBB\xBF"[..]), 0..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
        let of = || message("google.protobuf.Value");
        prop_assert!(decode_all(&[&bytes], of()) == decode_all(&[head, tail], of()));
    }
}

/// A message shown as JSON: `Debug` of a message whose type holds itself never ends.
struct Shown(DynamicMessage);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&encoded(&self.0))
    }
}

/// JSON values with everything in them that could be taken for the end of one.
fn any_json() -> impl Strategy<Value = String> {
    let string =
        || r#"([a-z{}\[\],: ü€𝄞]|\\\\|\\"|\\n|\\u00e9){0,6}"#.prop_map(|inner| format!("\"{inner}\""));
    let leaf = prop_oneof![
        string(),
        "-?[1-9][0-9]{0,5}",
        Just("true".to_owned()),
        Just("null".to_owned())
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(",\n"))),
            prop::collection::vec((string(), inner), 0..4).prop_map(|items| {
                let members: Vec<_> = items
                    .iter()
                    .map(|(key, value)| format!("{key} : {value}"))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// A message with some of its fields set; NaN, which equals nothing, left out.
fn any_message(of: MessageDescriptor, depth: u32) -> BoxedStrategy<DynamicMessage> {
    match of.full_name() {
        "google.protobuf.Timestamp" => (
            0_i64..4_000_000_000,
            prop::sample::select(vec![0, 5_000_000, 999_999_999]),
        )
            .prop_map(move |(seconds, nanos)| from(&of, &prost_types::Timestamp { seconds, nanos }))
            .boxed(),
        "google.protobuf.Duration" => (0_i64..100_000, 0..1_000_000_000, any::<bool>())
            .prop_map(move |(seconds, nanos, negative)| {
                let sign = if negative { -1 } else { 1 };
                from(
                    &of,
                    &prost_types::Duration {
                        seconds: seconds * i64::from(sign),
                        nanos: nanos * sign,
                    },
                )
            })
            .boxed(),
        "google.protobuf.FieldMask" => prop::collection::vec("[a-z]{1,5}(_[a-z]{1,5}){0,2}", 0..3)
            .prop_map(move |paths| from(&of, &prost_types::FieldMask { paths }))
            .boxed(),
        "google.protobuf.Any" => any::<u64>()
            .prop_map(move |count| {
                let value = prost::Message::encode_to_vec(&crate::testing::dish("x", count));
                from(
                    &of,
                    &prost_types::Any {
                        type_url: "type.googleapis.com/kitchen.Dish".to_owned(),
                        value,
                    },
                )
            })
            .boxed(),
        "google.protobuf.Value" | "google.protobuf.Struct" => {
            let value = any_json();
            value
                .prop_map(move |text| {
                    let value = if of.name() == "Struct" {
                        format!("{{\"a\": {text}}}")
                    } else {
                        text
                    };
                    DynamicMessage::deserialize(of.clone(), &mut serde_json::Deserializer::from_str(&value))
                        .unwrap()
                })
                .boxed()
        }
        _ => {
            let fields: Vec<_> = of.fields().collect();
            let chosen = prop::collection::vec(any::<prop::sample::Index>(), 0..6);
            chosen
                .prop_flat_map(move |chosen| {
                    let picked: Vec<_> = if fields.is_empty() {
                        Vec::new()
                    } else {
                        chosen.iter().map(|index| index.get(&fields).clone()).collect()
                    };
                    let of = of.clone();
                    let values: Vec<_> = picked.iter().map(|field| any_field(field, depth)).collect();
                    values.prop_map(move |values| {
                        let mut message = DynamicMessage::new(of.clone());
                        for (field, value) in picked.iter().zip(values) {
                            if let Some(value) = value {
                                message.set_field(field, value);
                            }
                        }
                        message
                    })
                })
                .boxed()
        }
    }
}

fn from(of: &MessageDescriptor, known: &impl prost::Message) -> DynamicMessage {
    let mut message = DynamicMessage::new(of.clone());
    message.transcode_from(known).unwrap();
    message
}

fn any_field(field: &prost_reflect::FieldDescriptor, depth: u32) -> BoxedStrategy<Option<Value>> {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else {
            panic!("a map is of entries")
        };
        let key = match entry.map_entry_key_field().kind() {
            Kind::Bool => any::<bool>().prop_map(MapKey::Bool).boxed(),
            Kind::Int64 => any::<i64>().prop_map(MapKey::I64).boxed(),
            _ => ".{0,4}".prop_map(MapKey::String).boxed(),
        };
        let Some(value) = any_value(&entry.map_entry_value_field().kind(), depth) else {
            return Just(None).boxed();
        };
        return prop::collection::hash_map(key, value, 0..3)
            .prop_map(|map| Some(Value::Map(map)))
            .boxed();
    }
    let Some(value) = any_value(&field.kind(), depth) else {
        return Just(None).boxed();
    };
    if field.is_list() {
        return prop::collection::vec(value, 0..3)
            .prop_map(|list| Some(Value::List(list)))
            .boxed();
    }
    value.prop_map(Some).boxed()
}

fn any_value(kind: &Kind, depth: u32) -> Option<BoxedStrategy<Value>> {
    Some(match kind {
        Kind::Double => prop::num::f64::NORMAL.prop_map(Value::F64).boxed(),
        Kind::Float => prop::num::f32::NORMAL.prop_map(Value::F32).boxed(),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => any::<i32>().prop_map(Value::I32).boxed(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => any::<i64>().prop_map(Value::I64).boxed(),
        Kind::Uint32 | Kind::Fixed32 => any::<u32>().prop_map(Value::U32).boxed(),
        Kind::Uint64 | Kind::Fixed64 => any::<u64>().prop_map(Value::U64).boxed(),
        Kind::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Kind::String => ".{0,8}".prop_map(Value::String).boxed(),
        Kind::Bytes => prop::collection::vec(any::<u8>(), 0..8)
            .prop_map(|bytes| Value::Bytes(bytes.into()))
            .boxed(),
        Kind::Enum(of) if of.name() == "NullValue" => Just(Value::EnumNumber(0)).boxed(),
        // An open enum: a number without a name is kept.
        Kind::Enum(_) => prop::sample::select(vec![0, 1, -7, 99])
            .prop_map(Value::EnumNumber)
            .boxed(),
        Kind::Message(of) => any_message(of.clone(), depth.checked_sub(1)?)
            .prop_map(Value::Message)
            .boxed(),
    })
}
