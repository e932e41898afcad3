//! What routing and the registry cost a call, by how many agents are connected and by the rule that decides.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;

use adit_hub::bench::Fleet;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

/// The rule, a request that it decides, and the metadata that names its route.
type Rule = (&'static str, &'static str, Option<(&'static str, &'static str)>);

const RULES: [Rule; 6] = [
    (
        "1 agent",
        "http://hub/own.Service7/Call",
        Some(("adit-agent", "agent-7")),
    ),
    (
        "2 one label",
        "http://hub/shared.Service/Call",
        Some(("adit-select", "region=3")),
    ),
    (
        "2 two large labels",
        "http://hub/shared.Service/Call",
        Some(("adit-select", "region=3,tier=1")),
    ),
    (
        "3 authority",
        "http://agent-7.agents.example:9090/own.Service7/Call",
        None,
    ),
    ("4 service", "http://hub/own.Service7/Call", None),
    ("4 pool", "http://hub/shared.Service/Call", None),
];

fn routing(criterion: &mut Criterion) {
    for agents in [10, 10_000] {
        let mut fleet = Fleet::new(agents);
        let mut group = criterion.benchmark_group(format!("routing among {agents} agents"));
        for (rule, uri, routing) in RULES {
            let uri: Uri = uri.parse().unwrap();
            let metadata = metadata(routing);
            assert!(fleet.route(&uri, metadata.clone()), "{rule}");
            group.bench_function(rule, |bencher| {
                bencher.iter_batched(
                    || metadata.clone(),
                    |metadata| black_box(fleet.route(&uri, metadata)),
                    BatchSize::SmallInput,
                );
            });
        }
        group.bench_function("an agent reconnects", |bencher| {
            bencher.iter(|| fleet.reconnect(7));
        });
        group.finish();
    }
}

/// The metadata of an ordinary gRPC call, and what names its route.
fn metadata(routing: Option<(&'static str, &'static str)>) -> HeaderMap {
    let ordinary = [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "grpc-go/1.80.0"),
        ("grpc-timeout", "10S"),
    ];
    ordinary
        .into_iter()
        .chain(routing)
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

criterion_group!(benches, routing);
criterion_main!(benches);
