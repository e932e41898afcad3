//! What holds for every codec.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod bad;
mod forms;

use std::sync::Arc;

use proptest::prelude::*;
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage as _, Value};

use super::{Codecs, DecodeError, DecodeOptions, EncodeOptions, PayloadCodec};
use crate::testing::message;
use crate::testing::messages::{Shown, any_received, from};

/// Messages of this schema are large, and there are six codecs.
const CASES: u32 = 48;

fn codec(name: &str) -> Arc<dyn PayloadCodec> {
    let codecs = Codecs::standard();
    if name == "auto" {
        codecs.guess()
    } else {
        codecs.get(name).unwrap()
    }
}

fn encode(codec: &dyn PayloadCodec, messages: &[DynamicMessage], many: bool) -> Vec<u8> {
    let options = EncodeOptions {
        many,
        ..EncodeOptions::default()
    };
    let mut out = Vec::new();
    for message in messages {
        codec.encode(message, options, &mut out).unwrap();
    }
    out
}

fn decode_with(
    codec: &dyn PayloadCodec,
    pieces: &[&[u8]],
    of: MessageDescriptor,
    options: DecodeOptions,
) -> Result<Vec<DynamicMessage>, DecodeError> {
    let mut decoder = codec.decoder(of, options);
    let mut messages = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        while let Some(message) = decoder.next()? {
            messages.push(message);
        }
    }
    while let Some(message) = decoder.finish()? {
        messages.push(message);
    }
    Ok(messages)
}

fn decode(name: &str, text: &[u8], of: &str, many: bool) -> Result<Vec<DynamicMessage>, DecodeError> {
    let options = DecodeOptions {
        many,
        ..DecodeOptions::default()
    };
    decode_with(&*codec(name), &[text], message(of), options)
}

fn error(name: &str, text: &str) -> String {
    match decode(name, text.as_bytes(), "kitchen.Order", true) {
        Err(error) => error.to_string(),
        // Not shown: `Debug` of a message whose type holds itself never ends.
        Ok(read) => panic!("{} messages were read", read.len()),
    }
}

fn check_round_trip(name: &str, sent: &DynamicMessage) {
    let codec = codec(name);
    let form = encode(&*codec, std::slice::from_ref(sent), false);
    let text = String::from_utf8_lossy(&form);
    let read = decode(name, &form, sent.descriptor().full_name(), false);
    let read = read.unwrap_or_else(|error| panic!("{error}\n{text}"));
    // What is set to its default is not set, over the wire.
    let read: Vec<_> = read.iter().map(|read| from(&read.descriptor(), read)).collect();
    assert!(read == [sent.clone()], "{text}\n{:?}", Shown(read[0].clone()));
}

fn check_pieces(name: &str, sent: &[Shown], cuts: &[prop::sample::Index]) {
    let codec = codec(name);
    let sent: Vec<_> = sent.iter().map(|Shown(message)| message.clone()).collect();
    let form = encode(&*codec, &sent, true);
    let mut at: Vec<_> = (cuts.iter().map(|cut| cut.index(form.len() + 1)))
        .chain([0, form.len()])
        .collect();
    at.sort_unstable();
    let pieces: Vec<&[u8]> = at.windows(2).map(|piece| &form[piece[0]..piece[1]]).collect();
    let read = decode_with(
        &*codec,
        &pieces,
        message("kitchen.Everything"),
        DecodeOptions::default(),
    );
    let read = read.unwrap();
    let read: Vec<_> = read.iter().map(|read| from(&read.descriptor(), read)).collect();
    assert!(read == sent, "{}", String::from_utf8_lossy(&form));
}

/// What the beginnings of things in all formats are made of.
fn any_garbage() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "{",
        "}",
        "[",
        "]",
        "<",
        ">",
        "</",
        "/>",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "<?xml",
        "?>",
        "<!DOCTYPE",
        "&",
        ";",
        "\"",
        "'",
        "\\",
        ":",
        ": ",
        ",",
        "-",
        "- ",
        "---",
        "...",
        "\n",
        " ",
        "#",
        "*a",
        "&a ",
        "!",
        "|",
        ">\n",
        "%YAML 1.2",
        "Everything",
        "string",
        "children",
        "int32",
        "byName",
        "by_name",
        "entry",
        "key",
        "value",
        "any",
        "@type",
        "type=",
        "1",
        "1e400",
        "null",
        "true",
        "\x1E",
        "\0",
        "\x7F",
        "\u{FEFF}",
        "ü",
        "?",
        "<<",
    ];
    prop::collection::vec(
        prop_oneof![
            9 => prop::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
            1 => any::<u8>().prop_map(|byte| vec![byte]),
        ],
        0..24,
    )
    .prop_map(|words| words.concat())
}

macro_rules! properties {
    ($($codec:ident: $name:literal;)*) => {$(
        mod $codec {
            use super::*;

            proptest! {
                #![proptest_config(ProptestConfig::with_cases(CASES))]

                #[test]
                fn there_and_back_is_the_same_message(Shown(sent) in any_received("kitchen.Everything")) {
                    check_round_trip($name, &sent);
                }

                #[test]
                fn there_and_back_is_the_same_message_of_an_edition(Shown(sent) in any_received("vault.Safe")) {
                    check_round_trip($name, &sent);
                }

                #[test]
                fn pieces_may_end_anywhere(
                    sent in prop::collection::vec(any_received("kitchen.Everything"), 0..4),
                    cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
                ) {
                    check_pieces($name, &sent, &cuts);
                }

                #[test]
                fn no_input_is_a_panic_and_pieces_never_matter(
                    bytes in any_garbage(),
                    cut in any::<prop::sample::Index>(),
                    many in any::<bool>(),
                ) {
                    let codec = codec($name);
                    let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
                    let options = DecodeOptions { many, ..DecodeOptions::default() };
                    let read = |pieces: &[&[u8]]| decode_with(&*codec, pieces, message("kitchen.Everything"), options);
                    prop_assert!(read(&[&bytes]) == read(&[head, tail]));
                }
            }
        }
    )*};
}

properties! {
    json: "json";
    ndjson: "ndjson";
    yaml: "yaml";
    xml: "xml";
    text: "text";
    binary: "binary";
}

#[test]
fn not_a_number_is_not_a_number_in_every_form() {
    for name in Codecs::standard().names() {
        let mut sent = DynamicMessage::new(message("kitchen.Everything"));
        sent.set_field_by_name("double", Value::F64(f64::NAN));
        sent.set_field_by_name("float", Value::F32(f32::NAN));
        let form = encode(&*codec(name), &[sent], false);
        let read = decode(name, &form, "kitchen.Everything", false).unwrap();
        let field = |name| read[0].get_field_by_name(name).unwrap().into_owned();
        assert!(field("double").as_f64().unwrap().is_nan(), "{name}");
        assert!(field("float").as_f32().unwrap().is_nan(), "{name}");
    }
}

#[test]
fn an_input_that_says_nothing_of_its_form_is_recognized() {
    let sent = crate::testing::dish("soup", 3);
    for name in ["json", "ndjson", "yaml", "xml", "binary"] {
        for many in [true, false] {
            let form = encode(&*codec(name), std::slice::from_ref(&sent), many);
            let read = decode("auto", &form, "kitchen.Dish", many).unwrap();
            assert!(read == [sent.clone()], "{name}");
        }
    }
    let read = |text: &str| decode("auto", text.as_bytes(), "kitchen.Order", false).unwrap();
    assert_eq!(read("# a comment\n\njar {\n}\n").len(), 1);
    assert_eq!(read("jar:{label:'x'} name:\"y\"").len(), 1);
}
