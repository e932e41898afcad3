#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use proptest::prelude::*;

use super::*;
use crate::quic::tests::support::*;
use crate::{Body, BodyError, CallError, Carrier, Code, HubLink, Standing, Tuning};

/// Each run of equal bytes as its length and the byte. It keeps the last run until it is flushed.
#[derive(Debug, Default)]
struct Runs {
    encoders: AtomicUsize,
}

struct RunsEncoder(Option<(u8, u8)>);

#[derive(Default)]
struct RunsDecoder {
    length: Option<u8>,
    left: (u8, u8),
    finished: bool,
}

impl Coding for Runs {
    fn name(&self) -> &'static str {
        "runs"
    }

    fn encoder(&self) -> io::Result<Box<dyn Encoder>> {
        self.encoders.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(RunsEncoder(None)))
    }

    fn decoder(&self) -> io::Result<Box<dyn Decoder>> {
        Ok(Box::<RunsDecoder>::default())
    }
}

impl Encoder for RunsEncoder {
    fn encode(&mut self, data: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        for &byte in data {
            match &mut self.0 {
                Some((length, of)) if *of == byte && *length < u8::MAX => *length += 1,
                run => {
                    out.extend(
                        run.replace((1, byte))
                            .into_iter()
                            .flat_map(|(length, of)| [length, of]),
                    );
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        out.extend(self.0.take().into_iter().flat_map(|(length, of)| [length, of]));
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.flush(out)?;
        out.push(0);
        Ok(())
    }
}

impl Decoder for RunsDecoder {
    fn decode(&mut self, data: &mut &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        while out.len() < out.capacity() {
            if self.left.0 > 0 {
                self.left.0 -= 1;
                out.push(self.left.1);
                continue;
            }
            let Some((&byte, rest)) = data.split_first() else {
                break;
            };
            *data = rest;
            match self.length.take() {
                _ if self.finished => return Err(io::Error::other("bytes behind the end")),
                None if byte == 0 => self.finished = true,
                None => self.length = Some(byte),
                Some(length) => self.left = (length, byte),
            }
        }
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.finished
    }
}

fn both() -> [Arc<dyn Coding>; 2] {
    [Arc::new(Zstd), Arc::<Runs>::default()]
}

fn encoded(plain: Body, coding: &dyn Coding) -> Body {
    body::encoded(plain, coding).unwrap()
}

fn decoded(plain: Body, coding: &dyn Coding) -> Body {
    body::decoded(plain, coding).unwrap()
}

/// All of a body that waits for nothing.
fn at_once(body: Body) -> Result<(Bytes, Option<HeaderMap>), BodyError> {
    let collected = body.collect().now_or_never().expect("it waits")?;
    let trailers = collected.trailers().cloned();
    Ok((collected.to_bytes(), trailers))
}

/// The bytes that a body of `data` is sent as.
fn wire(data: &[u8], coding: &dyn Coding) -> Bytes {
    at_once(encoded(full(data.to_vec()), coding)).unwrap().0
}

fn trailers() -> HeaderMap {
    fields(&[("grpc-status", "0")])
}

proptest! {
    #[test]
    fn whatever_is_encoded_is_decoded(
        pieces in proptest::collection::vec(proptest::collection::vec(0..4_u8, 0..40_000), 0..6),
        cut in 1..5_000_usize,
        with_trailers: bool,
    ) {
        for coding in both() {
            let content = pieces.concat();
            let mut sent: Vec<_> = pieces.iter().cloned().map(|piece| Frame::data(piece.into())).collect();
            if with_trailers {
                sent.push(Frame::trailers(trailers()));
            }
            let (wire, end) = at_once(encoded(frames(sent), &*coding)).unwrap();
            prop_assert_eq!(&end, &with_trailers.then(trailers));
            // It arrives in other pieces.
            let mut arrives: Vec<_> = wire.chunks(cut).map(|piece| Frame::data(Bytes::copy_from_slice(piece))).collect();
            arrives.extend(end.map(Frame::trailers));
            let (came, end) = at_once(decoded(frames(arrives), &*coding)).unwrap();
            prop_assert!(came == content);
            prop_assert_eq!(end, with_trailers.then(trailers));
        }
    }

    #[test]
    fn whatever_comes_costs_little_and_ends(bytes in proptest::collection::vec(any::<u8>(), 0..2_000), cut in 1..300_usize) {
        for coding in both() {
            // Half of the time as the middle of what is sound.
            for bytes in [bytes.clone(), [&wire(&bytes, &*coding)[..], &bytes].concat()] {
                let pieces = bytes.chunks(cut).map(|piece| Frame::data(Bytes::copy_from_slice(piece))).collect();
                let mut body = decoded(frames(pieces), &*coding);
                while let Some(frame) = body.frame().now_or_never().unwrap() {
                    match frame {
                        Ok(frame) => prop_assert!(frame.into_data().unwrap().len() <= 64 << 10),
                        Err(error) => {
                            prop_assert!(matches!(error, BodyError::Malformed(_)), "{error:?}");
                            break;
                        }
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_sent_for_now_arrives_now() {
    for coding in both() {
        let (feed, body) = channel();
        let mut body = decoded(encoded(body, &*coding), &*coding);
        for size in [1, 10, 5_000, 200_000, 1] {
            feed.send(Ok(Frame::data(pattern(size)))).await.unwrap();
            let mut came = Vec::new();
            while came.len() < size {
                // Nothing else is sent, and nothing may be waited for.
                came.extend_from_slice(&next_data(&mut body).now_or_never().expect("it waits").unwrap());
            }
            assert!(came == pattern(size));
            assert!(body.frame().now_or_never().is_none(), "there is more");
        }
        feed.send(Err(BodyError::Reset(Code::REQUEST_CANCELLED)))
            .await
            .unwrap();
        let error = within(body.frame()).await.unwrap().unwrap_err();
        assert!(
            matches!(error, BodyError::Reset(Code::REQUEST_CANCELLED)),
            "{error:?}"
        );
    }
}

#[test]
fn what_is_cut_off_or_goes_on_is_malformed() {
    for coding in both() {
        let sound = wire(&[7; 1000], &*coding);
        for bad in [
            sound.slice(..sound.len() - 1),
            [&sound[..], b"more"].concat().into(),
        ] {
            for frames_of in [
                vec![Frame::data(bad.clone())],
                vec![Frame::data(bad.clone()), Frame::trailers(trailers())],
            ] {
                let error = at_once(decoded(frames(frames_of), &*coding)).unwrap_err();
                assert!(
                    matches!(&error, BodyError::Malformed(why) if why.contains(coding.name())),
                    "{error:?}"
                );
            }
        }
        // Of nothing there is nothing to decode.
        let nothing = decoded(frames(vec![Frame::trailers(trailers())]), &*coding);
        assert_eq!(at_once(nothing).unwrap(), (Bytes::new(), Some(trailers())));
    }
}

#[test]
fn a_bomb_goes_off_in_small_pieces() {
    const SIZE: usize = 1 << 30;
    let mut raw = Zstd.encoder().unwrap();
    let mut bomb = Vec::new();
    let zeros = vec![0; 1 << 20];
    for _ in 0..SIZE / zeros.len() {
        raw.encode(&zeros, &mut bomb).unwrap();
    }
    raw.finish(&mut bomb).unwrap();
    assert!(bomb.len() < SIZE / 10_000, "{} bytes are no bomb", bomb.len());
    let mut body = decoded(full(bomb), &Zstd);
    let mut came = 0;
    while let Some(frame) = body.frame().now_or_never().unwrap() {
        let data = frame.unwrap().into_data().unwrap();
        assert!(data.len() <= 64 << 10);
        came += data.len();
    }
    assert_eq!(came, SIZE);
}

#[test]
fn a_window_that_costs_more_memory_is_refused() {
    // RFC 8878 §3.1.1: the magic number, no flags, and a window of 8 MiB.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 13 << 3, 0x01, 0x00, 0x00];
    let error = at_once(decoded(full(frame.to_vec()), &Zstd)).unwrap_err();
    assert!(error.to_string().contains("memory"), "{error}");
}

/// Both ends of a link that know `codings`, whose agent sends back what it is sent, and says what it saw.
async fn mirror(carrier: Carrier, codings: Codings) -> (HubLink, Serving, Hub) {
    let names: Vec<_> = codings.names().map(str::to_owned).collect();
    let tuning = Tuning {
        codings,
        ..Tuning::default()
    };
    let hub = Hub::by(carrier, tuning.clone());
    let (link, agent) = hub.link(tuning).await;
    let first = names.first().cloned();
    for chosen in [link.code_with(&names), agent.code_with(&names)] {
        assert_eq!(chosen.map(str::to_owned), first);
    }
    let serving = serve(agent, |request: Request<Body>| async move {
        let (head, body) = request.into_parts();
        let mut response = Response::new(body);
        for (name, value) in &head.headers {
            let name = format!("saw-{name}").parse::<http::HeaderName>().unwrap();
            response.headers_mut().append(name, value.clone());
        }
        for name in ["grpc-encoding", "adit-coding"] {
            if let Some(value) = head.headers.get(format!("answer-{name}")) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        Ok(response)
    });
    (link, serving, hub)
}

by_each_carrier!(
    calls_are_coded_in_both_directions_and_nobody_beyond_sees_it,
    what_is_compressed_already_goes_as_it_is,
    a_coding_that_was_not_offered_is_refused,
);

async fn calls_are_coded_in_both_directions_and_nobody_beyond_sees_it(carrier: Carrier) {
    for coding in both() {
        let (link, _serving, _hub) = mirror(carrier, Codings::new([coding])).await;
        let content = pattern(300_000);
        let mut sent = request(
            "/s/Echo",
            frames(vec![Frame::data(content.clone()), Frame::trailers(trailers())]),
        );
        let order = ["b", "a", "adit-coding", "c", "a"];
        for (at, name) in order.into_iter().enumerate() {
            sent.headers_mut().append(name, at.into());
        }
        let response = within(call(&link, sent)).await.unwrap();
        let (head, body) = response.into_parts();
        let seen = |name: &str| head.headers.get_all(name).iter().cloned().collect::<Vec<_>>();
        assert_eq!(
            seen("saw-adit-coding"),
            [""; 0],
            "what a client says of it is no mark"
        );
        assert_eq!(seen("saw-a"), ["1", "4"]);
        let own: Vec<_> = head
            .headers
            .keys()
            .map(http::HeaderName::as_str)
            .filter(|name| name.len() == 5)
            .collect();
        assert_eq!(own, ["saw-b", "saw-a", "saw-c"]);
        assert!(!head.headers.contains_key(MARK));
        let (came, end) = within(read(body)).await.unwrap();
        assert!(came == content);
        assert_eq!(end, Some(trailers()));
    }
}

async fn what_is_compressed_already_goes_as_it_is(carrier: Carrier) {
    let runs = Arc::<Runs>::default();
    let (link, _serving, _hub) = mirror(carrier, Codings::new([Arc::clone(&runs) as Arc<dyn Coding>])).await;
    let encoders = || runs.encoders.swap(0, Ordering::Relaxed);
    for (metadata, coded) in [
        (&[][..], 2),
        (&[("grpc-encoding", "identity")], 2),
        (&[("grpc-encoding", "gzip")], 1),
        (&[("grpc-encoding", "gzip"), ("answer-grpc-encoding", "gzip")], 0),
        (
            &[("content-encoding", "br"), ("answer-grpc-encoding", "identity")],
            1,
        ),
        // An upstream's word is no mark either.
        (&[("answer-adit-coding", "zstd")], 2),
    ] {
        let mut sent = request("/s/Echo", full("data"));
        *sent.headers_mut() = fields(metadata);
        let response = within(call(&link, sent)).await.unwrap();
        assert!(!response.headers().contains_key(MARK));
        assert_eq!(within(read(response.into_body())).await.unwrap().0, "data");
        assert_eq!(encoders(), coded, "{metadata:?}");
    }
    // The link's own call, and what has no body.
    let mut own = request("/s/Echo", full("data"));
    own.extensions_mut().insert(Standing);
    within(call(&link, own)).await.unwrap();
    assert_eq!(encoders(), 1, "the answer, which is no standing one");
    let empty = within(call(&link, request("/s/Echo", Body::empty())))
        .await
        .unwrap();
    assert!(within(read(empty.into_body())).await.unwrap().0.is_empty());
}

async fn a_coding_that_was_not_offered_is_refused(carrier: Carrier) {
    let tuning = Tuning {
        codings: Codings::new([]),
        ..Tuning::default()
    };
    let hub = Hub::by(carrier, Tuning::default());
    let (link, agent) = hub.link(tuning).await;
    assert_eq!(
        link.code_with(&["other".to_owned(), "zstd".to_owned()]),
        Some("zstd")
    );
    let _serving = serve(agent, |_| async { Ok(Response::new(Body::empty())) });
    let refused = within(call(&link, request("/s/Echo", full("data")))).await;
    // HTTP/2 has the one code for both (RFC 9113 §8.1.1).
    let malformed = [Code::MESSAGE_ERROR, Code::GENERAL_PROTOCOL_ERROR];
    assert!(
        matches!(refused, Err(CallError::Reset(code)) if malformed.contains(&code)),
        "{refused:?}"
    );
}

#[test]
fn the_first_that_both_know_is_taken() {
    let codings = Codings::new(both());
    let first = |wanted: &[&str]| {
        let wanted: Vec<_> = wanted.iter().map(|&name| name.to_owned()).collect();
        codings.first_of(&wanted).map(|coding| coding.name())
    };
    assert_eq!(first(&["runs", "zstd"]), Some("runs"));
    assert_eq!(first(&["lz4", "zstd"]), Some("zstd"));
    assert_eq!(first(&["lz4"]), None);
    assert_eq!(first(&[]), None);
}
