//! QPACK encoder and decoder streams: judged alike in any chunks.

#![no_main]

use adit_transport::rh3::qpack::instructions::{DecoderInstructions, check_encoder_instructions};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let chunks = || bytes.chunks(usize::from(size).max(1));

    let whole = check_encoder_instructions(bytes);
    assert_eq!(chunks().try_for_each(check_encoder_instructions), whole);
    assert_eq!(whole.is_ok(), bytes.iter().all(|&byte| byte == 0x20));

    let whole = DecoderInstructions::default().check(bytes);
    let mut decoder = DecoderInstructions::default();
    assert_eq!(chunks().try_for_each(|chunk| decoder.check(chunk)), whole);
});
