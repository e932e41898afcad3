//! Link coding: the bytes of one call and direction, compressed on the way between hub and agent.
//!
//! A coded body is announced by the metadata [`MARK`] in its head, which the end that decodes it removes. Whatever is sent
//! for now is flushed, so that no message waits for the next one. Each body has an encoder and a decoder of its own, which
//! are made for it and end with it: what one call sends never shows in the length of another (CRIME).

mod body;
mod coder;
mod zstd;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;

pub(crate) use coder::Coder;
pub use zstd::Zstd;

/// The metadata that names a body's coding, from one end of a link to the other. Neither clients nor upstreams see it, and it
/// means nothing when they send it.
pub const MARK: &str = "adit-coding";

/// A way to compress what links carry.
pub trait Coding: fmt::Debug + Send + Sync {
    /// What both ends know it by, and the metadata says: letters, digits and dashes.
    fn name(&self) -> &'static str;

    /// What compresses one body.
    ///
    /// # Errors
    ///
    /// There is no memory for it. The call then fails.
    fn encoder(&self) -> io::Result<Box<dyn Encoder>>;

    /// What takes one body back to what it was.
    ///
    /// # Errors
    ///
    /// There is no memory for it. The call then fails.
    fn decoder(&self) -> io::Result<Box<dyn Decoder>>;
}

/// Compresses one body.
pub trait Encoder: Send {
    /// Takes all of `data`, and appends to `out` what is ready by then. The rest may wait for a flush.
    ///
    /// # Errors
    ///
    /// The call fails with it.
    fn encode(&mut self, data: &[u8], out: &mut Vec<u8>) -> io::Result<()>;

    /// Appends to `out` all that the other end needs to have what was encoded so far.
    ///
    /// # Errors
    ///
    /// The call fails with it.
    fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()>;

    /// The same at the end of the body.
    ///
    /// # Errors
    ///
    /// The call fails with it.
    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()>;
}

/// Takes one body back to what it was.
pub trait Decoder: Send {
    /// Takes bytes from the front of `data`, and appends to `out` what they stand for, as far as its spare capacity goes: a
    /// few bytes may stand for very many, and this bounds what they cost. Leaves bytes in `data`, or fills `out`, only where
    /// there is more to append. What may be kept between calls has to have a bound, whatever the bytes are.
    ///
    /// # Errors
    ///
    /// The bytes are not of this coding. The call fails with it.
    fn decode(&mut self, data: &mut &[u8], out: &mut Vec<u8>) -> io::Result<()>;

    /// Whether the encoder's end has come. A body that ends before is cut off.
    fn is_finished(&self) -> bool;
}

/// The codings that one end of a link knows, the one it likes best first.
#[derive(Clone, Debug)]
pub struct Codings(Arc<[Arc<dyn Coding>]>);

impl Codings {
    /// Knows these.
    pub fn new(codings: impl IntoIterator<Item = Arc<dyn Coding>>) -> Self {
        Self(codings.into_iter().collect())
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|coding| coding.name())
    }

    /// The coding of this name, if it is known.
    pub fn find(&self, name: &str) -> Option<&Arc<dyn Coding>> {
        self.0.iter().find(|coding| coding.name() == name)
    }

    /// The first of `wanted` that is known.
    pub(crate) fn first_of(&self, wanted: &[String]) -> Option<&Arc<dyn Coding>> {
        wanted.iter().find_map(|name| self.find(name))
    }
}

impl Default for Codings {
    /// Those that are built in: zstd.
    fn default() -> Self {
        Self::new([Arc::new(Zstd) as Arc<dyn Coding>])
    }
}
