#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::VecDeque;

use proptest::prelude::*;
use tokio::io::AsyncReadExt as _;

use super::super::preface::PREFACE;
use super::frames::{ACK, HEAD, HEADERS, LAST_CALLS, PING, WINDOW_UPDATE};
use super::late::CREDIT;
use super::*;

/// What a client sends, in the pieces in which it arrives.
struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.0.pop_front() {
            let rest = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn credit(stream: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 5])
}

/// What comes of reading, by a task that begins a turn each time that it is run.
async fn in_turns<T>(turn: &Turn, reading: impl Future<Output = T>) -> T {
    let mut reading = std::pin::pin!(reading);
    std::future::poll_fn(|cx| {
        turn.begin();
        reading.as_mut().poll(cx)
    })
    .await
}

/// Bytes as they are read, `size` at the most at a time.
fn read(pieces: impl IntoIterator<Item = Vec<u8>>, size: usize) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let turn = Turn::default();
    let mut stream = Wire::of(Pieces(pieces.into_iter().collect()), turn.clone());
    let reading = async {
        let mut all = Vec::new();
        let mut some = vec![0; size];
        loop {
            match stream.read(&mut some).await.unwrap() {
                0 => return all,
                count => all.extend_from_slice(&some[..count]),
            }
        }
    };
    runtime.block_on(in_turns(&turn, reading))
}

#[test]
fn only_credit_of_calls_behind_the_last_is_taken_out() {
    let kept = [
        PREFACE.to_vec(),
        frame(HEADERS, 4, 5, b"five"),
        // A payload that looks like the answer, and is none; a PING of the client's own; an answer to another one.
        frame(0, 0, 5, &frame(PING, ACK, 0, &LAST_CALLS)),
        frame(PING, 0, 0, &LAST_CALLS),
        frame(PING, ACK, 0, b"anything"),
        credit(7),
        frame(HEADERS, 4, 7, b"seven"),
        frame(PING, ACK, 0, &LAST_CALLS),
        credit(0),
        credit(7),
        frame(HEADERS, 4, 9, b"nine"),
        frame(0, 1, 9, &credit(9)),
        frame(3, 0, 9, &[0, 0, 0, 8]),
        // Not what a WINDOW_UPDATE is: h2 is to see it.
        frame(WINDOW_UPDATE, 0, 9, b"12345"),
        credit(5),
    ];
    let mut sent = kept.to_vec();
    sent.insert(11, credit(9));
    sent.push(credit(11));
    for size in [1, 7, 4096] {
        assert_eq!(read(sent.clone(), size), kept.concat());
        assert_eq!(read([sent.concat()], size), kept.concat());
    }
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let stream = 0_u32..12;
    let payload = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        3 => (0_u8..10, stream.clone(), payload)
            .prop_map(|(kind, stream, payload)| frame(kind, 0, stream, &payload)),
        3 => stream.prop_map(credit),
        1 => Just(frame(PING, ACK, 0, &LAST_CALLS)),
    ]
}

/// The same of whole frames, one after the other.
fn expected(frames: &[Vec<u8>]) -> Vec<u8> {
    let (mut kept, mut highest, mut last) = (PREFACE.to_vec(), 0, None);
    for frame in frames {
        let (kind, stream) = (frame[3], u32::from(frame[8]));
        let is_credit = kind == WINDOW_UPDATE && frame.len() == HEAD + CREDIT;
        if is_credit && last.is_some_and(|last| stream > last) {
            continue;
        }
        if kind == HEADERS {
            highest = highest.max(stream);
        }
        if kind == PING && frame[4] == ACK && last.is_none() {
            last = Some(highest);
        }
        kept.extend(frame);
    }
    kept
}

proptest! {
    /// However the bytes are cut, what is read is the same.
    #[test]
    fn frames_may_be_cut_anywhere(
        frames in prop::collection::vec(any_frame(), 0..30),
        cuts in prop::collection::vec(1_usize..60, 1..40),
        size in 1_usize..80,
    ) {
        let sent = [PREFACE.to_vec(), frames.concat()].concat();
        let mut pieces = Vec::new();
        let mut rest = &sent[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, later) = rest.split_at(rest.len().min(*cut));
            pieces.push(piece.to_vec());
            rest = later;
        }
        prop_assert_eq!(read(pieces, size), expected(&frames));
    }
}

#[test]
fn frames_that_carry_no_call_are_bounded() {
    let calls = [
        frame(HEADERS, 4, 1, b"one"),
        credit(1),
        frame(0, 1, 1, b"all of it"),
    ]
    .concat();
    let ping = frame(PING, 0, 0, b"flooding");
    let most = usize::try_from(CALLLESS_FRAMES).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let sent = [PREFACE.to_vec(), calls.repeat(2 * most), ping.repeat(most)];
        let turn = Turn::default();
        let mut stream = Wire::of(Pieces(sent.clone().into()), turn.clone());
        let mut all = Vec::new();
        in_turns(&turn, stream.read_to_end(&mut all)).await.unwrap();
        assert_eq!(all.len(), sent.concat().len());
        stream.stream.0.push_back(ping);
        let error = in_turns(&turn, stream.read_to_end(&mut all)).await.unwrap_err();
        assert!(error.get_ref().unwrap().is::<Callless>(), "{error}");
    });
}

/// Bytes that are read before it is the others' turn.
fn bytes_in_a_turn(frame: &[u8]) -> usize {
    let sent = [PREFACE.to_vec(), frame.repeat(10_000)].concat();
    let mut stream = Wire::of(Pieces([sent].into()), Turn::default());
    let mut context = Context::from_waker(std::task::Waker::noop());
    let mut read = 0;
    let mut some = [0; 8 << 10];
    // However often it is asked.
    for _ in 0..10_000 {
        let mut buffer = ReadBuf::new(&mut some);
        if Pin::new(&mut stream)
            .poll_read(&mut context, &mut buffer)
            .is_ready()
        {
            read += buffer.filled().len();
        }
    }
    read
}

#[test]
fn a_turn_is_short_however_small_its_frames_are() {
    let frames = bytes_in_a_turn(&frame(0, 0, 1, b"")) / HEAD;
    assert!((1..=TURN / FRAME + AHEAD / HEAD).contains(&frames), "{frames}");
    let bytes = bytes_in_a_turn(&frame(0, 0, 1, &[0; 1 << 14]));
    assert!((TURN / 2..=TURN + AHEAD + (8 << 10)).contains(&bytes), "{bytes}");
}
