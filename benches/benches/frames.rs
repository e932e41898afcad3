//! The rh3 frame layer alone: what it costs in processor time to take the frames of a stream apart.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench fails by panicking"
)]

use std::hint::black_box;

use adit_transport::rh3::frame::{Frame, FrameDecoder, put_data_header};
use adit_transport::rh3::{Role, head};
use bytes::{Bytes, BytesMut};
use criterion::{Criterion, criterion_group, criterion_main};
use http::{Request, request};

/// What a peer accepts of metadata.
const LIMIT: u64 = 128 << 10;

/// What tonic sends, and a header of an application.
fn request() -> request::Parts {
    let request = Request::post("https://hub.example:9090/routeguide.RouteGuide/GetFeature")
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .header("user-agent", "tonic/0.14.9")
        .header("grpc-timeout", "5S")
        .header("x-request-id", "0b6c3f3a-8f5e-4b39-a1a5-5d8f3ad1f1c7")
        .body(());
    request.unwrap().into_parts().0
}

fn messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("message");
    let payload = [b'a'; 107];
    let mut out = BytesMut::new();
    head::encode_request(&request(), &mut out).unwrap();
    put_data_header(&mut out, payload.len() as u64);
    out.extend_from_slice(&payload);
    let small = out.split().freeze();
    group.bench_function("frames of a small request, one chunk", |b| {
        b.iter(|| frames([black_box(&small).clone()]));
    });

    // A message of 64 KiB as QUIC delivers it.
    put_data_header(&mut out, 64 << 10);
    out.extend_from_slice(&[0; 64 << 10]);
    let mut large = out.split().freeze();
    let mut chunks = vec![small];
    while !large.is_empty() {
        chunks.push(large.split_to(large.len().min(1400)));
    }
    group.bench_function("frames of 64 KiB, chunks of 1,400 bytes", |b| {
        b.iter(|| frames(black_box(&chunks).iter().cloned()));
    });
    group.finish();
}

/// Decodes a request's stream, and says how many bytes of DATA it had.
fn frames(chunks: impl IntoIterator<Item = Bytes>) -> usize {
    let mut decoder = FrameDecoder::message(Role::Server, LIMIT);
    let mut data = 0;
    for chunk in chunks {
        decoder.push(chunk);
        while let Some(frame) = decoder.next_frame().unwrap() {
            if let Frame::Data(payload) = frame {
                data += payload.len();
            }
        }
    }
    decoder.finish().unwrap();
    data
}

criterion_group!(benches, messages);
criterion_main!(benches);
