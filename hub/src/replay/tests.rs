#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;

use http::HeaderValue;
use http_body_util::BodyExt as _;
use proptest::prelude::*;

use super::*;

/// A body of these pieces, which are there at once.
struct Pieces(VecDeque<Piece>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(piece.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

fn body(sizes: &[usize]) -> (Replay<Pieces>, Vec<u8>) {
    let mut all = Vec::new();
    let mut pieces = VecDeque::new();
    for (i, &size) in sizes.iter().enumerate() {
        let data = vec![u8::try_from(i % 256).unwrap(); size];
        all.extend_from_slice(&data);
        pieces.push_back(Piece::Data(data.into()));
    }
    let trailers = HeaderMap::from_iter([(http::header::TE, HeaderValue::from_static("x"))]);
    pieces.push_back(Piece::Trailers(trailers));
    (Replay::new(Pieces(pieces)), all)
}

/// The next data of an attempt.
async fn next(body: &mut Body) -> Option<Result<usize, BodyError>> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    Some(frame.map(|frame| frame.into_data().map_or(0, |data| data.len())))
}

#[tokio::test]
async fn a_second_attempt_has_all_of_the_body() {
    let (replay, all) = body(&[10, 0, 3000]);
    let mut first = replay.attempt();
    assert_eq!(next(&mut first).await.unwrap().unwrap(), 10);
    assert!(replay.is_whole());
    let second = replay.attempt();
    assert!(!second.is_end_stream());
    let error = next(&mut first).await.unwrap().unwrap_err();
    assert!(matches!(error, BodyError::Reset(Code::REQUEST_CANCELLED)));
    let collected = second.collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["te"], "x");
    assert_eq!(collected.to_bytes(), all);
}

#[tokio::test]
async fn a_body_that_is_too_long_is_sent_once_and_not_kept() {
    for sizes in [vec![MAX_REPLAY, 1, 5], vec![1; MAX_PIECES + 2]] {
        let (replay, all) = body(&sizes);
        let mut attempt = replay.attempt();
        let mut read = 0;
        while replay.is_whole() {
            read += next(&mut attempt).await.unwrap().unwrap();
        }
        let rest = attempt.collect().await.unwrap();
        assert!(rest.trailers().is_some());
        assert_eq!(read + rest.to_bytes().len(), all.len());
        assert!(lock(&replay.0).kept.is_empty());
    }
}

#[tokio::test]
async fn an_empty_body_is_at_its_end_at_once() {
    let replay = Replay::new(Pieces(VecDeque::new()));
    assert!(replay.attempt().is_end_stream());
    assert!(replay.attempt().is_end_stream());
}

#[tokio::test]
async fn an_answered_call_keeps_nothing_more() {
    let (replay, all) = body(&[5, 6, 7]);
    let mut attempt = replay.attempt();
    next(&mut attempt).await.unwrap().unwrap();
    let source = Arc::clone(&replay.0);
    replay.answered();
    let rest = attempt.collect().await.unwrap().to_bytes();
    assert_eq!(rest, all[5..]);
    assert!(lock(&source).kept.is_empty());
}

proptest! {
    /// However far each attempt gets, the last one has the body byte for byte as long as it is whole.
    #[test]
    fn the_last_attempt_has_everything(
        sizes in prop::collection::vec(0_usize..20_000, 0..8),
        reads in prop::collection::vec(0_usize..6, 0..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (replay, all) = body(&sizes);
            for count in reads {
                let mut attempt = replay.attempt();
                for _ in 0..count {
                    if next(&mut attempt).await.is_none() {
                        break;
                    }
                }
                if !replay.is_whole() {
                    prop_assert!(all.len() > MAX_REPLAY);
                    return Ok(());
                }
            }
            let collected = replay.attempt().collect().await.unwrap();
            prop_assert!(collected.trailers().is_some());
            prop_assert_eq!(collected.to_bytes(), all);
            Ok(())
        })?;
    }
}
