#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::BTreeSet;

use http::{HeaderName, HeaderValue};

use super::*;
use crate::member::Peer;
use crate::offer::Offer;
use crate::registry::tests::{Fleet, labels, offer, offering, peer};

/// Names and values.
type Pairs = &'static [(&'static str, &'static str)];

/// An agent: its id, its labels, and its services, or `-` when it doesn't know them.
type Agents = &'static [(&'static str, &'static str, &'static str)];

fn fleet(agents: Agents) -> Fleet {
    let mut fleet = Fleet::default();
    for (i, (id, its_labels, services)) in agents.iter().enumerate() {
        let services = match *services {
            "-" => None,
            names => offering(&names.split_whitespace().collect::<Vec<_>>()),
        };
        let peer = Peer {
            labels: labels(its_labels),
            ..peer(id, &i.to_string(), 0, 1)
        };
        fleet.enter_as(peer, offer(services)).unwrap();
    }
    fleet
}

fn metadata(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    map
}

/// A request: its path, its authority and its metadata.
fn target(path: &str, authority: &str, pairs: Pairs, domain: Option<&str>) -> Result<Target, TargetError> {
    let authority: Option<Authority> = (!authority.is_empty()).then(|| authority.parse().unwrap());
    let domain: Option<AgentDomain> = domain.map(|domain| domain.parse().unwrap());
    Target::of(path, authority.as_ref(), &metadata(pairs), domain.as_ref())
}

fn pools(pools: &[&str]) -> Pools {
    pools.iter().map(|pool| pool.parse().unwrap()).collect()
}

/// The ids that a call reaches, as often as it is made, or the message of its miss.
fn reached(target: &Target, fleet: &Fleet, pools: &Pools) -> Result<BTreeSet<String>, String> {
    let service = match target {
        Target::AnyService => "grpc.reflection.v1.ServerReflection",
        _ => "a.B",
    };
    let mut ids = BTreeSet::new();
    for _ in 0..100 {
        let state = fleet.registry.read();
        match target.route(service, state.directory(), pools, &[]) {
            Ok(member) => ids.insert(member.peer.id.to_string()),
            Err(miss) => return Err(miss.message()),
        };
    }
    Ok(ids)
}

/// Each case: who is connected, and who is reached, or a part of the message.
fn table(target: &Target, pools: &Pools, cases: &[(Agents, Result<&[&str], &str>)]) {
    for (agents, expected) in cases {
        match (reached(target, &fleet(agents), pools), expected) {
            (Ok(ids), Ok(expected)) => {
                let expected: BTreeSet<String> = expected.iter().map(|&id| id.to_owned()).collect();
                assert_eq!(ids, expected, "{agents:?}");
            }
            (Err(message), Err(part)) => assert!(message.contains(part), "{agents:?}: {message}"),
            (reached, _) => unreachable!("{agents:?}: {reached:?}"),
        }
    }
}

#[test]
fn the_first_rule_that_applies_decides() {
    let domain = Some("agents.example");
    let named = Target::Agent("site-7".parse().unwrap());
    let selected = Target::Labels("region=eu".parse().unwrap());
    let cases: &[(&str, &str, Pairs, Target)] = &[
        ("/a.B/C", "", &[("adit-agent", "site-7")], named.clone()),
        (
            "/a.B/C",
            "x.agents.example",
            &[("adit-agent", "site-7"), ("adit-select", "region=eu")],
            named.clone(),
        ),
        (
            "/a.B/C",
            "x.agents.example",
            &[("adit-select", "region=eu")],
            selected.clone(),
        ),
        ("/a.B/C", "SITE-7.Agents.Example:9090", &[], named),
        ("/a.B/C", "hub.example", &[], Target::Service),
        ("/a.B/C", "", &[], Target::Service),
        (
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "hub.example",
            &[],
            Target::AnyService,
        ),
        (
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "",
            &[("adit-select", "region=eu")],
            selected,
        ),
    ];
    for (path, authority, pairs, expected) in cases {
        let found = target(path, authority, pairs, domain).unwrap();
        assert_eq!(found, *expected, "{path} {authority} {pairs:?}");
    }
    // Without a domain no authority means an agent.
    assert_eq!(
        target("/a.B/C", "x.agents.example", &[], None).unwrap(),
        Target::Service
    );
    // Several values are one list.
    let both = target(
        "/a.B/C",
        "",
        &[("adit-select", "a=1"), ("adit-select", "b=2,c=3")],
        None,
    );
    assert_eq!(both.unwrap(), Target::Labels("a=1,b=2,c=3".parse().unwrap()));
}

#[test]
fn targets_that_cannot_be_understood_are_named() {
    let cases: &[(Pairs, &str, &str, &str)] = &[
        (&[("adit-agent", "Site 7")], "", "/a.B/C", "Site 7"),
        (&[("adit-agent", "a.b")], "", "/a.B/C", "DNS label"),
        (
            &[("adit-agent", "a"), ("adit-agent", "b")],
            "",
            "/a.B/C",
            "2 times",
        ),
        (&[("adit-select", "region")], "", "/a.B/C", "\"region\""),
        (&[("adit-select", "")], "", "/a.B/C", "no label"),
        (&[("adit-select", "a=1,a=2")], "", "/a.B/C", "twice"),
        (&[], "a.b.agents.example", "/a.B/C", "\"a.b\""),
        (&[], "", "/", "\"/\""),
        (&[], "", "*", "\"*\""),
        (&[("adit-agent", "a")], "", "*", "\"*\""),
    ];
    for (pairs, authority, path, expected) in cases {
        let message = target(path, authority, pairs, Some("agents.example"))
            .unwrap_err()
            .to_string();
        assert!(message.contains(expected), "{message}");
    }
    let long: HeaderMap = [(
        SELECT.clone(),
        HeaderValue::from_str(&"a=1,".repeat(2000)).unwrap(),
    )]
    .into_iter()
    .collect();
    let error = Target::of("/a.B/C", None, &long, None).unwrap_err();
    assert!(matches!(error, TargetError::LongSelect(8000)), "{error}");
    let bytes: HeaderMap = [(SELECT.clone(), HeaderValue::from_bytes(b"\xff=1").unwrap())]
        .into_iter()
        .collect();
    let error = Target::of("/a.B/C", None, &bytes, None).unwrap_err();
    assert!(matches!(error, TargetError::SelectBytes(_)), "{error}");
}

#[test]
fn rule_1_a_named_agent_is_meant_whatever_else_is_connected() {
    let target = target("/a.B/C", "", &[("adit-agent", "site-7")], None).unwrap();
    let offline = Err("agent site-7 is not connected");
    table(
        &target,
        &pools(&["*"]),
        &[
            (&[], offline),
            (&[("other", "", "a.B")], offline),
            (&[("site-7", "", "x.Y"), ("other", "", "a.B")], Ok(&["site-7"])),
        ],
    );
}

#[test]
fn who_is_connected_is_told_of_one_that_is_not() {
    let none: Agents = &[];
    for (id, agents, expected) in [
        (
            "site-7",
            none,
            "agent site-7 is not connected to this hub; no other agent is",
        ),
        ("site-7", &[("site-8", "", "-")], "this hub; connected: site-8"),
        (
            "site-7",
            &[
                ("a", "", "-"),
                ("b", "", "-"),
                ("site-5", "", "-"),
                ("site-6", "", "-"),
                ("site-8", "", "-"),
                ("site-9", "", "-"),
                ("zebra", "", "-"),
            ],
            "connected: site-5, site-6, site-8, site-9, zebra and 2 more",
        ),
        (
            "zzz",
            &[
                ("a", "", "-"),
                ("b", "", "-"),
                ("c", "", "-"),
                ("d", "", "-"),
                ("e", "", "-"),
                ("f", "", "-"),
            ],
            "connected: b, c, d, e, f and 1 more",
        ),
    ] {
        let header = HeaderMap::from_iter([(AGENT.clone(), HeaderValue::from_str(id).unwrap())]);
        let target = Target::of("/a.B/C", None, &header, None).unwrap();
        let message = reached(&target, &fleet(agents), &pools(&[])).unwrap_err();
        assert!(message.ends_with(expected), "{message}");
    }
}

#[test]
fn one_that_was_here_is_told_of() {
    let mut fleet = fleet(&[("site-7", "", "-"), ("site-8", "", "-")]);
    let target = target("/a.B/C", "", &[("adit-agent", "site-7")], None).unwrap();
    fleet.registered.pop_first().unwrap();
    let message = reached(&target, &fleet, &pools(&[])).unwrap_err();
    assert!(
        message.ends_with("; last seen 0 s ago; connected: site-8"),
        "{message}"
    );
}

#[test]
fn rule_2_all_agents_with_the_labels_share_the_calls() {
    let target = target("/a.B/C", "", &[("adit-select", "region=eu,tier=edge")], None).unwrap();
    let unmatched = Err("has the labels region=eu,tier=edge");
    table(
        &target,
        &pools(&[]),
        &[
            (&[], unmatched),
            (&[("a", "region=eu", "a.B"), ("b", "tier=edge", "a.B")], unmatched),
            (&[("a", "region=eu,tier=core", "a.B")], unmatched),
            (
                &[("a", "region=eu,tier=edge", "a.B"), ("b", "", "a.B")],
                Ok(&["a"]),
            ),
            (
                &[
                    ("a", "region=eu,tier=edge", "a.B"),
                    ("b", "region=eu,tier=edge,rack=1", "a.B"),
                    ("c", "region=us,tier=edge", "a.B"),
                ],
                Ok(&["a", "b"]),
            ),
            // Of those that match, the ones that are known to have the service.
            (
                &[
                    ("a", "region=eu,tier=edge", "a.B"),
                    ("b", "region=eu,tier=edge", "x.Y"),
                ],
                Ok(&["a"]),
            ),
            (&[("b", "region=eu,tier=edge", "x.Y")], Ok(&["b"])),
        ],
    );
}

#[test]
fn rule_4_the_only_agent_that_serves_it_is_meant() {
    let target = target("/a.B/C", "hub.example", &[], None).unwrap();
    let nobody = Err("no connected agent serves a.B");
    table(
        &target,
        &pools(&["x.Y"]),
        &[
            (&[], nobody),
            (&[("one", "", "a.B x.Y")], Ok(&["one"])),
            (&[("one", "", "a.B"), ("two", "", "x.Y")], Ok(&["one"])),
            (&[("one", "", "a.B"), ("two", "", "-")], Ok(&["one"])),
            (&[("one", "", "x.Y"), ("two", "", "-")], Ok(&["two"])),
            (&[("one", "", "x.Y")], nobody),
            // Replicas are one agent, whatever each of them knows.
            (&[("one", "", "a.B"), ("one", "", "-")], Ok(&["one"])),
            (&[("one", "", "x.Y"), ("one", "", "-")], nobody),
            (&[("one", "", "a.B"), ("two", "", "a.B")], Err("(one, two)")),
            (&[("one", "", "-"), ("two", "", "-")], Err("(one, two)")),
            (
                &[
                    ("a", "", "a.B"),
                    ("b", "", "a.B"),
                    ("c", "", "a.B"),
                    ("d", "", "a.B"),
                    ("e", "", "a.B"),
                    ("f", "", "a.B"),
                ],
                Err("(a, b, c, d, e and 1 more)"),
            ),
        ],
    );
}

#[test]
fn pools_share_the_calls_of_their_services() {
    let target = target("/a.B/C", "", &[], None).unwrap();
    for pool in ["a.B", "*"] {
        table(
            &target,
            &pools(&[pool]),
            &[
                (
                    &[("one", "", "a.B"), ("two", "", "a.B"), ("three", "", "x.Y")],
                    Ok(&["one", "two"]),
                ),
                (&[("one", "", "a.B"), ("two", "", "-")], Ok(&["one"])),
                (&[("one", "", "-"), ("two", "", "-")], Ok(&["one", "two"])),
            ],
        );
    }
}

#[test]
fn reflection_without_a_name_goes_to_the_only_agent() {
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let target = target(path, "", &[], None).unwrap();
    table(
        &target,
        &pools(&["a.B"]),
        &[
            (&[("one", "", "a.B")], Ok(&["one"])),
            (&[("one", "", "a.B"), ("two", "", "-")], Err("(one, two)")),
            (&[], Err("server reflection")),
        ],
    );
    table(
        &target,
        &pools(&["*"]),
        &[(&[("one", "", "a.B"), ("two", "", "x.Y")], Ok(&["one", "two"]))],
    );
}

#[test]
fn health_never_changes_who_is_meant() {
    let target = target("/a.B/C", "", &[], None).unwrap();
    let fleet = fleet(&[("one", "", "a.B"), ("two", "", "a.B"), ("one", "", "a.B")]);
    let down = Offer {
        down: true,
        ..offer(offering(&["a.B"]))
    };
    fleet.registered[&2].set_offer(down.clone());
    // With "two" down, "one" is the only one that works, and still not the only one that may be meant.
    assert!(
        reached(&target, &fleet, &Pools::default())
            .unwrap_err()
            .contains("(one, two)")
    );
    let equal = pools(&["*"]);
    assert_eq!(
        reached(&target, &fleet, &equal).unwrap(),
        BTreeSet::from(["one".to_owned()])
    );
    // Down everywhere, the call goes where its agent can say so.
    for key in [1, 3] {
        fleet.registered[&key].set_offer(down.clone());
    }
    assert_eq!(reached(&target, &fleet, &equal).unwrap().len(), 2);
}

#[test]
fn links_that_take_no_calls_are_told_from_those_that_are_not_there() {
    let cases: [(Pairs, Agents); 3] = [
        (&[("adit-agent", "one")], &[("one", "", "a.B")]),
        (&[("adit-select", "k=1")], &[("one", "k=1", "a.B")]),
        (&[], &[("one", "", "a.B")]),
    ];
    for (pairs, agents) in cases {
        let target = target("/a.B/C", "", pairs, None).unwrap();
        let fleet = fleet(agents);
        let route = |excluded: &[u64]| {
            let state = fleet.registry.read();
            let found = target.route("a.B", state.directory(), &Pools::default(), excluded);
            found.map(|member| member.key)
        };
        assert_eq!(route(&[]), Ok(1));
        assert!(
            !matches!(route(&[1]), Ok(_) | Err(Miss::Draining(_))),
            "{pairs:?}"
        );
        fleet.registered[&1].retire();
        assert!(matches!(route(&[]), Err(Miss::Draining(_))), "{pairs:?}");
    }
}

#[test]
fn routing_metadata_goes_and_the_order_of_the_rest_stays() {
    let before = metadata(&[
        ("z", "1"),
        ("adit-agent", "site-7"),
        ("adit-select", "region=eu"),
        ("a", "2"),
        ("z", "3"),
        ("trace-bin", "AAE"),
        ("b", "4"),
    ]);
    let after = without_routing(before);
    let pairs: Vec<_> = after
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    let expected: [(&str, &[u8]); 5] = [
        ("z", b"1"),
        ("z", b"3"),
        ("a", b"2"),
        ("trace-bin", b"AAE"),
        ("b", b"4"),
    ];
    assert_eq!(pairs, expected);
}
