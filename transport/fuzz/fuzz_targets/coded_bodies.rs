//! A body that claims to be zstd: the same in any chunks, and never more at a time than there is room for.

#![no_main]

use adit_transport::coding::{Coding, Zstd};
use libfuzzer_sys::fuzz_target;

const ROOM: usize = 16 << 10;

/// A bomb goes on for longer than a target is given.
const ENOUGH: usize = 1 << 20;

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let whole = decoded([bytes]);
    let chunked = decoded(bytes.chunks(usize::from(size).max(1)));
    if let (Some(whole), Some(chunked)) = (whole, chunked) {
        assert_eq!(whole, chunked);
    }
});

/// What some chunks stand for, unless they are no zstd.
fn decoded<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut decoder = Zstd.decoder().ok()?;
    let mut all = Vec::new();
    for mut left in chunks {
        loop {
            let mut out = Vec::with_capacity(ROOM);
            let room = out.capacity();
            let before = left.len();
            decoder.decode(&mut left, &mut out).ok()?;
            assert!(out.len() <= room);
            all.extend_from_slice(&out);
            let is_full = out.len() == room;
            if all.len() > ENOUGH || (left.is_empty() && !is_full) {
                break;
            }
            assert!(is_full || left.len() < before, "it neither takes nor gives");
        }
        if all.len() > ENOUGH {
            return None;
        }
    }
    Some(all)
}
