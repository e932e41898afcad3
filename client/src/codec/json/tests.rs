#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use proptest::prelude::*;
use prost_reflect::{DynamicMessage, MessageDescriptor, Value};

use super::split::Splitter;
use super::{JsonCodec, PayloadCodec as _};
use crate::codec::document::{Place, Split as _};
use crate::codec::{DecodeError, DecodeOptions, EncodeOptions};
use crate::testing::message;
use crate::testing::messages::any_json;

fn decode_all(pieces: &[&[u8]], of: MessageDescriptor) -> Result<Vec<DynamicMessage>, DecodeError> {
    let mut decoder = JsonCodec::pretty().decoder(of, DecodeOptions::default());
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
    JsonCodec::pretty()
        .encode(message, EncodeOptions::default(), &mut out)
        .unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn errors_say_where_and_in_which_field() {
    assert_eq!(
        error("{\"count\": -1}"),
        "line 1, column 12: in field count: out of range integral type conversion attempted; \
         it takes an integer from 0 to 18446744073709551615"
    );
    assert_eq!(
        error("{}\n{\"everything\": {\"children\": [{}, {\"byName\": {\"ü\": {\"int32\": \"x\"}}}]}}"),
        "line 2, column 63: in field everything.children[1].byName.ü.int32: invalid digit found in string; \
         it takes an integer from -2147483648 to 2147483647"
    );
    assert_eq!(
        error("{\"jar\": {\"inner\": [{\"lable\": 1}]}}"),
        "line 1, column 27: in field jar.inner[0]: shelf.Jar has no field 'lable'; did you mean 'label'?"
    );
    assert_eq!(
        error("{\"everything\": {\"byName\": {\"a\": {\"nope\": 1}}}}")
            .split("; ")
            .next()
            .unwrap(),
        "line 1, column 39: in field everything.byName.a: kitchen.Everything has no field 'nope'"
    );
    assert_eq!(
        error("{\"everything\": {\"heat\": \"TEPID\"}}"),
        "line 1, column 31: in field everything.heat: kitchen.Heat has no value 'TEPID'; it has BURNING, MILD, HOT"
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
    assert_eq!(document.start, Place { line: 1, column: 13 });
    assert_eq!(document.bytes.len(), 13);
}

fn limited(limit: usize, text: &str) -> DecodeError {
    let options = DecodeOptions {
        max_size: limit,
        ..DecodeOptions::default()
    };
    let mut decoder = JsonCodec::pretty().decoder(message("kitchen.Order"), options);
    decoder.feed(text.as_bytes());
    decoder.next().unwrap_err()
}

#[test]
fn a_limit_reached_by_a_mistake_tells_the_mistake() {
    let error = limited(12, "{\"name\": \"0123456789");
    assert_eq!(
        error.to_string(),
        "line 1, column 1: the message that begins here is longer than 12 bytes; --max-message-size takes longer ones"
    );
    let error = limited(8, "[{} {} {} {} {} {}");
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
    let error = JsonCodec::pretty()
        .encode(&garnish, EncodeOptions::default(), &mut Vec::new())
        .unwrap_err();
    assert!(error.to_string().contains("acme.Leaf"), "{error}");
}

proptest! {
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
