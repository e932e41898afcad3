//! Cuts a stream of YAML documents apart at its markers. A line that begins with `---` or `...` is
//! one wherever it stands, in a quoted or a block text too (YAML 1.2.2, rule 206).

use super::super::document::{Document, Split, Unread};

/// Holds at most one document and the piece in which it ended.
pub(super) struct Splitter {
    limit: usize,
    unread: Unread,
    /// Where in what is unread the line begins that is looked at.
    line: usize,
    /// There was a `---`.
    started: bool,
    /// There was more than comments, directives and markers.
    content: bool,
}

enum Line {
    /// `---`, with or without the beginning of a document behind it.
    Start { content: bool },
    /// `...`
    End,
    /// A part of a document.
    Content,
    /// `%YAML` and the like, if it is not in a document.
    Directive,
    /// Blank, or a comment.
    Nothing,
}

impl Splitter {
    /// A splitter of documents of up to `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            unread: Unread::new(),
            line: 0,
            started: false,
            content: false,
        }
    }

    /// Goes through whole lines, at the input's end through the last one too.
    fn advance(&mut self, ended: bool) -> Option<Document> {
        if !self.unread.skip_mark() && !ended {
            return None;
        }
        loop {
            let unread = self.unread.bytes();
            let length = unread.len();
            let rest = unread.get(self.unread.scanned..).unwrap_or_default();
            let end = match rest.iter().position(|&byte| byte == b'\n') {
                Some(index) => self.unread.scanned + index,
                None if ended && self.line < length => length,
                None => {
                    self.unread.scanned = length;
                    return None;
                }
            };
            let next = (end + 1).min(length);
            match Line::of(unread.get(self.line..end).unwrap_or_default()) {
                Line::Start { .. } if self.content => return Some(self.take(self.line)),
                Line::End if self.content => return Some(self.take(next)),
                // A document with nothing in it is none.
                Line::Start { .. } if self.started => {
                    self.take(self.line);
                    continue;
                }
                Line::End => {
                    self.take(next);
                    continue;
                }
                Line::Start { content } => (self.started, self.content) = (true, content),
                Line::Content => self.content = true,
                Line::Directive => self.content |= self.started,
                Line::Nothing => {}
            }
            (self.line, self.unread.scanned) = (next, next);
        }
    }

    fn take(&mut self, length: usize) -> Document {
        (self.line, self.started, self.content) = (0, false, false);
        self.unread.take(length)
    }
}

impl Split for Splitter {
    fn feed(&mut self, piece: &[u8]) {
        self.unread.feed(piece);
    }

    /// The next document, if the marker after it is there.
    fn next(&mut self) -> Option<Document> {
        self.advance(false)
    }

    /// What has been read of a document that has grown past the limit.
    fn overflow(&mut self) -> Option<Document> {
        (self.unread.scanned > self.limit).then(|| self.take(self.unread.scanned))
    }

    /// At the end of the input: the document that has begun.
    fn finish(&mut self) -> Option<Document> {
        if let Some(document) = self.advance(true) {
            return Some(document);
        }
        let length = self.unread.bytes().len();
        self.content.then(|| self.take(length))
    }
}

impl Line {
    fn of(line: &[u8]) -> Self {
        let marked = |marker: &[u8]| {
            let rest = line.strip_prefix(marker)?;
            rest.first()
                .is_none_or(u8::is_ascii_whitespace)
                .then(|| rest.trim_ascii())
        };
        let is_content = |text: &[u8]| !text.is_empty() && !text.starts_with(b"#");
        if let Some(rest) = marked(b"---") {
            let content = is_content(rest);
            return Self::Start { content };
        }
        match line.trim_ascii() {
            _ if marked(b"...").is_some() => Self::End,
            text if !is_content(text) => Self::Nothing,
            _ if line.starts_with(b"%") => Self::Directive,
            _ => Self::Content,
        }
    }
}
