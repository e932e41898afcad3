//! Cuts a stream of JSON values apart without reading them: brackets, strings and escapes are
//! enough to know where a value ends.

use crate::codec::document::{Document, Split, Unread, is_blank};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a value.
    Between,
    /// In an object or an array, this deep (1 or more).
    Nested { depth: usize },
    /// In a string, this deep (0 for a string that is itself the value).
    String { depth: usize, escaped: bool },
    /// In a number, a word, or a character that begins no value.
    Scalar,
}

/// Holds at most one value and the piece in which it ended.
#[derive(Debug)]
pub(super) struct Splitter {
    limit: usize,
    unread: Unread,
    state: State,
}

impl Splitter {
    /// A splitter of values of up to `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            unread: Unread::new(),
            state: State::Between,
        }
    }

    /// Drops what may stand between values; true if a value has begun.
    fn skip_to_value(&mut self) -> bool {
        if !self.unread.skip_mark() {
            return false;
        }
        self.unread.skip_blank();
        !self.unread.bytes().is_empty()
    }

    fn take(&mut self, length: usize) -> Document {
        self.state = State::Between;
        self.unread.take(length)
    }
}

impl Split for Splitter {
    fn feed(&mut self, piece: &[u8]) {
        self.unread.feed(piece);
    }

    /// The next value, if its end is there and it is within the limit.
    fn next(&mut self) -> Option<Document> {
        if self.state == State::Between && !self.skip_to_value() {
            return None;
        }
        let bytes = self.unread.bytes();
        // Past the limit by one byte: it is then known to be longer.
        let bytes = bytes.get(..self.limit.saturating_add(1)).unwrap_or(bytes);
        let (found, state, scanned) = self.state.scan(bytes, self.unread.scanned);
        (self.state, self.unread.scanned) = (state, scanned);
        found.then(|| self.take(scanned))
    }

    /// What has been read of a value that has grown past the limit.
    fn overflow(&mut self) -> Option<Document> {
        (self.unread.scanned > self.limit).then(|| self.take(self.unread.scanned))
    }

    /// At the end of the input: the value that has begun, complete or not.
    fn finish(&mut self) -> Option<Document> {
        // A byte order mark that stopped short is no white space: it is shown to the parser.
        if self.state == State::Between && !self.skip_to_value() && self.unread.bytes().is_empty() {
            return None;
        }
        Some(self.take(self.unread.bytes().len()))
    }
}

impl State {
    /// Goes on from a place to the end of the value, or of the bytes: whether the value's end was found, what comes
    /// next, and where that is.
    fn scan(mut self, bytes: &[u8], mut scanned: usize) -> (bool, Self, usize) {
        while let Some(rest) = bytes.get(scanned..)
            && let Some(&byte) = rest.first()
        {
            scanned += 1;
            self = match self {
                Self::Between => Self::beginning(byte),
                Self::Nested { depth } => match byte {
                    b'"' => Self::String {
                        depth,
                        escaped: false,
                    },
                    b'{' | b'[' => Self::Nested { depth: depth + 1 },
                    b'}' | b']' if depth == 1 => return (true, self, scanned),
                    b'}' | b']' => Self::Nested { depth: depth - 1 },
                    _ => self,
                },
                Self::String { depth, escaped: true } => Self::String {
                    depth,
                    escaped: false,
                },
                // Most of what there is, is in strings.
                Self::String { depth, .. } => match memchr::memchr2(b'"', b'\\', rest) {
                    None => return (false, self, bytes.len()),
                    Some(end) => {
                        scanned += end;
                        match rest.get(end) {
                            Some(b'\\') => Self::String { depth, escaped: true },
                            _ if depth == 0 => return (true, self, scanned),
                            _ => Self::Nested { depth },
                        }
                    }
                },
                Self::Scalar if ends_scalar(byte) => return (true, self, scanned - 1),
                Self::Scalar => self,
            };
        }
        (false, self, scanned)
    }

    fn beginning(byte: u8) -> Self {
        match byte {
            b'{' | b'[' => Self::Nested { depth: 1 },
            b'"' => Self::String {
                depth: 0,
                escaped: false,
            },
            _ => Self::Scalar,
        }
    }
}

fn ends_scalar(byte: u8) -> bool {
    is_blank(byte) || matches!(byte, b'{' | b'[' | b'"')
}
