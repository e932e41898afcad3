//! Heads and trailers: those that are accepted are written and read again.

#![no_main]

use adit_transport::rh3::Role;
use adit_transport::rh3::frame::{Frame, FrameDecoder};
use adit_transport::rh3::head;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::HOST;
use libfuzzer_sys::fuzz_target;

const LIMIT: u64 = 4096;

fuzz_target!(|fields: &[u8]| {
    // Most sections fail in their prefix otherwise.
    let section = Bytes::from([&[0, 0], fields].concat());

    if let Ok(request) = head::decode_request(section.clone(), LIMIT) {
        let (mut parts, ()) = request.into_parts();
        let mut frame = BytesMut::new();
        assert!(head::encode_request(&parts, &mut frame).is_ok());
        let again = head::decode_request(section_of(frame), LIMIT + 64);
        let (again, ()) = again.expect("what was accepted is accepted again").into_parts();
        assert_eq!(again.method, parts.method);
        assert_eq!(again.uri.authority(), parts.uri.authority());
        assert_eq!(again.uri.path_and_query(), parts.uri.path_and_query());
        // In its place there is :authority.
        parts.headers.remove(HOST);
        assert_same(&again.headers, &parts.headers);
    }
    if let Ok(response) = head::decode_response(section.clone(), LIMIT) {
        let (parts, ()) = response.into_parts();
        let mut frame = BytesMut::new();
        head::encode_response(parts.status, &parts.headers, &mut frame);
        let again = head::decode_response(section_of(frame), LIMIT);
        let (again, ()) = again.expect("what was accepted is accepted again").into_parts();
        assert_eq!(again.status, parts.status);
        assert_same(&again.headers, &parts.headers);
    }
    if let Ok(trailers) = head::decode_trailers(section, LIMIT) {
        let mut frame = BytesMut::new();
        head::encode_trailers(&trailers, &mut frame);
        let again = head::decode_trailers(section_of(frame), LIMIT);
        assert_same(&again.expect("what was accepted is accepted again"), &trailers);
    }
});

fn section_of(frame: BytesMut) -> Bytes {
    let mut decoder = FrameDecoder::message(Role::Server, u64::MAX);
    decoder.push(frame.freeze());
    match decoder.next_frame() {
        Ok(Some(Frame::Headers(section))) => section,
        other => unreachable!("a head is a HEADERS frame, not {other:?}"),
    }
}

/// The same values of each name in the same order.
fn assert_same(a: &HeaderMap, b: &HeaderMap) {
    assert_eq!(a.len(), b.len());
    for name in a.keys() {
        assert!(a.get_all(name).iter().eq(b.get_all(name).iter()), "{name}");
    }
}
