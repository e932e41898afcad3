#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use http::{HeaderName, HeaderValue};

use super::*;

/// Names and values, or agents and their services.
type Pairs<'a> = &'a [(&'a str, &'a str)];

fn id(name: &str) -> AgentId {
    name.parse().unwrap()
}

/// `agents`: an id, and the services it advertises, or `-` when it advertises nothing.
fn directory(agents: &[(&str, &str)]) -> Directory {
    let mut directory = Directory::default();
    for (name, services) in agents {
        let services = match *services {
            "-" => None,
            names => Some(names.split_whitespace().map(str::to_owned).collect()),
        };
        directory.set(&id(name), services);
    }
    directory
}

fn metadata(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    map
}

#[test]
fn a_named_agent_is_the_target_whatever_is_connected() {
    let target = Target::of("/a.B/C", &metadata(&[("adit-agent", "site-7")])).unwrap();
    assert_eq!(target, Target::Agent(id("site-7")));
    assert_eq!(target.resolve(&directory(&[])), Ok(&id("site-7")));
    assert_eq!(target.resolve(&directory(&[("other", "a.B")])), Ok(&id("site-7")));
}

#[test]
fn targets_that_cannot_be_understood_are_named() {
    let cases: &[(Pairs, &str, &str)] = &[
        (&[("adit-agent", "Site 7")], "/a.B/C", "Site 7"),
        (&[("adit-agent", "a"), ("adit-agent", "b")], "/a.B/C", "2 times"),
        (&[("adit-select", "region=eu")], "/a.B/C", "adit-select"),
        (&[], "/", "\"/\""),
        (&[], "*", "\"*\""),
    ];
    for (pairs, path, expected) in cases {
        let message = Target::of(path, &metadata(pairs)).unwrap_err().to_string();
        if *path == "/" {
            // An empty service and an empty method: nobody serves it, which the registry says.
            assert_eq!(Target::of(path, &metadata(pairs)).ok(), None);
        }
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn without_a_name_the_only_one_that_serves_it_is_meant() {
    let cases: &[(Pairs, Result<&str, &str>)] = &[
        (&[], Err("no connected agent serves a.B")),
        (&[("one", "a.B x.Y")], Ok("one")),
        (&[("one", "a.B"), ("two", "x.Y")], Ok("one")),
        (&[("one", "a.B"), ("two", "-")], Ok("one")),
        (&[("one", "x.Y"), ("two", "-")], Ok("two")),
        (&[("one", "x.Y")], Err("no connected agent serves a.B")),
        (&[("one", "a.B"), ("two", "a.B")], Err("(one, two)")),
        (&[("one", "-"), ("two", "-")], Err("(one, two)")),
        (
            &[
                ("a", "a.B"),
                ("b", "a.B"),
                ("c", "a.B"),
                ("d", "a.B"),
                ("e", "a.B"),
                ("f", "a.B"),
            ],
            Err("(a, b, c, d, e and 1 more)"),
        ),
    ];
    let target = Target::of("/a.B/C", &HeaderMap::new()).unwrap();
    for (agents, expected) in cases {
        let directory = directory(agents);
        let found = target.resolve(&directory).map(AgentId::as_str);
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, *expected, "{agents:?}"),
            (Err(miss), Err(expected)) => {
                assert!(
                    miss.message().contains(expected),
                    "{agents:?}: {}",
                    miss.message()
                );
            }
            (found, _) => unreachable!("{agents:?}: {found:?}"),
        }
    }
}

#[test]
fn reflection_without_a_name_goes_to_the_only_agent() {
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let target = Target::of(path, &HeaderMap::new()).unwrap();
    assert_eq!(target, Target::AnyService);
    assert_eq!(target.resolve(&directory(&[("one", "a.B")])), Ok(&id("one")));
    assert!(matches!(
        target.resolve(&directory(&[("one", "a.B"), ("two", "-")])),
        Err(Miss::Ambiguous { .. })
    ));
    assert!(matches!(target.resolve(&directory(&[])), Err(Miss::NoRoute(_))));
}

#[test]
fn routing_metadata_goes_and_the_order_of_the_rest_stays() {
    let before = metadata(&[
        ("z", "1"),
        ("adit-agent", "site-7"),
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
