//! Whatever pieces a body is sent in, the same bytes and trailers arrive.

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::support::*;
use crate::{Body, Carrier, HubLink};

/// What is done with a body that is being sent.
#[derive(Clone, Debug)]
enum Step {
    /// A piece of this many bytes.
    Data(usize),
    /// Whoever reads goes first.
    Yield,
}

fn step() -> impl Strategy<Value = Step> {
    // About the sizes at which a piece is copied, gathered, or fills a packet.
    let size = prop_oneof![
        0..64_usize,
        1_100..1_300_usize,
        4_090..4_100_usize,
        16_000..70_000_usize
    ];
    prop_oneof![3 => size.prop_map(Step::Data), 1 => Just(Step::Yield)]
}

fn body(steps: Vec<Step>, trailers: bool, content: &Bytes) -> Body {
    let (feed, body) = channel();
    let mut content = content.clone();
    tokio::spawn(async move {
        for step in steps {
            match step {
                Step::Data(len) => feed.send(Ok(Frame::data(content.split_to(len)))).await.unwrap(),
                Step::Yield => tokio::task::yield_now().await,
            }
        }
        if trailers {
            let trailers = fields(&[("grpc-status", "0"), ("x-bin", "AA")]);
            feed.send(Ok(Frame::trailers(trailers))).await.unwrap();
        }
    });
    body
}

async fn echoed(link: &HubLink, steps: Vec<Step>, trailers: bool) -> Result<(), TestCaseError> {
    let sizes = steps
        .iter()
        .map(|step| if let Step::Data(len) = step { *len } else { 0 });
    let content = pattern(sizes.sum());
    let request = request("/s/Echo", body(steps, trailers, &content));
    let response = within(call(link, request)).await.unwrap();
    let collected = within(response.into_body().collect()).await.unwrap();
    let got = collected.trailers().cloned();
    prop_assert_eq!(
        got,
        trailers.then(|| fields(&[("grpc-status", "0"), ("x-bin", "AA")]))
    );
    prop_assert!(collected.to_bytes() == content, "other bytes than were sent");
    Ok(())
}

#[test]
fn any_pieces_arrive_as_the_same_bytes_and_trailers() {
    let runtime = Runtime::new().unwrap();
    let (link, _serving, _hub) = runtime
        .block_on(linked(Carrier::Tls, |request: Request<Body>| async move {
            Ok(Response::new(request.into_body()))
        }));
    let calls = prop::collection::vec((prop::collection::vec(step(), 0..24), any::<bool>()), 1..5);
    proptest!(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() }, |(calls in calls)| {
        // Calls at once, so that their frames come between each other's.
        let calls = calls.into_iter().map(|(steps, trailers)| echoed(&link, steps, trailers));
        runtime.block_on(futures_util::future::try_join_all(calls))?;
    });
}
