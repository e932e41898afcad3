//! Cuts an input apart at its record separators, and counts how deep messages are nested: the parser
//! goes as deep as it is led.

use super::super::MAX_DEPTH;
use super::super::document::{Document, Unread, is_blank};
use super::RECORD_SEPARATOR;

/// What was cut off.
pub(super) enum Record {
    Whole(Document),
    /// It has reached the limit.
    TooLong(Document),
    /// It is nested too deep where it was cut off.
    TooDeep(Document),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Tokens,
    String { quote: u8, escaped: bool },
    Comment,
}

pub(super) struct Splitter {
    limit: usize,
    unread: Unread,
    state: State,
    depth: usize,
    /// The record has more than white space and comments.
    content: bool,
}

impl Splitter {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            unread: Unread::new(),
            state: State::Tokens,
            depth: 0,
            content: false,
        }
    }

    pub(super) fn feed(&mut self, piece: &[u8]) {
        self.unread.feed(piece);
    }

    /// The next record whose separator is there, or what is wrong with it before that.
    pub(super) fn next(&mut self) -> Option<Record> {
        if !self.unread.skip_mark() {
            return None;
        }
        let mut scanned = self.unread.scanned;
        while let Some(&byte) = self.unread.bytes().get(scanned) {
            scanned += 1;
            if byte == RECORD_SEPARATOR && !matches!(self.state, State::String { .. }) {
                let record = self.take(scanned - 1);
                self.unread.skip(1);
                return Some(Record::Whole(record));
            }
            self.step(byte);
            if self.depth > MAX_DEPTH {
                return Some(Record::TooDeep(self.take(scanned - 1)));
            }
            if scanned > self.limit {
                return Some(Record::TooLong(self.take(scanned)));
            }
        }
        self.unread.scanned = scanned;
        None
    }

    /// At the end of the input: the last record, if it has anything in it.
    pub(super) fn finish(&mut self) -> Option<Record> {
        let length = self.unread.bytes().len();
        self.content.then(|| Record::Whole(self.take(length)))
    }

    fn step(&mut self, byte: u8) {
        match (self.state, byte) {
            (State::Tokens, b'"' | b'\'') => {
                self.state = State::String {
                    quote: byte,
                    escaped: false,
                }
            }
            (State::Tokens, b'#') => self.state = State::Comment,
            (State::Tokens, b'{' | b'<') => self.depth += 1,
            (State::Tokens, b'}' | b'>') => self.depth = self.depth.saturating_sub(1),
            (State::String { quote, escaped: true }, _) => {
                self.state = State::String {
                    quote,
                    escaped: false,
                }
            }
            (State::String { quote, .. }, b'\\') => self.state = State::String { quote, escaped: true },
            // A string ends with its line: the parser refuses one that does not.
            (State::String { quote, .. }, _) if byte == quote || byte == b'\n' => self.state = State::Tokens,
            (State::Comment, b'\n') => self.state = State::Tokens,
            _ => {}
        }
        self.content |= self.state != State::Comment && !is_blank(byte);
    }

    fn take(&mut self, length: usize) -> Document {
        (self.state, self.depth, self.content) = (State::Tokens, 0, false);
        self.unread.take(length)
    }
}
