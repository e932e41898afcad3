//! zstd (RFC 8878), with a window that thousands of calls can afford.

use std::io;

use ::zstd::stream::raw::{CParameter, DParameter, Decoder as Raw, Encoder as RawEncoder};
use ::zstd::stream::raw::{InBuffer, Operation as _, OutBuffer};

use super::{Coding, Decoder, Encoder};

/// How far back in a body equal bytes are found, as a power of two: 64 KiB. It decides what a call costs in memory at both
/// ends, about 300 KiB each, and gRPC messages that are alike are close together. A decoder takes no larger one, whatever a
/// frame asks for.
const WINDOW: u32 = 16;

/// The cheapest one. A higher one gains nothing on messages that are flushed one by one: on JSON, level 3 makes as many bytes,
/// and takes twice as long and five times as much memory for a small call.
const LEVEL: i32 = 1;

/// What an output grows by.
const STEP: usize = 16 << 10;

/// The coding `zstd`.
#[derive(Clone, Copy, Debug)]
pub struct Zstd;

struct Compress(RawEncoder<'static>);

struct Decompress {
    raw: Raw<'static>,
    /// A frame is at its end, and no other has begun.
    finished: bool,
}

impl Coding for Zstd {
    fn name(&self) -> &'static str {
        "zstd"
    }

    fn encoder(&self) -> io::Result<Box<dyn Encoder>> {
        let mut raw = RawEncoder::new(LEVEL)?;
        raw.set_parameter(CParameter::WindowLog(WINDOW))?;
        raw.set_parameter(CParameter::ContentSizeFlag(false))?;
        Ok(Box::new(Compress(raw)))
    }

    fn decoder(&self) -> io::Result<Box<dyn Decoder>> {
        let mut raw = Raw::new()?;
        raw.set_parameter(DParameter::WindowLogMax(WINDOW))?;
        Ok(Box::new(Decompress { raw, finished: false }))
    }
}

impl Encoder for Compress {
    fn encode(&mut self, data: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let mut data = InBuffer::around(data);
        while data.pos() < data.src.len() {
            appending(out, |out| self.0.run(&mut data, out))?;
        }
        Ok(())
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        while appending(out, |out| self.0.flush(out))? > 0 {}
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        while appending(out, |out| self.0.finish(out, true))? > 0 {}
        Ok(())
    }
}

/// Has `operation` append to `out`, which has room for more.
fn appending(
    out: &mut Vec<u8>,
    operation: impl FnOnce(&mut OutBuffer<'_, Vec<u8>>) -> io::Result<usize>,
) -> io::Result<usize> {
    if out.spare_capacity_mut().is_empty() {
        out.reserve(STEP);
    }
    let end = out.len();
    operation(&mut OutBuffer::around_pos(out, end))
}

impl Decoder for Decompress {
    fn decode(&mut self, data: &mut &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        loop {
            if self.finished && data.is_empty() {
                return Ok(());
            }
            if self.finished {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "bytes follow the end of the frame",
                ));
            }
            let end = out.len();
            let mut read = InBuffer::around(data);
            let mut written = OutBuffer::around_pos(out, end);
            // What is left to do, or 0 at the end of a frame.
            self.finished = self.raw.run(&mut read, &mut written)? == 0;
            let taken = read.pos();
            *data = &data[taken..];
            let is_full = out.spare_capacity_mut().is_empty();
            if data.is_empty() || is_full || (taken == 0 && out.len() == end) {
                return Ok(());
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.finished
    }
}
