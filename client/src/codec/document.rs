//! One message's text in an input, and the place of everything in it.

use bytes::{Buf, Bytes, BytesMut};
use prost_reflect::{DynamicMessage, MessageDescriptor};

use super::{DecodeError, DecodeOptions, PayloadDecoder, Position};

/// The byte order mark that some editors put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A place in a text: line and column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Place {
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

impl From<Place> for Position {
    fn from(Place { line, column }: Place) -> Self {
        Self::Text { line, column }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Position::from(*self).fmt(f)
    }
}

/// One message, or what stands in the place of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) bytes: Bytes,
    /// Where its first character stands in the whole input.
    pub(super) start: Place,
}

impl Document {
    /// The place in the whole input of a place in this document: a line, counted from 1, and the
    /// number of bytes in that line up to and including the one meant.
    pub(super) fn position(&self, line: usize, column: usize) -> Place {
        let line = line.max(1);
        let text = self
            .bytes
            .split(|&byte| byte == b'\n')
            .nth(line - 1)
            .unwrap_or_default();
        let characters = count_characters(text.get(..column).unwrap_or(text));
        self.place(line, characters)
    }

    /// The place in the whole input of a line and a character of this document, both from 1.
    pub(super) fn place(&self, line: usize, column: usize) -> Place {
        let (line, column) = (line.max(1), column.max(1));
        Place {
            line: self.start.line + line - 1,
            column: if line == 1 {
                self.start.column + column - 1
            } else {
                column
            },
        }
    }

    /// The place in the whole input of a byte of this document, counted from 0.
    pub(super) fn at(&self, offset: usize) -> Place {
        after(self.start, self.bytes.get(..offset).unwrap_or(&self.bytes))
    }

    /// The document as text.
    pub(super) fn text(&self) -> Result<&str, DecodeError> {
        str::from_utf8(&self.bytes).map_err(|error| DecodeError {
            position: self.at(error.valid_up_to()).into(),
            field: None,
            problem: "this is not UTF-8".to_owned(),
        })
    }
}

/// The bytes of an input that have not been cut into documents yet, and their place.
#[derive(Debug)]
pub(super) struct Unread {
    buffer: BytesMut,
    /// How much of the buffer has been looked at.
    pub(super) scanned: usize,
    place: Place,
    at_start: bool,
}

impl Unread {
    pub(super) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            scanned: 0,
            place: Place::START,
            at_start: true,
        }
    }

    pub(super) fn feed(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Drops a byte order mark at the input's beginning; false while it cannot be told whether there
    /// is one.
    pub(super) fn skip_mark(&mut self) -> bool {
        if self.at_start {
            if self.buffer.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(&self.buffer) {
                return false;
            }
            if self.buffer.starts_with(BYTE_ORDER_MARK) {
                self.buffer.advance(BYTE_ORDER_MARK.len());
            }
            self.at_start = false;
        }
        true
    }

    /// Drops the first bytes, which belong to no document.
    pub(super) fn skip(&mut self, length: usize) {
        let skipped = self.buffer.split_to(length.min(self.buffer.len()));
        self.place = after(self.place, &skipped);
        self.scanned = self.scanned.saturating_sub(length);
    }

    /// Drops white space.
    pub(super) fn skip_blank(&mut self) {
        let blank = self.buffer.iter().take_while(|byte| is_blank(**byte)).count();
        self.skip(blank);
    }

    /// Cuts off the first bytes.
    pub(super) fn take(&mut self, length: usize) -> Document {
        let bytes = self.buffer.split_to(length.min(self.buffer.len())).freeze();
        let start = self.place;
        self.place = after(start, &bytes);
        self.scanned = 0;
        Document { bytes, start }
    }
}

/// Cuts an input into documents.
pub(super) trait Split: Send {
    /// Takes the next piece of the input.
    fn feed(&mut self, piece: &[u8]);

    /// The next document, if all of it has been fed.
    fn next(&mut self) -> Option<Document>;

    /// What has been read of a document that is too long, once it is.
    fn overflow(&mut self) -> Option<Document>;

    /// At the input's end: the document that only the end completes.
    fn finish(&mut self) -> Option<Document>;
}

/// Reads one document.
pub(super) trait Read: Send {
    fn read(
        &self,
        message: &MessageDescriptor,
        document: &Document,
        options: DecodeOptions,
    ) -> Result<DynamicMessage, DecodeError>;

    /// What is said of a document of which there is more than may be.
    fn refuse(
        &self,
        message: &MessageDescriptor,
        document: &Document,
        options: DecodeOptions,
    ) -> DecodeError {
        let _ = message;
        too_long(document, options.max_size)
    }
}

/// The decoder of every form whose messages are documents.
pub(super) struct DocumentDecoder<S, R> {
    message: MessageDescriptor,
    options: DecodeOptions,
    splitter: S,
    reader: R,
}

impl<S: Split, R: Read> DocumentDecoder<S, R> {
    pub(super) fn new(message: MessageDescriptor, options: DecodeOptions, splitter: S, reader: R) -> Self {
        Self {
            message,
            options,
            splitter,
            reader,
        }
    }

    fn read(&self, document: &Document) -> Result<Option<DynamicMessage>, DecodeError> {
        (self.reader.read(&self.message, document, self.options)).map(Some)
    }
}

impl<S: Split, R: Read> PayloadDecoder for DocumentDecoder<S, R> {
    fn feed(&mut self, piece: &[u8]) {
        self.splitter.feed(piece);
    }

    fn next(&mut self) -> Result<Option<DynamicMessage>, DecodeError> {
        if let Some(document) = self.splitter.next() {
            return self.read(&document);
        }
        match self.splitter.overflow() {
            None => Ok(None),
            Some(document) => Err(self.reader.refuse(&self.message, &document, self.options)),
        }
    }

    fn finish(&mut self) -> Result<Option<DynamicMessage>, DecodeError> {
        match self.splitter.finish() {
            None => Ok(None),
            Some(document) => self.read(&document),
        }
    }
}

/// What is said of a document that has been read up to the limit.
pub(super) fn too_long(document: &Document, limit: usize) -> DecodeError {
    DecodeError {
        position: document.start.into(),
        field: None,
        problem: format!(
            "the message that begins here is longer than {limit} bytes; --max-message-size takes longer ones"
        ),
    }
}

/// White space, in all text formats alike.
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn count_characters(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| byte & 0xC0 != 0x80).count()
}

/// The place after `bytes` that began at `place`.
fn after(place: Place, bytes: &[u8]) -> Place {
    match bytes.iter().rposition(|&byte| byte == b'\n') {
        None => Place {
            column: place.column + count_characters(bytes),
            ..place
        },
        Some(last) => Place {
            line: place.line + bytes.iter().filter(|&&byte| byte == b'\n').count(),
            column: 1 + count_characters(bytes.get(last + 1..).unwrap_or_default()),
        },
    }
}
