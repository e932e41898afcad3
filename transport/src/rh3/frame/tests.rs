#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use bytes::{Buf as _, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::rh3::Role;
use crate::rh3::code::Code;
use crate::rh3::error::{ProtocolError, Scope};
use crate::rh3::settings::MAX_SETTINGS_LEN;
use crate::rh3::varint;

const LIMIT: u64 = 1000;

/// An empty SETTINGS frame, with which a control stream begins.
const EMPTY_SETTINGS: [u8; 2] = [0x04, 0x00];

fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = header(kind, payload.len() as u64);
    out.extend_from_slice(payload);
    out
}

fn header(kind: u64, len: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint::put(&mut out, kind);
    varint::put(&mut out, len);
    out
}

fn message() -> FrameDecoder {
    FrameDecoder::message(Role::Server, LIMIT)
}

/// A control stream whose SETTINGS have come.
fn control(role: Role) -> FrameDecoder {
    let mut decoder = FrameDecoder::control(role);
    let frames = decode(&mut decoder, [Bytes::from_static(&EMPTY_SETTINGS)]).unwrap();
    assert_eq!(frames, [Frame::Settings(Settings::default())]);
    decoder
}

/// The frames of some chunks, consecutive pieces of DATA as one.
fn decode(
    decoder: &mut FrameDecoder,
    chunks: impl IntoIterator<Item = Bytes>,
) -> Result<Vec<Frame>, ProtocolError> {
    let mut frames = Vec::new();
    let mut data = BytesMut::new();
    for chunk in chunks {
        decoder.push(chunk);
        while let Some(frame) = decoder.next_frame()? {
            if let Frame::Data(piece) = &frame {
                assert!(!piece.is_empty());
                data.extend_from_slice(piece);
                continue;
            }
            if !data.is_empty() {
                frames.push(Frame::Data(data.split().freeze()));
            }
            frames.push(frame);
        }
    }
    if !data.is_empty() {
        frames.push(Frame::Data(data.freeze()));
    }
    Ok(frames)
}

fn decode_whole(decoder: &mut FrameDecoder, bytes: &[u8]) -> Result<Vec<Frame>, ProtocolError> {
    decode(decoder, [Bytes::copy_from_slice(bytes)])
}

/// The error of a decoder, and that it stays in it.
fn error_of(mut decoder: FrameDecoder, bytes: &[u8]) -> ProtocolError {
    let error = decode_whole(&mut decoder, bytes).unwrap_err();
    decoder.push(Bytes::from_static(b"more"));
    assert_eq!(decoder.next_frame(), Err(error.clone()));
    assert_eq!(decoder.finish(), Err(error.clone()));
    assert!(!decoder.has_data());
    assert!(!decoder.is_idle());
    error
}

#[test]
fn pinned_bytes_of_a_message() {
    let bytes = b"\x01\x03abc\x00\x05hello\x40\x00\x40\x01!\x01\x00";
    let mut decoder = message();
    let frames = decode_whole(&mut decoder, bytes).unwrap();
    assert_eq!(
        frames,
        [
            Frame::Headers(Bytes::from_static(b"abc")),
            Frame::Data(Bytes::from_static(b"hello!")),
            Frame::Headers(Bytes::new()),
        ]
    );
    assert!(decoder.is_idle());
    decoder.finish().unwrap();
}

#[test]
fn pinned_bytes_that_are_written() {
    let mut out = BytesMut::new();
    put_data_header(&mut out, 5);
    put_data_header(&mut out, 16_384);
    put_goaway(&mut out, 0);
    put_goaway(&mut out, 401);
    assert_eq!(
        out,
        b"\x00\x05\x00\x80\x00\x40\x00\x07\x01\x00\x07\x02\x41\x91"[..]
    );
}

#[test]
fn pinned_bytes_of_a_control_stream() {
    let mut bytes = Vec::new();
    Settings::new(65_536).encode(&mut bytes);
    bytes.extend(frame(0x1f * 7 + 0x21, b"grease"));
    bytes.extend(b"\x0d\x01\x08\x07\x01\x08\x0d\x01\x08\x07\x01\x05");
    let mut decoder = FrameDecoder::control(Role::Server);
    let frames = decode_whole(&mut decoder, &bytes).unwrap();
    let expected = [
        Frame::Settings(Settings::new(65_536)),
        Frame::GoAway(8),
        Frame::GoAway(5),
    ];
    assert_eq!(frames, expected);
}

#[test]
fn data_is_a_slice_of_the_chunk_and_headers_are_not() {
    let chunk = Bytes::from_static(b"\x01\x03abc\x00\x08hello");
    let within = chunk.as_ptr_range();
    let mut decoder = message();
    decoder.push(chunk);
    let Some(Frame::Headers(headers)) = decoder.next_frame().unwrap() else {
        unreachable!("the first frame is HEADERS");
    };
    assert!(!within.contains(&headers.as_ptr()));
    let Some(Frame::Data(data)) = decoder.next_frame().unwrap() else {
        unreachable!("the second frame is DATA");
    };
    assert_eq!(data, "hello");
    assert!(within.contains(&data.as_ptr()));
    assert_eq!(decoder.next_frame(), Ok(None));
}

#[test]
fn has_data_sees_past_headers_of_frames_only() {
    let mut decoder = message();
    assert!(!decoder.has_data());
    decoder.push(Bytes::from_static(
        b"\x01\x01h\x00\x00\x21\x02xx\x00\x01d\x01\x01t",
    ));
    assert!(!decoder.has_data(), "HEADERS come first");
    assert!(!decoder.wants_chunk());
    assert!(matches!(decoder.next_frame(), Ok(Some(Frame::Headers(_)))));
    assert!(decoder.has_data());
    assert!(decoder.has_data());
    assert!(matches!(decoder.next_frame(), Ok(Some(Frame::Data(_)))));
    assert!(!decoder.has_data(), "trailers come next");
    assert!(!decoder.is_idle());
    assert!(matches!(decoder.next_frame(), Ok(Some(Frame::Headers(_)))));
    assert!(decoder.is_idle() && decoder.wants_chunk());

    let mut decoder = message();
    decoder.push(Bytes::from_static(b"\x02\x00"));
    assert!(!decoder.has_data());
    assert_eq!(decoder.next_frame().unwrap_err().code, Code::FRAME_UNEXPECTED);
}

#[test]
fn an_end_right_behind_a_payload_is_an_end_between_frames() {
    for bytes in [&b""[..], b"\x00\x01d", b"\x00\x00", b"\x21\x01x", b"\x01\x00"] {
        let mut decoder = message();
        decoder.push(Bytes::copy_from_slice(bytes));
        // Not asked again after the last frame.
        if !bytes.is_empty() {
            decoder.next_frame().unwrap();
        }
        assert!(decoder.is_idle(), "{bytes:x?}");
        decoder.finish().unwrap();
    }
}

#[test]
fn an_end_within_a_frame_ends_the_connection() {
    for (bytes, within) in [
        (&b"\x40"[..], "type or the length"),
        (b"\x01", "type or the length"),
        (b"\x01\x40", "type or the length"),
        (b"\x01\x02a", "2 bytes of a frame of type 0x1"),
        (b"\x00\x05hell", "1 bytes before the end of a DATA frame"),
        (b"\x21\x03x", "2 bytes before the end of a frame of unknown type"),
    ] {
        let mut decoder = message();
        decode_whole(&mut decoder, bytes).unwrap();
        let error = decoder.finish().unwrap_err();
        assert_eq!((error.code, error.scope), (Code::FRAME_ERROR, Scope::Connection));
        assert!(error.reason.contains(within), "{error}");
    }
}

#[test]
fn a_control_stream_may_not_end() {
    for decoder in [FrameDecoder::control(Role::Client), control(Role::Client)] {
        let error = decoder.finish().unwrap_err();
        assert_eq!(error.code, Code::CLOSED_CRITICAL_STREAM);
        assert_eq!(error.scope, Scope::Connection);
    }
}

#[test]
fn frames_of_http2_are_refused_everywhere() {
    for kind in [0x02, 0x06, 0x08, 0x09] {
        for decoder in [message(), control(Role::Client)] {
            let error = error_of(decoder, &frame(kind, b""));
            assert_eq!(
                (error.code, error.scope),
                (Code::FRAME_UNEXPECTED, Scope::Connection)
            );
            assert!(error.reason.contains(&format!("{kind:#x}")), "{error}");
        }
    }
}

#[test]
fn frames_on_the_wrong_stream_are_refused() {
    for (kind, payload) in [
        (kind::SETTINGS, &b""[..]),
        (kind::GOAWAY, b"\x00"),
        (kind::CANCEL_PUSH, b"\x00"),
        (kind::MAX_PUSH_ID, b"\x00"),
        (kind::PUSH_PROMISE, b"\x00\x00\x00"),
    ] {
        let error = error_of(message(), &frame(kind, payload));
        assert_eq!(
            (error.code, error.scope),
            (Code::FRAME_UNEXPECTED, Scope::Connection)
        );
    }
    for kind in [kind::DATA, kind::HEADERS, kind::PUSH_PROMISE, kind::SETTINGS] {
        let error = error_of(control(Role::Client), &frame(kind, b""));
        assert_eq!(
            (error.code, error.scope),
            (Code::FRAME_UNEXPECTED, Scope::Connection)
        );
    }
}

#[test]
fn nothing_may_be_pushed() {
    let response = FrameDecoder::message(Role::Client, LIMIT);
    let error = error_of(response, &frame(kind::PUSH_PROMISE, b"\x00\x00\x00"));
    assert_eq!((error.code, error.scope), (Code::ID_ERROR, Scope::Connection));
    for role in [Role::Client, Role::Server] {
        let error = error_of(control(role), &frame(kind::CANCEL_PUSH, b"\x00"));
        assert_eq!((error.code, error.scope), (Code::ID_ERROR, Scope::Connection));
    }
    let error = error_of(control(Role::Client), &frame(kind::MAX_PUSH_ID, b"\x00"));
    assert_eq!(error.code, Code::FRAME_UNEXPECTED);
    let error = error_of(control(Role::Server), b"\x0d\x01\x08\x0d\x01\x07");
    assert_eq!(error.code, Code::ID_ERROR);
}

#[test]
fn settings_come_first() {
    for first in [
        frame(kind::GOAWAY, b"\x00"),
        frame(0x21, b""),
        frame(kind::DATA, b""),
    ] {
        let error = error_of(FrameDecoder::control(Role::Client), &first);
        assert_eq!(
            (error.code, error.scope),
            (Code::MISSING_SETTINGS, Scope::Connection)
        );
    }
}

#[test]
fn bad_settings_are_refused() {
    let error = error_of(
        FrameDecoder::control(Role::Client),
        &frame(kind::SETTINGS, b"\x02\x00"),
    );
    assert_eq!(
        (error.code, error.scope),
        (Code::SETTINGS_ERROR, Scope::Connection)
    );
    let too_long = header(kind::SETTINGS, MAX_SETTINGS_LEN as u64 + 1);
    let error = error_of(FrameDecoder::control(Role::Client), &too_long);
    assert_eq!(
        (error.code, error.scope),
        (Code::EXCESSIVE_LOAD, Scope::Connection)
    );
}

#[test]
fn goaway_of_a_server_names_a_stream_that_the_quic_server_opened() {
    for id in [0, 1, 5, 4001] {
        let mut bytes = Vec::new();
        put_goaway(&mut bytes, id);
        let frames = decode_whole(&mut control(Role::Client), &bytes).unwrap();
        assert_eq!(frames, [Frame::GoAway(id)]);
    }
    for id in [2, 3, 4, 4000] {
        let mut bytes = Vec::new();
        put_goaway(&mut bytes, id);
        let error = error_of(control(Role::Client), &bytes);
        assert_eq!((error.code, error.scope), (Code::ID_ERROR, Scope::Connection));
        // From a client it is a push id, and may be any.
        let frames = decode_whole(&mut control(Role::Server), &bytes).unwrap();
        assert_eq!(frames, [Frame::GoAway(id)]);
    }
}

#[test]
fn the_id_of_goaway_never_grows() {
    let mut bytes = Vec::new();
    for id in [9, 9, 5, 9] {
        put_goaway(&mut bytes, id);
    }
    let mut decoder = control(Role::Client);
    decoder.push(bytes.into());
    for id in [9, 9, 5] {
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::GoAway(id))));
    }
    assert_eq!(decoder.next_frame().unwrap_err().code, Code::ID_ERROR);
}

#[test]
fn a_frame_of_one_integer_has_nothing_else() {
    for kind in [kind::GOAWAY, kind::MAX_PUSH_ID, kind::CANCEL_PUSH] {
        for payload in [
            &b""[..],
            b"\x40",
            b"\x00\x00",
            b"\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        ] {
            let error = error_of(control(Role::Server), &frame(kind, payload));
            assert_eq!((error.code, error.scope), (Code::FRAME_ERROR, Scope::Connection));
        }
    }
}

#[test]
fn a_head_that_is_too_long_is_refused_from_its_length_and_ends_its_stream_alone() {
    // The prefix of a field section does not count.
    let longest = vec![0; usize::try_from(LIMIT).unwrap() + 2];
    let frames = decode_whole(&mut message(), &frame(kind::HEADERS, &longest)).unwrap();
    assert_eq!(frames, [Frame::Headers(longest.into())]);
    for len in [LIMIT + 3, varint::MAX] {
        let error = error_of(message(), &header(kind::HEADERS, len));
        assert_eq!((error.code, error.scope), (Code::EXCESSIVE_LOAD, Scope::Stream));
        assert!(error.is_too_large());
    }
}

#[test]
fn an_unknown_frame_of_any_length_is_skipped_without_being_kept() {
    let mut decoder = message();
    decoder.push(header(0x1f * 3 + 0x21, varint::MAX).into());
    let chunk = Bytes::from(vec![0; 1 << 20]);
    for _ in 0..100 {
        decoder.push(chunk.clone());
        assert_eq!(decoder.next_frame(), Ok(None));
    }
    assert!(chunk.is_unique(), "no chunk is held");
}

#[test]
fn a_claimed_length_reserves_no_memory() {
    let mut decoder = FrameDecoder::message(Role::Server, varint::MAX);
    decoder.push(header(kind::HEADERS, varint::MAX >> 8).into());
    decoder.push(Bytes::from_static(b"x"));
    assert_eq!(decoder.next_frame(), Ok(None));
}

#[test]
fn a_chunk_that_is_pushed_early_is_not_lost() {
    let mut decoder = message();
    decoder.push(Bytes::from_static(b"\x00\x02a"));
    decoder.push(Bytes::from_static(b"b\x00\x01c"));
    let frames = decode(&mut decoder, [Bytes::from_static(b"\x01\x00")]).unwrap();
    assert_eq!(
        frames,
        [
            Frame::Data(Bytes::from_static(b"abc")),
            Frame::Headers(Bytes::new())
        ]
    );
}

/// Frames that may come on a request stream, unknown ones included, as they are written.
fn frames_of_a_message() -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
    let kind = prop_oneof![
        3 => Just(kind::DATA),
        2 => Just(kind::HEADERS),
        1 => (0u64..1 << 40).prop_map(|n| 0x1f * n + 0x21),
    ];
    prop::collection::vec((kind, prop::collection::vec(any::<u8>(), 0..200)), 0..12)
}

proptest! {
    #[test]
    fn chunks_may_end_anywhere(
        written in frames_of_a_message(),
        sizes in prop::collection::vec(1usize..64, 1..20),
    ) {
        let mut bytes = Bytes::from(
            written.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect::<Vec<_>>(),
        );
        // What they say: DATA put together, the unknown left out.
        let mut expected = Vec::new();
        let mut data = BytesMut::new();
        for (kind, payload) in &written {
            match *kind {
                kind::DATA => data.extend_from_slice(payload),
                kind::HEADERS => {
                    if !data.is_empty() {
                        expected.push(Frame::Data(data.split().freeze()));
                    }
                    expected.push(Frame::Headers(Bytes::copy_from_slice(payload)));
                }
                _ => {}
            }
        }
        if !data.is_empty() {
            expected.push(Frame::Data(data.freeze()));
        }

        let whole = decode(&mut message(), [bytes.clone()]).unwrap();
        prop_assert_eq!(&whole, &expected);
        let mut chunks = Vec::new();
        for size in sizes.iter().cycle() {
            if bytes.is_empty() {
                break;
            }
            chunks.push(bytes.split_to((*size).min(bytes.len())));
        }
        let mut decoder = message();
        prop_assert_eq!(&decode(&mut decoder, chunks).unwrap(), &expected);
        prop_assert!(decoder.is_idle());
        prop_assert_eq!(decoder.finish(), Ok(()));
    }

    #[test]
    fn arbitrary_bytes_mean_the_same_in_any_chunks(
        bytes: Vec<u8>,
        size in 1usize..20,
        on_control: bool,
        from_server: bool,
    ) {
        let role = if from_server { Role::Client } else { Role::Server };
        let decoder = || {
            if on_control { control(role) } else { FrameDecoder::message(role, LIMIT) }
        };
        let bytes = Bytes::from(bytes);
        let mut whole = decoder();
        let of_whole = decode(&mut whole, [bytes.clone()]);
        let mut rest = bytes;
        let chunks = std::iter::from_fn(|| {
            rest.has_remaining().then(|| rest.split_to(size.min(rest.len())))
        });
        let mut chunked = decoder();
        prop_assert_eq!(decode(&mut chunked, chunks), of_whole);
        prop_assert_eq!(chunked.finish(), whole.finish());
    }
}
