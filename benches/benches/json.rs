//! The JSON codec of `adit call` on a message of some 60 KB, both ways.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench fails by panicking"
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;

use adit_client::codec::{DecodeOptions, EncodeOptions, JsonCodec, PayloadCodec};
use adit_client::schema::{Sources, Symbol};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost_reflect::{DynamicMessage, MessageDescriptor};

fn report() -> MessageDescriptor {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/telemetry.proto");
    let sources = Sources::reflection().without_reflection();
    let sources = sources.with_files(&[proto], &[], &[]).unwrap();
    match sources.symbol("adit.bench.Report").unwrap() {
        Some(Symbol::Message(message)) => message,
        other => panic!("{other:?}"),
    }
}

/// A report of a site, as a program would write it: indented, with the names of the mapping.
fn text() -> String {
    let mut text = String::from(
        "{\n  \"site\": \"plant-0042.example.com\",\n  \"sentAt\": \"2026-03-14T15:09:26.535897Z\",\n",
    );
    text.push_str("  \"labels\": {\n    \"region\": \"eu-central\",\n    \"tier\": \"edge\",\n    \"rack\": \"r17\"\n  },\n");
    text.push_str("  \"readings\": [\n");
    for n in 0..150 {
        let comma = if n == 149 { "" } else { "," };
        let unit = ["CELSIUS", "PASCAL", "VOLT"][n % 3];
        writeln!(
            text,
            "    {{\n      \"sensor\": \"boiler-{}/temperature\",\n      \"sequence\": \"{}\",\n      \"value\": {}.{:03},\n      \"unit\": \"{unit}\",\n      \"at\": \"2026-03-14T15:{:02}:{:02}.{:03}Z\",\n      \"samples\": [{}, {}, {}, {}],\n      \"valid\": true\n    }}{comma}",
            n % 12,
            9_000_000_000_u64 + n as u64,
            n * 7 % 90,
            n * 37 % 1000,
            n % 60,
            n * 7 % 60,
            n * 13 % 1000,
            n,
            n * n,
            n + 1000,
            n * 3,
        )
        .unwrap();
    }
    text.push_str("  ],\n  \"events\": [\n");
    for n in 0..80 {
        let comma = if n == 79 { "" } else { "," };
        writeln!(
            text,
            "    {{\n      \"code\": {},\n      \"message\": \"The pressure of line {n} is \\\"high\\\": valve opened, operator informed\\n\",\n      \"source\": \"plc-{}.local\",\n      \"counters\": {{\"opened\": \"{}\", \"retries\": \"{}\"}}\n    }}{comma}",
            1000 + n,
            n % 7,
            n * 11,
            n % 4,
        )
        .unwrap();
    }
    text.push_str("  ],\n  \"digest\": \"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"\n}\n");
    text
}

fn decode(codec: &JsonCodec, message: &MessageDescriptor, text: &[u8]) -> DynamicMessage {
    let mut decoder = codec.decoder(message.clone(), DecodeOptions::default());
    decoder.feed(text);
    decoder.next().unwrap().expect("a message")
}

fn json(criterion: &mut Criterion) {
    let (message, text) = (report(), text());
    let codec = JsonCodec::pretty();
    let decoded = decode(&codec, &message, text.as_bytes());
    let encoded = |codec: &JsonCodec, message: &DynamicMessage| {
        let mut out = Vec::new();
        codec.encode(message, EncodeOptions::default(), &mut out).unwrap();
        out
    };
    // Nothing is lost on the way, but what is the default and so says nothing: the bench is of what it says.
    let once = decode(&codec, &message, &encoded(&codec, &decoded));
    assert_eq!(decode(&codec, &message, &encoded(&codec, &once)), once);
    let encode = |codec: &JsonCodec| encoded(codec, &decoded);

    let mut group = criterion.benchmark_group("json");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| decode(&codec, &message, black_box(text.as_bytes())));
    });
    for (name, codec) in [
        ("encode", JsonCodec::pretty()),
        ("encode, a line", JsonCodec::lines()),
    ] {
        group.throughput(Throughput::Bytes(encode(&codec).len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| encode(black_box(&codec))));
    }
    group.finish();
}

criterion_group!(benches, json);
criterion_main!(benches);
