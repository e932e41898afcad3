//! One line at the beginning of a stream of bytes, which may come in any pieces.

/// The longest line, without what ends it: a token of 8 KiB and the rest, with some characters escaped.
pub const MAX_LINE: usize = 16 << 10;

/// Finds the end of a line in what comes, and holds no more than [`MAX_LINE`] meanwhile.
#[derive(Debug, Default)]
pub struct LineDecoder {
    held: Vec<u8>,
}

/// A line, and what came behind it.
#[derive(Clone, PartialEq, Eq)]
pub struct Split {
    /// Without the line feed.
    pub line: Vec<u8>,
    /// The first bytes of what follows.
    pub rest: Vec<u8>,
}

/// A line that goes on for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the first line is longer than {MAX_LINE} bytes")]
pub struct LongLine;

impl LineDecoder {
    /// Takes the next bytes of the stream; the line, once it has ended. Nothing is to be given to it after that.
    ///
    /// # Errors
    ///
    /// The line is too long.
    pub fn take(&mut self, came: &[u8]) -> Result<Option<Split>, LongLine> {
        let end = came.iter().position(|&byte| byte == b'\n');
        let more = &came[..end.unwrap_or(came.len())];
        if self.held.len() + more.len() > MAX_LINE {
            return Err(LongLine);
        }
        self.held.extend_from_slice(more);
        Ok(end.map(|end| Split {
            line: std::mem::take(&mut self.held),
            rest: came[end + 1..].to_vec(),
        }))
    }

    /// Whether anything has come.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

/// Lengths only: a line may hold a secret.
impl std::fmt::Debug for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Split({} bytes, {} behind)", self.line.len(), self.rest.len())
    }
}
