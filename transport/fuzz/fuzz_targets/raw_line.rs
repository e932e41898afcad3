//! The line before raw TCP: found alike in any pieces, bounded, and what it says can be written again.

#![no_main]

use adit_proto::raw::{Answer, LineDecoder, MAX_LINE, Request, Target};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let mut whole = LineDecoder::default();
    let whole = whole.take(bytes);

    let mut decoder = LineDecoder::default();
    let mut taken = 0;
    let mut pieces = Ok(None);
    for chunk in bytes.chunks(usize::from(size).max(1)) {
        taken += chunk.len();
        pieces = decoder.take(chunk);
        if !matches!(pieces, Ok(None)) {
            break;
        }
    }
    let end = bytes.iter().position(|&byte| byte == b'\n');
    assert_eq!(whole.is_err(), end.unwrap_or(bytes.len()) > MAX_LINE);
    assert_eq!(whole.is_err(), pieces.is_err());
    let (Ok(Some(whole)), Ok(Some(pieces))) = (whole, pieces) else {
        return;
    };
    assert!(whole.line == pieces.line);
    assert_eq!(pieces.rest, bytes[pieces.line.len() + 1..taken]);

    if let Ok(request) = Request::parse(&whole.line) {
        let again = Request::parse(&request.to_line());
        assert!(again.is_ok_and(|again| again == request));
        if let Ok(target) = request.target.parse::<Target>() {
            assert_eq!(target.to_string().parse(), Ok(target));
        }
    }
    if let Ok(answer) = Answer::parse(&whole.line) {
        assert_eq!(Answer::parse(&answer.to_line()), Ok(answer));
    }
});
