//! Frames of a stream: the same in any chunks, and no more memory than was received or is permitted.

#![no_main]

use adit_transport::rh3::Role;
use adit_transport::rh3::error::ProtocolError;
use adit_transport::rh3::frame::{Frame, FrameDecoder};
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;

const LIMIT: u64 = 64;

fuzz_target!(|input: (bool, bool, u8, &[u8])| {
    let (on_control, is_client, size, bytes) = input;
    let role = if is_client { Role::Client } else { Role::Server };
    let decoder = || {
        if on_control {
            FrameDecoder::control(role)
        } else {
            FrameDecoder::message(role, LIMIT)
        }
    };
    let mut whole = decoder();
    let mut chunked = decoder();
    let of_whole = read(&mut whole, [bytes]);
    let of_chunks = read(&mut chunked, bytes.chunks(usize::from(size).max(1)));
    assert_eq!(of_whole, of_chunks);
    assert_eq!(whole.finish(), chunked.finish());
    if whole.is_idle() {
        assert_eq!(whole.finish().is_ok(), !on_control);
    }
});

/// The frames of some chunks, consecutive pieces of DATA as one.
fn read<'a>(
    decoder: &mut FrameDecoder,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Frame>, Option<ProtocolError>) {
    let mut frames = Vec::new();
    let mut data = BytesMut::new();
    let mut error = None;
    for chunk in chunks {
        decoder.push(Bytes::copy_from_slice(chunk));
        loop {
            let has_data = decoder.has_data();
            match decoder.next_frame() {
                Ok(Some(Frame::Data(piece))) => {
                    assert!(has_data && !piece.is_empty());
                    data.extend_from_slice(&piece);
                }
                Ok(Some(frame)) => {
                    assert!(!has_data);
                    if let Frame::Headers(section) = &frame {
                        assert!(section.len() as u64 <= LIMIT + 2);
                    }
                    if !data.is_empty() {
                        frames.push(Frame::Data(data.split().freeze()));
                    }
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(first) => {
                    error.get_or_insert(first);
                    break;
                }
            }
        }
    }
    if !data.is_empty() {
        frames.push(Frame::Data(data.freeze()));
    }
    (frames, error)
}
