#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, request};
use proptest::prelude::*;

use super::*;
use crate::rh3::Role;
use crate::rh3::code::Code;
use crate::rh3::error::{ProtocolError, Scope};
use crate::rh3::frame::{Frame, FrameDecoder};
use crate::rh3::qpack;
use crate::rh3::qpack::decode::QpackError;

const LIMIT: u64 = 128 << 10;

/// The field section in the one HEADERS frame that was written.
fn section_of(frame: BytesMut) -> Bytes {
    let mut decoder = FrameDecoder::message(Role::Server, u64::MAX);
    decoder.push(frame.freeze());
    let Some(Frame::Headers(section)) = decoder.next_frame().unwrap() else {
        unreachable!("a head is a HEADERS frame");
    };
    assert!(decoder.is_idle(), "and nothing else");
    section
}

/// A field section of plain literals, as a peer may write it.
fn section(fields: &[(&str, &str)]) -> Bytes {
    let mut out = BytesMut::from(&qpack::encode::PREFIX[..]);
    for (name, value) in fields {
        qpack::encode::put_field(&mut out, name.as_bytes(), value.as_bytes(), false);
    }
    out.freeze()
}

/// The pseudo-header fields of a request, then `fields`.
fn request_section(fields: &[(&str, &str)]) -> Bytes {
    let pseudo = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "a"),
        (":path", "/s/m"),
    ];
    section(&[&pseudo, fields].concat())
}

fn encoded_request(parts: &request::Parts) -> BytesMut {
    let mut out = BytesMut::new();
    encode_request(parts, &mut out).unwrap();
    out
}

fn request(uri: &'static str, fields: &[(&'static str, &'static str)]) -> request::Parts {
    let mut request = Request::post(Uri::from_static(uri));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn hex(digits: &str) -> Bytes {
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap();
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::try_from(digit(pair[0]) << 4 | digit(pair[1])).unwrap())
        .collect()
}

#[track_caller]
fn assert_malformed<T: std::fmt::Debug>(result: Result<T, HeadError>, about: &str) {
    let error = result.unwrap_err();
    assert!(
        matches!(&error, HeadError::Malformed(reason) if reason.contains(about)),
        "{error}"
    );
    let error = ProtocolError::from(error);
    assert_eq!((error.code, error.scope), (Code::MESSAGE_ERROR, Scope::Stream));
}

#[test]
fn pinned_bytes_of_a_grpc_request() {
    let parts = request(
        "https://site-7:8443/helloworld.Greeter/SayHello",
        &[
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "grpc-go/1.76.0"),
            ("grpc-timeout", "1S"),
            ("authorization", "Bearer t"),
            ("accept-encoding", "gzip, deflate, br"),
        ],
    );
    let expected = [
        &b"\x01\x40\x7c\x00\x00"[..], // HEADERS, its length in two bytes, prefix
        b"\xd4",                      // :method POST
        b"\xd7",                      // :scheme https
        b"\x50\x0bsite-7:8443",
        b"\x51\x1c/helloworld.Greeter/SayHello",
        b"\x5f\x1d\x10application/grpc",
        b"\x22te\x08trailers",
        b"\x5f\x50\x0egrpc-go/1.76.0",
        b"\x27\x05grpc-timeout\x021S",
        b"\x7f\x45\x08Bearer t", // never indexed
        b"\xdf",                 // accept-encoding gzip, deflate, br
    ]
    .concat();
    assert_eq!(encoded_request(&parts), expected);

    let decoded = decode_request(section_of(expected[..].into()), LIMIT).unwrap();
    assert_eq!(decoded.method(), Method::POST);
    assert_eq!(decoded.uri(), "https://site-7:8443/helloworld.Greeter/SayHello");
    assert_eq!(decoded.version(), http::Version::HTTP_3);
    assert_eq!(decoded.headers(), &parts.headers);
    assert!(decoded.headers()[header::AUTHORIZATION].is_sensitive());
    assert!(!decoded.headers()[header::CONTENT_TYPE].is_sensitive());
}

#[test]
fn pinned_bytes_of_a_grpc_response_and_its_trailers() {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut out = BytesMut::new();
    // 7 + 3 + 32, and 12 + 16 + 32.
    assert_eq!(encode_response(StatusCode::OK, &headers, &mut out), 102);
    assert_eq!(out, &b"\x01\x40\x16\x00\x00\xd9\x5f\x1d\x10application/grpc"[..]);
    let decoded = decode_response(section_of(out), LIMIT).unwrap();
    assert_eq!((decoded.status(), decoded.headers()), (StatusCode::OK, &headers));

    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let mut out = BytesMut::new();
    assert_eq!(encode_trailers(&trailers, &mut out), 44);
    assert_eq!(out, &b"\x01\x11\x00\x00\x27\x04grpc-status\x010"[..]);
    assert_eq!(decode_trailers(section_of(out), LIMIT).unwrap(), trailers);
}

/// As ls-qpack writes them, in Huffman code.
#[test]
fn heads_of_another_implementation() {
    let decoded = decode_request(
        hex(concat!(
            "0000d4d750934192559d5c7316a4a172f91d35d05b8f34d33f519762c3da92cd69a42afb4f6a4b8ad348",
            "56369ed496f4e34f5f1d901d75d0620d263d4c4d6564ff75d8749f227465864d833505b11f5f50a49aca",
            "c8b57e9339ea602bbae2e0526b2b22c461b0ae05c0a7f541aab7cfda849d29ac5fdf2f079acac8b0c842",
            "d6958b510f21aa9b913485a9264fafa5242cb40d25fa526f66af2f029acac8b24d494f6a7f8669f7df7d",
            "d7ad2df2b20c92ff01612df2b20c92ff01622f00f2b583f0b466ab8767b0bfdbbe20832cf2b1e49304ff",
            "8009205f4587ba51d85b141c64",
        )),
        LIMIT,
    )
    .unwrap();
    assert_eq!(decoded.method(), Method::POST);
    assert_eq!(
        decoded.uri(),
        "https://site-7.agents.example:8443/routeguide.RouteGuide/RouteChat"
    );
    let fields: Vec<_> = decoded
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    assert_eq!(
        fields,
        [
            ("content-type", &b"application/grpc+proto"[..]),
            ("te", b"trailers"),
            ("user-agent", b"grpc-python/1.76.0 grpc-c/51.0.0 (linux; chttp2)"),
            ("grpc-accept-encoding", b"identity, deflate, gzip"),
            ("grpc-timeout", b"4999978u"),
            ("x-site", b"a"),
            ("x-site", b"b"),
            ("x-raw-bin", b"3q2+7w=="),
            ("x-odd", b"\xff\x80\t "),
            ("authorization", b"Bearer abc"),
        ]
    );

    let decoded = decode_response(hex("0000d95f1d8b1d75d0620d263d4c4d6564"), LIMIT).unwrap();
    assert_eq!(decoded.status(), StatusCode::OK);
    assert_eq!(decoded.headers()[header::CONTENT_TYPE], "application/grpc");

    let trailers = decode_trailers(
        hex(concat!(
            "00002f019acac8b21234da8f01302f029acac8b5254207317f8720e556f32ac2ff2f099acac8b21234da",
            "85a42a466a10b466ab8abd0f0dd771619f9f2c1f",
        )),
        LIMIT,
    )
    .unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["grpc-message"], "caf%C3%A9");
    assert_eq!(trailers["grpc-status-details-bin"], "CAUSBGFhYWE");
}

#[test]
fn a_request_needs_every_pseudo_header_field_once_and_first() {
    let all = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "a"),
        (":path", "/"),
    ];
    for missing in 0..all.len() {
        let mut fields = all.to_vec();
        let (name, _) = fields.remove(missing);
        assert_malformed(decode_request(section(&fields), LIMIT), name);
    }
    for (name, value) in all {
        let again = [&all[..], &[(name, value)]].concat();
        assert_malformed(decode_request(section(&again), LIMIT), "twice");
        let after = [&[("x", "y")], &all[..]].concat();
        assert_malformed(decode_request(section(&after), LIMIT), "after another field");
    }
    assert_malformed(decode_request(request_section(&[(":path", "/")]), LIMIT), "twice");
    let with_status = [&all[..], &[(":status", "200")]].concat();
    assert_malformed(decode_request(section(&with_status), LIMIT), ":status");
    let with_protocol = [&all[..], &[(":protocol", "websocket")]].concat();
    assert_malformed(decode_request(section(&with_protocol), LIMIT), ":protocol");
}

#[test]
fn a_response_has_one_status_and_no_other_pseudo_header_field() {
    for (fields, about) in [
        (&[][..], ":status is missing"),
        (&[("x", "y")], ":status is missing"),
        (&[(":status", "200"), (":status", "200")], "twice"),
        (&[(":status", "200"), (":path", "/")], ":path"),
        (&[("x", "y"), (":status", "200")], "after another field"),
        (&[(":status", "101")], "101"),
        (&[(":status", "20")], "20"),
        (&[(":status", "2000")], "2000"),
        (&[(":status", "abc")], "abc"),
        (&[(":status", "099")], "099"),
    ] {
        assert_malformed(decode_response(section(fields), LIMIT), about);
    }
    for status in [100, 103, 200, 204, 418, 503, 599, 999] {
        let decoded = decode_response(section(&[(":status", &status.to_string())]), LIMIT).unwrap();
        assert_eq!(decoded.status(), status);
    }
}

#[test]
fn trailers_have_no_pseudo_header_fields() {
    for name in [":status", ":path", ":whatever"] {
        assert_malformed(decode_trailers(section(&[(name, "200")]), LIMIT), name);
        let later = [("grpc-status", "0"), (name, "200")];
        assert!(decode_trailers(section(&later), LIMIT).is_err());
    }
    assert_eq!(decode_trailers(section(&[]), LIMIT).unwrap(), HeaderMap::new());
}

#[test]
fn names_are_tokens_in_lower_case() {
    for name in ["Content-Type", "x y", "", "x:y", "ü", "x\0", "x\n"] {
        assert_malformed(
            decode_request(request_section(&[(name, "v")]), LIMIT),
            "field name",
        );
    }
}

#[test]
fn values_are_what_http_permits_and_stay_as_they_are() {
    for value in ["a\nb", "a\rb", "a\0b", "\x7f"] {
        let error = decode_request(request_section(&[("x-secret", value)]), LIMIT).unwrap_err();
        assert!(
            !error.to_string().contains(value),
            "a value may be a secret: {error}"
        );
        assert_malformed::<()>(Err(error), "x-secret");
    }
    for value in ["", " spaces ", "tab\there", "ümlaut", ","] {
        let decoded = decode_request(request_section(&[("x", value)]), LIMIT).unwrap();
        assert_eq!(decoded.headers()["x"].as_bytes(), value.as_bytes());
    }
}

#[test]
fn fields_of_a_connection_are_neither_accepted_nor_written() {
    let dropped = [
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
    ];
    for field in dropped {
        assert_malformed(decode_request(request_section(&[field]), LIMIT), field.0);
        assert_malformed(
            decode_response(section(&[(":status", "200"), field]), LIMIT),
            field.0,
        );
        assert_malformed(decode_trailers(section(&[field]), LIMIT), field.0);

        let parts = request("https://a/", &[field, ("x", "y"), ("host", "b")]);
        let mut headers = HeaderMap::new();
        headers.insert("x", HeaderValue::from_static("y"));
        let decoded = decode_request(section_of(encoded_request(&parts)), LIMIT).unwrap();
        assert_eq!(decoded.headers(), &headers);
        // In a response and its trailers `host` is a field like any other.
        headers.insert("host", HeaderValue::from_static("b"));
        let mut out = BytesMut::new();
        encode_response(StatusCode::OK, &parts.headers, &mut out);
        assert_eq!(
            decode_response(section_of(out), LIMIT).unwrap().headers(),
            &headers
        );
        let mut out = BytesMut::new();
        encode_trailers(&parts.headers, &mut out);
        assert_eq!(decode_trailers(section_of(out), LIMIT).unwrap(), headers);
    }
    let decoded = decode_request(request_section(&[("te", "trailers")]), LIMIT).unwrap();
    assert_eq!(decoded.headers()["te"], "trailers");
}

#[test]
fn the_authority_may_be_in_host_and_may_not_contradict_it() {
    let without = |fields: &[(&str, &str)]| {
        let pseudo = [(":method", "GET"), (":scheme", "https"), (":path", "/")];
        decode_request(section(&[&pseudo, fields].concat()), LIMIT)
    };
    assert_eq!(without(&[("host", "h:1")]).unwrap().uri(), "https://h:1/");
    assert_malformed(without(&[]), "neither");
    assert_malformed(without(&[("host", "h"), ("host", "h")]), "twice");
    assert_malformed(without(&[(":authority", "a"), ("host", "b")]), "differ");
    assert_eq!(
        without(&[(":authority", "a"), ("host", "A")]).unwrap().uri(),
        "https://a/"
    );
    for authority in ["", "a b", "a/b", "[::1"] {
        assert_malformed(without(&[(":authority", authority)]), ":authority");
    }
    let error = without(&[(":authority", "user:secret@a")]).unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
    assert_malformed::<()>(Err(error), "user information");

    // Written: the URI's, else that of host, else not at all.
    let authority_of = |parts| {
        let decoded = decode_request(section_of(encoded_request(&parts)), LIMIT).unwrap();
        assert!(decoded.headers().is_empty());
        decoded.uri().authority().unwrap().to_string()
    };
    assert_eq!(authority_of(request("https://a:1/", &[("host", "b")])), "a:1");
    assert_eq!(authority_of(request("/x", &[("host", "b")])), "b");
    let mut out = BytesMut::new();
    let error = encode_request(&request("/x", &[]), &mut out).unwrap_err();
    assert_eq!(error, EncodeError::MissingAuthority);
    assert!(out.is_empty());
}

#[test]
fn paths_are_kept() {
    for path in ["/", "/a.B/C", "/a?b=c&d=%20", "/a//b", "*", "/ü"] {
        let fields = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "a"),
            (":path", path),
        ];
        let decoded = decode_request(section(&fields), LIMIT).unwrap();
        assert_eq!(decoded.uri().path_and_query().unwrap().as_str(), path);
        let (parts, ()) = decoded.into_parts();
        let again = decode_request(section_of(encoded_request(&parts)), LIMIT).unwrap();
        assert_eq!(again.uri().path_and_query().unwrap().as_str(), path);
    }
    for path in ["", "a", "/a#b", "/a b", "/a\0", "?x"] {
        let fields = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "a"),
            (":path", path),
        ];
        assert_malformed(decode_request(section(&fields), LIMIT), ":path");
    }
    // URIs without a path.
    for (uri, path) in [("https://a", "/"), ("https://a?x=y", "/?x=y")] {
        let decoded = decode_request(section_of(encoded_request(&request(uri, &[]))), LIMIT);
        assert_eq!(decoded.unwrap().uri().path_and_query().unwrap().as_str(), path);
    }
}

#[test]
fn any_method_is_carried_but_connect() {
    for method in ["GET", "POST", "PATCH", "PRI", "a-method-longer-than-those-known"] {
        let mut parts = request("https://a/", &[]);
        parts.method = Method::from_bytes(method.as_bytes()).unwrap();
        let decoded = decode_request(section_of(encoded_request(&parts)), LIMIT).unwrap();
        assert_eq!(decoded.method(), method);
    }
    for method in ["", "A B", "ü"] {
        let fields = [
            (":method", method),
            (":scheme", "https"),
            (":authority", "a"),
            (":path", "/"),
        ];
        assert_malformed(decode_request(section(&fields), LIMIT), "method");
    }
    let connect = section(&[(":method", "CONNECT"), (":authority", "a:1")]);
    assert_malformed(decode_request(connect, LIMIT), "CONNECT");
    let mut parts = request("https://a/", &[]);
    parts.method = Method::CONNECT;
    let mut out = BytesMut::new();
    assert_eq!(encode_request(&parts, &mut out), Err(EncodeError::Connect));
}

#[test]
fn the_scheme_may_be_any() {
    for scheme in ["https", "http", "coap+tcp"] {
        let fields = [
            (":method", "GET"),
            (":scheme", scheme),
            (":authority", "a"),
            (":path", "/"),
        ];
        let decoded = decode_request(section(&fields), LIMIT).unwrap();
        assert_eq!(decoded.uri().scheme_str(), Some(scheme));
    }
    let fields = [
        (":method", "GET"),
        (":scheme", "h t"),
        (":authority", "a"),
        (":path", "/"),
    ];
    assert_malformed(decode_request(section(&fields), LIMIT), ":scheme");
}

#[test]
fn spaces_around_a_value_are_not_written() {
    let padded = [
        (" a b", "a b"),
        ("a ", "a"),
        ("\ta\t ", "a"),
        (" \t", ""),
        ("", ""),
    ];
    for (value, expected) in padded {
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static(value));
        let mut parts = request("https://a/s/m", &[]);
        parts.headers = headers.clone();
        let request = decode_request(section_of(encoded_request(&parts)), LIMIT).unwrap();
        assert_eq!(request.headers()["x-a"], expected);

        let (mut response, mut trailers) = (BytesMut::new(), BytesMut::new());
        encode_response(StatusCode::OK, &headers, &mut response);
        let size = encode_trailers(&headers, &mut trailers);
        assert_eq!(size, ("x-a".len() + expected.len() + FIELD_OVERHEAD) as u64);
        let response = decode_response(section_of(response), LIMIT).unwrap();
        assert_eq!(response.headers()["x-a"], expected);
        assert_eq!(
            decode_trailers(section_of(trailers), LIMIT).unwrap()["x-a"],
            expected
        );
    }
}

#[test]
fn sensitive_values_stay_so() {
    let mut trailers = HeaderMap::new();
    let mut secret = HeaderValue::from_static("gzip, deflate, br");
    secret.set_sensitive(true);
    trailers.insert(header::ACCEPT_ENCODING, secret);
    trailers.insert(header::COOKIE, HeaderValue::from_static("a=b"));
    trailers.insert("x", HeaderValue::from_static("y"));
    let mut out = BytesMut::new();
    encode_trailers(&trailers, &mut out);
    let decoded = decode_trailers(section_of(out), LIMIT).unwrap();
    let sensitive: Vec<_> = decoded.values().map(HeaderValue::is_sensitive).collect();
    assert_eq!(sensitive, [true, true, false]);
}

#[test]
fn the_limit_counts_what_the_rfc_counts() {
    let fields = [("grpc-status", "0"), ("x-name", "value")];
    let size = 11 + 1 + 32 + 6 + 5 + 32;
    assert!(decode_trailers(section(&fields), size).is_ok());
    let error = decode_trailers(section(&fields), size - 1).unwrap_err();
    assert_eq!(error, HeadError::TooLarge { limit: size - 1 });
    let error = ProtocolError::from(error);
    assert_eq!((error.code, error.scope), (Code::EXCESSIVE_LOAD, Scope::Stream));
    assert!(error.is_too_large());

    let mut trailers = HeaderMap::new();
    for (name, value) in fields {
        trailers.insert(name, HeaderValue::from_static(value));
    }
    assert_eq!(encode_trailers(&trailers, &mut BytesMut::new()), size);
    // :method POST, :scheme https, :authority a, :path /
    let size = encode_request(&request("https://a/", &[]), &mut BytesMut::new());
    assert_eq!(size, Ok(7 + 4 + 7 + 5 + 10 + 1 + 5 + 1 + 4 * 32));
}

#[test]
fn a_small_section_of_many_fields_is_stopped_at_the_limit() {
    // One byte each: entry 62 of the static table, 16 + 13 + 32 bytes as the RFC counts.
    let mut bomb = vec![0, 0];
    bomb.resize(usize::try_from(LIMIT).unwrap(), 0xc0 | 62);
    let result = decode_trailers(bomb.into(), LIMIT);
    assert_eq!(result.unwrap_err(), HeadError::TooLarge { limit: LIMIT });
}

#[test]
fn the_number_of_fields_has_a_limit_of_its_own() {
    let fields = |count| {
        let names: Vec<_> = (0..count).map(|n| format!("x-{n}")).collect();
        section(&names.iter().map(|name| (name.as_str(), "")).collect::<Vec<_>>())
    };
    assert_eq!(
        decode_trailers(fields(MAX_FIELDS), u64::MAX).unwrap().len(),
        MAX_FIELDS
    );
    let error = decode_trailers(fields(MAX_FIELDS + 1), u64::MAX).unwrap_err();
    assert_eq!(error, HeadError::TooManyFields);
    assert!(ProtocolError::from(error).is_too_large());
}

#[test]
fn a_section_that_cannot_be_decompressed_ends_the_connection() {
    for (section, expected) in [
        (&b""[..], QpackError::Truncated),
        (b"\x00\x00\x80", QpackError::DynamicReference),
        (b"\x00\x00\x5f\x1d\x81\xff", QpackError::Huffman),
    ] {
        let error = decode_request(Bytes::copy_from_slice(section), LIMIT).unwrap_err();
        assert_eq!(error, HeadError::Qpack(expected));
        let error = ProtocolError::from(error);
        assert_eq!(error.code, Code::QPACK_DECOMPRESSION_FAILED);
        assert_eq!(error.scope, Scope::Connection);
    }
}

#[test]
fn a_long_head_gets_a_long_length() {
    for len in [0, 10, 100, 16_000, 17_000, 70_000] {
        let mut trailers = HeaderMap::new();
        let value = "v".repeat(len);
        trailers.insert("x", HeaderValue::from_str(&value).unwrap());
        let mut out = BytesMut::from(&b""[..]);
        encode_trailers(&trailers, &mut out);
        assert_eq!(
            decode_trailers(section_of(out), LIMIT).unwrap(),
            trailers,
            "{len}"
        );
    }
}

#[test]
fn content_lengths_are_numbers_that_agree() {
    let headers = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::CONTENT_LENGTH, HeaderValue::from_static(value));
        }
        headers
    };
    assert_eq!(content_length(&headers(&[])), Ok(None));
    assert_eq!(content_length(&headers(&["42"])), Ok(Some(42)));
    assert_eq!(content_length(&headers(&["42", "42"])), Ok(Some(42)));
    for values in [
        &["42", "43"][..],
        &["+1"],
        &["-1"],
        &[""],
        &["99999999999999999999"],
        &["4 2"],
    ] {
        assert_malformed(content_length(&headers(values)), "content-length");
    }
}

/// Names that are valid on the wire, known and unknown ones.
fn name() -> impl Strategy<Value = HeaderName> {
    prop_oneof![
        3 => "x-[a-z0-9-]{0,20}(-bin)?",
        1 => prop::sample::select(vec![
            "content-type", "user-agent", "accept-encoding", "cookie", "grpc-status", "grpc-message",
            "grpc-timeout", "traceparent", "vary", "date", "x-frame-options", "authorization",
        ]).prop_map(str::to_owned),
    ]
    .prop_map(|name| HeaderName::from_bytes(name.as_bytes()).unwrap())
}

fn value() -> impl Strategy<Value = HeaderValue> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..150),
        // Values of the static table, which are written as indices.
        1 => prop::sample::select(vec!["gzip, deflate, br", "deny", "origin", "text/css", ""])
            .prop_map(|value| value.as_bytes().to_vec()),
    ]
    .prop_map(|mut value| {
        for byte in &mut value {
            if *byte < b' ' || *byte == 0x7f {
                *byte = b'\t';
            }
        }
        // Spaces around it would not survive.
        HeaderValue::from_bytes(value.trim_ascii()).unwrap()
    })
}

fn header_map() -> impl Strategy<Value = HeaderMap> {
    // Few names, so that several fields share one.
    (
        prop::collection::vec(name(), 1..6),
        prop::collection::vec((any::<usize>(), value()), 0..20),
    )
        .prop_map(|(names, fields)| {
            let mut headers = HeaderMap::new();
            for (index, value) in fields {
                headers.append(names[index % names.len()].clone(), value);
            }
            headers
        })
}

/// Whether two maps have the same values of each name in the same order.
fn same(a: &HeaderMap, b: &HeaderMap) -> bool {
    a.len() == b.len()
        && a.keys()
            .all(|name| a.get_all(name).iter().eq(b.get_all(name).iter()))
}

proptest! {
    #[test]
    fn requests_survive(
        method in "(GET|POST|[A-Z]{1,20})",
        authority in "[a-z0-9.-]{1,40}(:[0-9]{1,5})?",
        path in r"/[a-zA-Z0-9._~/%!$&'()*+,;=:@{}-]{0,80}(\?[a-zA-Z0-9._~/%!$&'()*+,;=:@?-]{0,40})?",
        headers in header_map(),
    ) {
        prop_assume!(method != "CONNECT");
        let uri = Uri::builder().scheme("https").authority(authority).path_and_query(path).build().unwrap();
        let mut request = Request::builder().method(method.as_str()).uri(uri).body(()).unwrap();
        *request.headers_mut() = headers;
        let (parts, ()) = request.into_parts();

        let mut out = BytesMut::from(&b"before"[..]);
        let size = encode_request(&parts, &mut out).unwrap();
        prop_assert_eq!(&out.split_to(6), "before");
        let section = section_of(out);
        prop_assert!(section.len() as u64 <= size + 2);
        prop_assert_eq!(
            decode_request(section.clone(), size - 1).unwrap_err(),
            HeadError::TooLarge { limit: size - 1 }
        );
        let decoded = decode_request(section, size).unwrap();
        prop_assert_eq!(decoded.method(), &parts.method);
        prop_assert_eq!(decoded.uri(), &parts.uri);
        prop_assert!(same(decoded.headers(), &parts.headers));
    }

    #[test]
    fn responses_survive(status in 100u16..1000, headers in header_map()) {
        prop_assume!(status != 101);
        let mut response = Response::builder().status(status).body(()).unwrap();
        *response.headers_mut() = headers;
        let mut out = BytesMut::new();
        let size = encode_response(response.status(), response.headers(), &mut out);
        let decoded = decode_response(section_of(out), size).unwrap();
        prop_assert_eq!(decoded.status(), response.status());
        prop_assert!(same(decoded.headers(), response.headers()));
    }

    #[test]
    fn trailers_survive(trailers in header_map()) {
        let mut out = BytesMut::new();
        let size = encode_trailers(&trailers, &mut out);
        prop_assert!(same(&decode_trailers(section_of(out), size).unwrap(), &trailers));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, limit in 0u64..1000) {
        let section = Bytes::from([&[0, 0], &bytes[..]].concat());
        let _ = decode_request(section.clone(), limit);
        let _ = decode_response(section.clone(), limit);
        let _ = decode_trailers(section, limit);
    }

    #[test]
    fn arbitrary_fields_never_panic(fields in prop::collection::vec((".*", ".*"), 0..10)) {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let _ = decode_request(request_section(&fields), LIMIT);
        let _ = decode_response(section(&fields), LIMIT);
    }
}
