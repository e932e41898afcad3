//! Cuts a stream of JSON values apart without reading them: brackets, strings and escapes are
//! enough to know where a value ends.

use bytes::{Buf, Bytes, BytesMut};

use crate::codec::Position;

/// The byte order mark that some editors put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// One JSON value, or what stands in the place of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) bytes: Bytes,
    /// Where its first character stands in the whole input.
    pub(super) start: Position,
}

impl Document {
    /// The place in the whole input of a place in this document: a line, counted from 1, and the
    /// number of bytes in that line up to and including the one meant.
    pub(super) fn position(&self, line: usize, column: usize) -> Position {
        let line = line.max(1);
        let text = self
            .bytes
            .split(|&byte| byte == b'\n')
            .nth(line - 1)
            .unwrap_or_default();
        let characters = count_characters(text.get(..column).unwrap_or(text)).max(1);
        Position {
            line: self.start.line + line - 1,
            column: if line == 1 {
                self.start.column + characters - 1
            } else {
                characters
            },
        }
    }
}

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
    buffer: BytesMut,
    /// How much of the buffer has been looked at; all of it belongs to the value that has begun.
    scanned: usize,
    state: State,
    /// The place of the buffer's first byte.
    position: Position,
    at_start: bool,
}

impl Splitter {
    /// A splitter of values of up to `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            buffer: BytesMut::new(),
            scanned: 0,
            state: State::Between,
            position: Position { line: 1, column: 1 },
            at_start: true,
        }
    }

    pub(super) fn feed(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next value, if its end is there and it is within the limit.
    pub(super) fn next(&mut self) -> Option<Document> {
        if self.state == State::Between && !self.skip_to_value() {
            return None;
        }
        while let Some(&byte) = self.buffer.get(self.scanned) {
            match self.state {
                State::Between => self.state = State::beginning(byte),
                State::Nested { depth } => match byte {
                    b'"' => {
                        self.state = State::String {
                            depth,
                            escaped: false,
                        }
                    }
                    b'{' | b'[' => self.state = State::Nested { depth: depth + 1 },
                    b'}' | b']' if depth == 1 => return self.take(self.scanned + 1),
                    b'}' | b']' => self.state = State::Nested { depth: depth - 1 },
                    _ => {}
                },
                State::String { depth, escaped: true } => {
                    self.state = State::String {
                        depth,
                        escaped: false,
                    }
                }
                State::String { depth, .. } => match byte {
                    b'\\' => self.state = State::String { depth, escaped: true },
                    b'"' if depth == 0 => return self.take(self.scanned + 1),
                    b'"' => self.state = State::Nested { depth },
                    _ => {}
                },
                State::Scalar if ends_scalar(byte) => return self.take(self.scanned),
                State::Scalar => {}
            }
            self.scanned += 1;
            if self.scanned > self.limit {
                return None;
            }
        }
        None
    }

    /// What has been read of a value that has grown past the limit.
    pub(super) fn overflow(&mut self) -> Option<Document> {
        if self.scanned <= self.limit {
            return None;
        }
        self.take(self.scanned)
    }

    /// At the end of the input: the value that has begun, complete or not.
    pub(super) fn finish(&mut self) -> Option<Document> {
        // A byte order mark that stopped short is no white space: it is shown to the parser.
        if self.state == State::Between && !self.skip_to_value() && self.buffer.is_empty() {
            return None;
        }
        self.take(self.buffer.len())
    }

    /// Drops what may stand between values; true if a value has begun.
    fn skip_to_value(&mut self) -> bool {
        if self.at_start {
            if self.buffer.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(&self.buffer) {
                return false;
            }
            if self.buffer.starts_with(BYTE_ORDER_MARK) {
                self.buffer.advance(BYTE_ORDER_MARK.len());
            }
            self.at_start = false;
        }
        let blank = self.buffer.iter().take_while(|byte| is_blank(**byte)).count();
        let skipped = self.buffer.split_to(blank);
        self.position = after(self.position, &skipped);
        !self.buffer.is_empty()
    }

    fn take(&mut self, length: usize) -> Option<Document> {
        let bytes = self.buffer.split_to(length.min(self.buffer.len())).freeze();
        let start = self.position;
        self.position = after(start, &bytes);
        self.state = State::Between;
        self.scanned = 0;
        Some(Document { bytes, start })
    }
}

impl State {
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

/// RFC 8259, section 2.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn ends_scalar(byte: u8) -> bool {
    is_blank(byte) || matches!(byte, b'{' | b'[' | b'"')
}

fn count_characters(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| byte & 0xC0 != 0x80).count()
}

/// The place after `bytes` that began at `position`.
fn after(position: Position, bytes: &[u8]) -> Position {
    match bytes.iter().rposition(|&byte| byte == b'\n') {
        None => Position {
            column: position.column + count_characters(bytes),
            ..position
        },
        Some(last) => Position {
            line: position.line + bytes.iter().filter(|&&byte| byte == b'\n').count(),
            column: 1 + count_characters(bytes.get(last + 1..).unwrap_or_default()),
        },
    }
}
