//! The frames of HTTP/2 in what a client sends, as far as they matter here (RFC 9113 §4.1).

use super::super::preface::PREFACE;

/// Kinds of frames (RFC 9113 §6).
const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
pub(super) const PING: u8 = 6;
pub(super) const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// The flag of a PING that answers one.
pub(super) const ACK: u8 = 1;

/// Length, kind, flags and stream: what a frame begins with.
pub(super) const HEAD: usize = 9;

/// What follows the head of a PING.
const PING_PAYLOAD: usize = 8;

/// What is in the PING between h2's two GOAWAYs.
pub(super) const LAST_CALLS: [u8; PING_PAYLOAD] = [0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54];

/// The head of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    flags: u8,
    pub(super) stream: u32,
}

/// Follows frames, and notes what matters of them.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes that belong to the frame before.
    skip: usize,
    /// A head, or a whole PING, as far as it has come.
    begun: [u8; HEAD + PING_PAYLOAD],
    have: usize,
    /// The highest stream that has been opened.
    highest: u32,
    counts: Counts,
}

/// How many frames have begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) frames: usize,
    /// Those of them that carry no call.
    pub(super) callless: u32,
}

impl Head {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (&[a, b, c, kind, flags, d, e, f, g], _) = bytes.split_first_chunk::<HEAD>()?;
        Some(Self {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            // The first bit means nothing.
            stream: u32::from_be_bytes([d, e, f, g]) & (u32::MAX >> 1),
        })
    }

    fn is_ping(self) -> bool {
        self.kind == PING && self.length == PING_PAYLOAD
    }

    fn carries_no_call(self) -> bool {
        !matches!(
            self.kind,
            DATA | HEADERS | RST_STREAM | WINDOW_UPDATE | CONTINUATION
        )
    }
}

impl Frames {
    pub(super) fn behind_preface() -> Self {
        Self {
            skip: PREFACE.len(),
            begun: [0; HEAD + PING_PAYLOAD],
            have: 0,
            highest: 0,
            counts: Counts::default(),
        }
    }

    pub(super) fn highest(&self) -> u32 {
        self.highest
    }

    /// Bytes of the frame that has begun which have not come yet.
    pub(super) fn unended(&self) -> usize {
        self.skip
    }

    /// What has begun since this was last asked.
    pub(super) fn counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Follows what has come: where the client's answer to the hub's PING ends, once that is in it.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len() - at);
                self.skip -= skipped;
                at += skipped;
                continue;
            }
            let head = Head::parse(&self.begun[..self.have]);
            let whole = if head.is_some() { HEAD + PING_PAYLOAD } else { HEAD };
            let taken = (whole - self.have).min(bytes.len() - at);
            self.begun[self.have..self.have + taken].copy_from_slice(&bytes[at..at + taken]);
            self.have += taken;
            at += taken;
            if self.have < whole {
                continue;
            }
            match head {
                // The whole of a PING.
                Some(head) => {
                    self.have = 0;
                    if head.flags & ACK != 0 && self.begun[HEAD..] == LAST_CALLS {
                        return Some(at);
                    }
                }
                None => self.note(),
            }
        }
        None
    }

    /// Notes a head that has just been completed.
    fn note(&mut self) {
        let Some(head) = Head::parse(&self.begun[..self.have]) else {
            return;
        };
        self.counts.frames += 1;
        self.counts.callless += u32::from(head.carries_no_call());
        if !head.is_ping() {
            self.have = 0;
            self.skip = head.length;
        }
        if head.kind == HEADERS {
            self.highest = self.highest.max(head.stream);
        }
    }
}
