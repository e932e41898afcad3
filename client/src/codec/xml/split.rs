//! Cuts a stream of elements apart without reading them: where markup begins and ends is enough to
//! know where an element ends.

use super::super::document::{Document, Split, Unread, is_blank};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between markup.
    Text,
    /// After a `<`, until it is clear what it begins.
    Open,
    /// In a tag, perhaps in a quoted value of an attribute; or in what is none of the others.
    Tag { quote: Option<u8> },
    /// `<!-- -->`
    Comment,
    /// `<![CDATA[ ]]>`
    Cdata,
    /// `<? ?>`
    Instruction,
}

/// Holds at most one element and the piece in which it ended.
#[derive(Debug)]
pub(super) struct Splitter {
    limit: usize,
    unread: Unread,
    state: State,
    depth: usize,
    /// Where the last markup began.
    markup: usize,
    /// What there is is more than comments and instructions.
    content: bool,
}

const COMMENT: &[u8] = b"<!--";
const CDATA: &[u8] = b"<![CDATA[";
const INSTRUCTION: &[u8] = b"<?";

impl Splitter {
    /// A splitter of elements of up to `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            unread: Unread::new(),
            state: State::Text,
            depth: 0,
            markup: 0,
            content: false,
        }
    }

    /// Takes the byte before `end`; true if an element ends with it.
    fn step(&mut self, byte: u8, end: usize) -> bool {
        match self.state {
            State::Text if byte == b'<' => (self.state, self.markup) = (State::Open, end - 1),
            // Text where only elements may be: the reader says so.
            State::Text => self.content |= !is_blank(byte),
            State::Open => match self.begun(end) {
                Some(State::Tag { .. }) => {
                    self.state = State::Tag { quote: None };
                    self.content = true;
                    return self.step(byte, end);
                }
                Some(state) => self.state = state,
                None => {}
            },
            State::Tag { quote: Some(quote) } if byte == quote => self.state = State::Tag { quote: None },
            State::Tag { quote: Some(_) } => {}
            State::Tag { quote: None } => match byte {
                b'"' | b'\'' => self.state = State::Tag { quote: Some(byte) },
                b'>' => {
                    self.state = State::Text;
                    return self.tag(end);
                }
                _ => {}
            },
            State::Comment if self.ends(b"-->", COMMENT, end) => self.state = State::Text,
            State::Cdata if self.ends(b"]]>", CDATA, end) => self.state = State::Text,
            State::Instruction if self.ends(b"?>", INSTRUCTION, end) => self.state = State::Text,
            State::Comment | State::Cdata | State::Instruction => {}
        }
        false
    }

    /// What the markup is that has been read up to `end`, if that is clear.
    fn begun(&self, end: usize) -> Option<State> {
        let markup = self.unread.bytes().get(self.markup..end).unwrap_or_default();
        let known = [
            (COMMENT, State::Comment),
            (CDATA, State::Cdata),
            (INSTRUCTION, State::Instruction),
        ];
        match known.iter().find(|(start, _)| start.starts_with(markup)) {
            None => Some(State::Tag { quote: None }),
            Some((start, state)) => (*start == markup).then_some(*state),
        }
    }

    /// True if markup that began with `start` has its end before `end`.
    fn ends(&self, last: &[u8], start: &[u8], end: usize) -> bool {
        let inside = self.unread.bytes().get(self.markup + start.len()..end);
        inside.unwrap_or_default().ends_with(last)
    }

    /// Counts a tag that has been read; true if it was the last of an element.
    fn tag(&mut self, end: usize) -> bool {
        let tag = self.unread.bytes().get(self.markup..end).unwrap_or_default();
        if tag.starts_with(b"</") {
            self.depth = self.depth.saturating_sub(1);
        } else if tag.starts_with(b"<!") {
            // No declaration belongs into a message: the reader says so, now.
            self.depth = 0;
        } else if !tag.ends_with(b"/>") {
            self.depth += 1;
        }
        self.depth == 0
    }

    fn take(&mut self, length: usize) -> Document {
        (self.state, self.depth, self.markup, self.content) = (State::Text, 0, 0, false);
        self.unread.take(length)
    }
}

impl Split for Splitter {
    fn feed(&mut self, piece: &[u8]) {
        self.unread.feed(piece);
    }

    /// The next element, if its end is there and it is within the limit. What stands between two
    /// elements is a part of the second.
    fn next(&mut self) -> Option<Document> {
        if !self.unread.skip_mark() {
            return None;
        }
        let mut scanned = self.unread.scanned;
        while let Some(&byte) = self.unread.bytes().get(scanned) {
            scanned += 1;
            if self.step(byte, scanned) {
                return Some(self.take(scanned));
            }
            if scanned > self.limit {
                break;
            }
        }
        self.unread.scanned = scanned;
        None
    }

    /// What has been read of an element that has grown past the limit.
    fn overflow(&mut self) -> Option<Document> {
        (self.unread.scanned > self.limit).then(|| self.take(self.unread.scanned))
    }

    /// At the end of the input: the element that has begun, or what is none.
    fn finish(&mut self) -> Option<Document> {
        let length = self.unread.bytes().len();
        let incomplete = self.content || self.state != State::Text;
        (length > 0 && incomplete).then(|| self.take(length))
    }
}
