//! The frames of HTTP/2 as they pass by (RFC 9113 §4.1): where each begins and ends, and what a few of them say.
//!
//! The h2 crate speaks HTTP/2; this only watches, because it keeps some things to itself: what the peer says when it closes
//! the connection, which calls it has looked at by then, how long a header section it takes, and where one may stop writing
//! without breaking a frame in two. Pure bytes: no socket, no clock.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of the client's connection preface, before its first frame (RFC 9113 §3.4).
pub(super) const PREFACE: usize = 24;

/// Bytes before a frame's payload.
const HEADER: usize = 9;

/// What is kept of the payload of a frame that is read: a longer reason is cut off.
const KEPT: usize = 4 << 10;

/// What is sent of a reason at the most.
const MAX_REASON: usize = 1 << 10;

/// Types of frames.
pub(super) mod kind {
    pub(in crate::rh2) const DATA: u8 = 0;
    pub(in crate::rh2) const HEADERS: u8 = 1;
    pub(in crate::rh2) const RST_STREAM: u8 = 3;
    pub(in crate::rh2) const SETTINGS: u8 = 4;
    pub(in crate::rh2) const PING: u8 = 6;
    pub(in crate::rh2) const GOAWAY: u8 = 7;
    pub(in crate::rh2) const WINDOW_UPDATE: u8 = 8;
}

/// The flag of a PING and of SETTINGS that only answer.
const ACK: u8 = 1;

/// The flag of a DATA or HEADERS frame that ends its stream.
const END_STREAM: u8 = 1;

/// SETTINGS_MAX_HEADER_LIST_SIZE (RFC 9113 §6.5.2).
const MAX_HEADER_LIST_SIZE: u16 = 6;

/// A frame that has passed by to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    /// Bytes of its payload.
    pub(super) length: usize,
    /// Of SETTINGS and GOAWAY, the beginning of its payload; of others nothing.
    pub(super) payload: &'a [u8],
}

/// A GOAWAY frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GoAway {
    /// The last of this end's streams that the peer has looked at, or may still do.
    pub(super) last: u32,
    pub(super) code: u32,
    pub(super) reason: Bytes,
}

/// Follows the frames in one direction of a connection.
#[derive(Debug)]
pub(super) struct Scanner {
    /// Bytes to pass over before the first frame.
    preface: usize,
    header: [u8; HEADER],
    /// How much of the header has come.
    have: usize,
    /// Bytes of the payload, and what is left of them.
    length: usize,
    left: usize,
    kept: Vec<u8>,
}

impl Scanner {
    pub(super) fn new(preface: usize) -> Self {
        Self {
            preface,
            header: [0; HEADER],
            have: 0,
            length: 0,
            left: 0,
            kept: Vec::new(),
        }
    }

    /// Follows `bytes`, and shows each frame that ends in them.
    pub(super) fn scan(&mut self, mut bytes: &[u8], mut seen: impl FnMut(&Frame<'_>)) {
        let skipped = self.preface.min(bytes.len());
        self.preface -= skipped;
        bytes = &bytes[skipped..];
        while !bytes.is_empty() {
            if self.have < HEADER {
                let taken = bytes.len().min(HEADER - self.have);
                self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
                self.have += taken;
                bytes = &bytes[taken..];
                if self.have < HEADER {
                    return;
                }
                let [a, b, c, ..] = self.header;
                self.length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.left = self.length;
                self.kept.clear();
            }
            let taken = bytes.len().min(self.left);
            let (payload, rest) = bytes.split_at(taken);
            if matches!(self.header[3], kind::SETTINGS | kind::GOAWAY) {
                let room = KEPT.saturating_sub(self.kept.len());
                self.kept.extend_from_slice(&payload[..taken.min(room)]);
            }
            self.left -= taken;
            bytes = rest;
            if self.left == 0 {
                self.have = 0;
                let [.., a, b, c, d] = self.header;
                seen(&Frame {
                    length: self.length,
                    kind: self.header[3],
                    flags: self.header[4],
                    stream: u32::from_be_bytes([a & 0x7f, b, c, d]),
                    payload: &self.kept,
                });
            }
        }
    }

    /// How many further bytes belong to the frame that has begun for certain: none between two frames.
    pub(super) fn until_boundary(&self) -> usize {
        match self.have {
            _ if self.preface > 0 => self.preface,
            0 => 0,
            HEADER => self.left,
            have => HEADER - have,
        }
    }
}

impl Frame<'_> {
    /// Whether the peer has to give a sign of life after this frame, if it is asked. What only answers is not answered, or
    /// two ends would answer each other for ever.
    pub(super) fn wants_sign(&self) -> bool {
        match self.kind {
            kind::PING | kind::SETTINGS => self.flags & ACK == 0,
            kind::WINDOW_UPDATE => false,
            _ => true,
        }
    }

    /// Whether its stream has nothing more in this direction.
    pub(super) fn ends_stream(&self) -> bool {
        match self.kind {
            kind::DATA | kind::HEADERS => self.flags & END_STREAM != 0,
            kind::RST_STREAM => true,
            _ => false,
        }
    }

    /// What a SETTINGS frame says of the longest header section.
    pub(super) fn max_header_list(&self) -> Option<u32> {
        if self.kind != kind::SETTINGS {
            return None;
        }
        let mut settings = self.payload.chunks_exact(6).filter_map(|setting| {
            let (id, value) = (setting.first_chunk::<2>()?, setting.last_chunk::<4>()?);
            (u16::from_be_bytes(*id) == MAX_HEADER_LIST_SIZE).then(|| u32::from_be_bytes(*value))
        });
        settings.next_back()
    }

    /// What a GOAWAY frame says.
    pub(super) fn goaway(&self) -> Option<GoAway> {
        if self.kind != kind::GOAWAY {
            return None;
        }
        let (last, rest) = self.payload.split_first_chunk::<4>()?;
        let (code, reason) = rest.split_first_chunk::<4>()?;
        Some(GoAway {
            last: u32::from_be_bytes(*last) & 0x7fff_ffff,
            code: u32::from_be_bytes(*code),
            reason: Bytes::copy_from_slice(reason),
        })
    }
}

impl GoAway {
    /// The frame's bytes.
    pub(super) fn encode(&self) -> Bytes {
        let reason = &self.reason[..self.reason.len().min(MAX_REASON)];
        let length = 8 + reason.len();
        let mut out = BytesMut::with_capacity(HEADER + length);
        out.put_uint(length as u64, 3);
        out.put_u8(kind::GOAWAY);
        out.put_u8(0);
        out.put_u32(0);
        out.put_u32(self.last);
        out.put_u32(self.code);
        out.put_slice(reason);
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        out.put_uint(payload.len() as u64, 3);
        out.put_u8(kind);
        out.put_u8(flags);
        out.put_u32(stream);
        out.put_slice(payload);
        out.to_vec()
    }

    #[test]
    fn a_goaway_says_what_was_written() {
        let goaway = GoAway {
            last: 7,
            code: 7,
            reason: Bytes::from_static(b"another instance has the id"),
        };
        let (mut scanner, mut seen) = (Scanner::new(0), Vec::new());
        scanner.scan(&goaway.encode(), |frame| seen.extend(frame.goaway()));
        assert_eq!(seen, [goaway]);
        let long = GoAway {
            last: 0,
            code: 0,
            reason: vec![b'x'; 100_000].into(),
        };
        assert_eq!(long.encode().len(), HEADER + 8 + MAX_REASON);
    }

    #[test]
    fn a_long_payload_is_not_kept() {
        let mut scanner = Scanner::new(0);
        let mut kept = 0;
        scanner.scan(&frame(kind::GOAWAY, 0, 0, &[0; 60_000]), |frame| {
            kept = frame.payload.len();
        });
        assert_eq!(kept, KEPT);
        assert_eq!(scanner.until_boundary(), 0);
    }

    #[test]
    fn settings_say_how_long_a_header_section_may_be() {
        let settings = [0, 1, 0, 0, 0, 9, 0, 6, 0, 2, 0, 0, 0, 3, 0, 0];
        let mut seen = None;
        Scanner::new(0).scan(&frame(kind::SETTINGS, 0, 0, &settings), |frame| {
            seen = frame.max_header_list();
        });
        assert_eq!(seen, Some(128 << 10));
    }

    #[test]
    fn answers_ask_for_nothing() {
        let asks = |kind, flags| {
            Frame {
                kind,
                flags,
                stream: 0,
                length: 0,
                payload: &[],
            }
            .wants_sign()
        };
        assert!(asks(kind::PING, 0) && asks(kind::DATA, 0) && asks(kind::HEADERS, END_STREAM));
        assert!(!asks(kind::PING, ACK) && !asks(kind::SETTINGS, ACK) && !asks(kind::WINDOW_UPDATE, 0));
    }

    proptest! {
        /// However the bytes are cut, the frames are the same ones, and the boundary is where the next begins.
        #[test]
        fn cuts_make_no_difference(
            frames in prop::collection::vec((0..12_u8, any::<u8>(), 0..1000_u32, prop::collection::vec(any::<u8>(), 0..40)), 0..12),
            cuts in prop::collection::vec(1..30_usize, 1..40),
        ) {
            let mut wire = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            for (kind, flags, stream, payload) in &frames {
                wire.extend(frame(*kind, *flags, *stream, payload));
            }
            let (mut scanner, mut seen) = (Scanner::new(PREFACE), Vec::new());
            let (mut rest, mut cuts) = (wire.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, left) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                scanner.scan(piece, |frame| seen.push((frame.kind, frame.flags, frame.stream)));
                rest = left;
                prop_assert!(scanner.until_boundary() <= rest.len());
            }
            prop_assert_eq!(scanner.until_boundary(), 0);
            let expected: Vec<_> = frames.iter().map(|(kind, flags, stream, _)| (*kind, *flags, *stream)).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
