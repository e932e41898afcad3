//! The heads and the trailers of one small call as field sections: what writing and reading them costs in processor time.
//!
//! `head` is what a link does, from an `http` head to a HEADERS frame and back; `fields` is QPACK alone, without the rules
//! of HTTP and without a `HeaderMap`. Sections are read twice: as this endpoint writes them, and Huffman-coded, as nearly
//! all others do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench fails by panicking"
)]

use std::hint::black_box;

use adit_transport::rh3::Role;
use adit_transport::rh3::frame::{Frame, FrameDecoder};
use adit_transport::rh3::head::{self, HeadError};
use adit_transport::rh3::qpack::decode::{FieldLine, FieldLines};
use adit_transport::rh3::qpack::encode::{PREFIX, put_field};
use bytes::{Bytes, BytesMut};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, request};

/// What a peer accepts of metadata.
const LIMIT: u64 = 128 << 10;

/// A field's name and value.
type Field = (&'static str, &'static str);

/// What tonic sends, and a header of an application.
const REQUEST: [Field; 9] = [
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", "hub.example:9090"),
    (":path", "/routeguide.RouteGuide/GetFeature"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("user-agent", "tonic/0.14.9"),
    ("grpc-timeout", "5S"),
    ("x-request-id", "0b6c3f3a-8f5e-4b39-a1a5-5d8f3ad1f1c7"),
];

const RESPONSE: [Field; 3] = [
    (":status", "200"),
    ("content-type", "application/grpc"),
    ("grpc-encoding", "identity"),
];

const TRAILERS: [Field; 2] = [("grpc-status", "0"), ("grpc-message", "")];

/// The same as the library ls-qpack writes them for a peer without a dynamic table.
const HUFFMAN_REQUEST: &str = "0000d4d7508c9ed8d72f91d35d05b8f81f07519862c3da92cd69a42afb4f6a4b8ad348563115384a34db61\
    7f227465864d833505b11f5f1d8b1d75d0620d263d4c4d65645f508949ea311802e16977ff2f029acac8b24d494f6a7f0235532f02f2b585ed\
    6950958d279a046e1199591acf4ad9566a365f58611b6b3723d2b239032848ef";
const HUFFMAN_RESPONSE: &str = "0000d95f1d8b1d75d0620d263d4c4d65642f039acac8b16a21e435537f863485a9264faf";
const HUFFMAN_TRAILERS: &str = "00002f019acac8b21234da8f01302f029acac8b5254207317f00";

/// Fields that are none of HTTP's own, in their order.
fn metadata(fields: &[Field]) -> HeaderMap {
    let fields = fields.iter().filter(|(name, _)| !name.starts_with(':'));
    fields
        .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

fn request() -> request::Parts {
    let mut request = Request::post("https://hub.example:9090/routeguide.RouteGuide/GetFeature")
        .body(())
        .unwrap();
    *request.headers_mut() = metadata(&REQUEST);
    request.into_parts().0
}

/// The field section of an encoded HEADERS frame.
fn section(frame: BytesMut, role: Role) -> Bytes {
    let mut decoder = FrameDecoder::message(role, LIMIT);
    decoder.push(frame.freeze());
    match decoder.next_frame().unwrap() {
        Some(Frame::Headers(section)) => section,
        other => panic!("not a HEADERS frame: {other:?}"),
    }
}

fn bytes(hex: &str) -> Bytes {
    let digits = (0..hex.len()).step_by(2).map(|at| &hex[at..at + 2]);
    digits
        .map(|digits| u8::from_str_radix(digits, 16).unwrap())
        .collect()
}

fn heads(criterion: &mut Criterion) {
    let (request, response, trailers) = (request(), metadata(&RESPONSE), metadata(&TRAILERS));
    let mut group = criterion.benchmark_group("head");
    let encoded = encode(&mut group, "request", |out| {
        head::encode_request(black_box(&request), out).unwrap();
    });
    let decode_request = |section| head::decode_request(section, LIMIT).map(Request::into_parts);
    decode(
        &mut group,
        "request",
        [section(encoded, Role::Server), bytes(HUFFMAN_REQUEST)],
        |section| {
            let (head, ()) = decode_request(section)?;
            Ok((head.uri, head.headers))
        },
        &(request.uri.clone(), request.headers.clone()),
    );

    let encoded = encode(&mut group, "response", |out| {
        head::encode_response(StatusCode::OK, black_box(&response), out);
    });
    let decode_response = |section| head::decode_response(section, LIMIT).map(Response::into_parts);
    decode(
        &mut group,
        "response",
        [section(encoded, Role::Client), bytes(HUFFMAN_RESPONSE)],
        |section| Ok(decode_response(section)?.0.headers),
        &response,
    );

    let encoded = encode(&mut group, "trailers", |out| {
        head::encode_trailers(black_box(&trailers), out);
    });
    decode(
        &mut group,
        "trailers",
        [section(encoded, Role::Client), bytes(HUFFMAN_TRAILERS)],
        |section| head::decode_trailers(section, LIMIT),
        &trailers,
    );
    group.finish();
}

/// Measures the writing of a HEADERS frame, and returns it.
fn encode(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, write: impl Fn(&mut BytesMut)) -> BytesMut {
    let mut frame = BytesMut::new();
    write(&mut frame);
    group.throughput(Throughput::Bytes(frame.len() as u64));
    group.bench_function(format!("encode {name}"), |bencher| {
        bencher.iter(|| {
            let mut out = BytesMut::with_capacity(512);
            write(&mut out);
            out
        });
    });
    frame
}

/// Measures the reading of the same section, plain and Huffman-coded.
fn decode<T: PartialEq + std::fmt::Debug>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    sections: [Bytes; 2],
    read: impl Fn(Bytes) -> Result<T, HeadError>,
    expected: &T,
) {
    for (section, coding) in sections.into_iter().zip(["", ", Huffman-coded"]) {
        assert_eq!(read(section.clone()).unwrap(), *expected);
        group.throughput(Throughput::Bytes(section.len() as u64));
        group.bench_function(format!("decode {name}{coding}"), |bencher| {
            bencher.iter(|| read(black_box(section.clone())).unwrap());
        });
    }
}

fn fields(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fields");
    for (name, fields, huffman) in [
        ("request", &REQUEST[..], HUFFMAN_REQUEST),
        ("response", &RESPONSE[..], HUFFMAN_RESPONSE),
        ("trailers", &TRAILERS[..], HUFFMAN_TRAILERS),
    ] {
        let write = |out: &mut BytesMut| {
            out.extend_from_slice(&PREFIX);
            for (name, value) in black_box(fields) {
                put_field(out, name.as_bytes(), value.as_bytes(), false);
            }
        };
        let plain = encode(&mut group, name, write).freeze();
        for (section, coding) in [(plain, ""), (bytes(huffman), ", Huffman-coded")] {
            assert_eq!(read(section.clone(), |_, _| {}), fields.len());
            let mut expected = fields.iter();
            read(section.clone(), |name, value| {
                let field = expected.next().unwrap();
                assert_eq!((name, value), (field.0.as_bytes(), field.1.as_bytes()));
            });
            group.throughput(Throughput::Bytes(section.len() as u64));
            group.bench_function(format!("decode {name}{coding}"), |bencher| {
                bencher.iter(|| {
                    read(black_box(section.clone()), |name, value| {
                        black_box((name, value));
                    })
                });
            });
        }
    }
    group.finish();
}

/// Reads every line of a section, and says how many there are.
fn read(section: Bytes, mut seen: impl FnMut(&[u8], &[u8])) -> usize {
    let mut lines = FieldLines::new(section).unwrap();
    let mut count = 0;
    while let Some(line) = lines.next_line().unwrap() {
        match line {
            FieldLine::Indexed(entry) => seen(entry.name.as_str().as_bytes(), entry.value.as_bytes()),
            FieldLine::NameReference { entry, value, .. } => seen(entry.name.as_str().as_bytes(), &value),
            FieldLine::Literal { name, value, .. } => seen(name, &value),
        }
        count += 1;
    }
    count
}

criterion_group!(benches, heads, fields);
criterion_main!(benches);
