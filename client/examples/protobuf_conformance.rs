//! The codecs against protobuf's own conformance cases: what its `conformance_test_runner` starts and asks.
//!
//! ```sh
//! conformance_test_runner --enforce_recommended target/debug/examples/protobuf_conformance test_messages.binpb
//! ```
//!
//! The argument is a descriptor set with the messages of the cases. A request on standard input is its
//! length, four bytes with the lowest first, and a `conformance.ConformanceRequest`; an answer on
//! standard output is a `ConformanceResponse` in the same form.

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use adit_client::codec::{DecodeOptions, EncodeOptions, JsonCodec, PayloadCodec, TextCodec};
use adit_client::schema::{Sources, Symbol};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};

/// Values of `conformance.WireFormat`.
const PROTOBUF: i32 = 1;
const JSON: i32 = 2;
const TEXT_FORMAT: i32 = 4;

/// The value of `conformance.TestCategory` in which fields that nobody knows are left out.
const IGNORE_UNKNOWN: i32 = 3;

/// `conformance.ConformanceRequest`, as far as it matters here.
#[derive(Clone, PartialEq, prost::Message)]
struct Case {
    #[prost(bytes = "vec", optional, tag = "1")]
    protobuf: Option<Vec<u8>>,
    #[prost(string, optional, tag = "2")]
    json: Option<String>,
    #[prost(string, optional, tag = "8")]
    text: Option<String>,
    #[prost(int32, tag = "3")]
    output: i32,
    #[prost(string, tag = "4")]
    message: String,
    #[prost(int32, tag = "5")]
    category: i32,
    #[prost(bool, tag = "9")]
    print_unknown: bool,
}

/// `conformance.ConformanceResponse`: one of these.
#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(string, optional, tag = "1")]
    parse_error: Option<String>,
    #[prost(string, optional, tag = "6")]
    serialize_error: Option<String>,
    #[prost(bytes = "vec", optional, tag = "3")]
    protobuf: Option<Vec<u8>>,
    #[prost(string, optional, tag = "4")]
    json: Option<String>,
    #[prost(string, optional, tag = "8")]
    text: Option<String>,
    #[prost(string, optional, tag = "5")]
    skipped: Option<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let set = std::env::args()
        .nth(1)
        .ok_or("the argument is a descriptor set")?;
    let sources = Sources::reflection()
        .without_reflection()
        .with_files(&[], &[], &[PathBuf::from(set)])?;
    let mut messages = HashMap::new();
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut length = [0; 4];
    loop {
        match input.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let mut request = vec![0; usize::try_from(u32::from_le_bytes(length))?];
        input.read_exact(&mut request)?;
        let case = Case::decode(&request[..])?;
        let message =
            messages
                .entry(case.message.clone())
                .or_insert_with_key(|name| match sources.symbol(name) {
                    Ok(Some(Symbol::Message(message))) => Some(message),
                    _ => None,
                });
        let answer = answer(&case, message.as_ref()).encode_to_vec();
        output.write_all(&u32::try_from(answer.len())?.to_le_bytes())?;
        output.write_all(&answer)?;
        output.flush()?;
    }
}

fn answer(case: &Case, message: Option<&MessageDescriptor>) -> Answer {
    let skipped = |why: &str| Answer {
        skipped: Some(why.to_owned()),
        ..Answer::default()
    };
    let Some(message) = message.cloned() else {
        return skipped("the message is in no file");
    };
    if case.print_unknown {
        return skipped("fields without a name are not printed");
    }
    let read = match (&case.protobuf, &case.json, &case.text) {
        (Some(bytes), ..) => DynamicMessage::decode(message, &bytes[..]).map_err(Into::into),
        (_, Some(json), _) => decode(&JsonCodec::pretty(), message, json, case),
        (.., Some(text)) => decode(&TextCodec, message, text, case),
        _ => return skipped("the form of the payload is not known"),
    };
    let message = match read {
        Ok(message) => message,
        Err(error) => {
            return Answer {
                parse_error: Some(error.to_string()),
                ..Answer::default()
            };
        }
    };
    let written = match case.output {
        PROTOBUF => Ok(Answer {
            protobuf: Some(message.encode_to_vec()),
            ..Answer::default()
        }),
        JSON => encode(&JsonCodec::pretty(), &message).map(|json| Answer {
            json: Some(json),
            ..Answer::default()
        }),
        TEXT_FORMAT => encode(&TextCodec, &message).map(|text| Answer {
            text: Some(text),
            ..Answer::default()
        }),
        _ => return skipped("the form of the output is not known"),
    };
    written.unwrap_or_else(|error| Answer {
        serialize_error: Some(error.to_string()),
        ..Answer::default()
    })
}

fn decode(
    codec: &dyn PayloadCodec,
    message: MessageDescriptor,
    text: &str,
    case: &Case,
) -> Result<DynamicMessage, Box<dyn Error>> {
    let options = DecodeOptions {
        many: false,
        allow_unknown: case.category == IGNORE_UNKNOWN,
        ..DecodeOptions::default()
    };
    let mut decoder = codec.decoder(message, options);
    decoder.feed(text.as_bytes());
    let mut messages = Vec::new();
    while let Some(message) = decoder.next()? {
        messages.push(message);
    }
    while let Some(message) = decoder.finish()? {
        messages.push(message);
    }
    match <[DynamicMessage; 1]>::try_from(messages) {
        Ok([message]) => Ok(message),
        Err(messages) => Err(format!("there are {} messages", messages.len()).into()),
    }
}

fn encode(codec: &dyn PayloadCodec, message: &DynamicMessage) -> Result<String, Box<dyn Error>> {
    let mut out = Vec::new();
    codec.encode(message, EncodeOptions::default(), &mut out)?;
    Ok(String::from_utf8(out)?)
}
