#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn clients(connections_per_client: usize, calls_per_client: usize) -> Arc<Clients> {
    Clients::new(&Limits {
        connections_per_client,
        calls_per_client,
        ..Limits::default()
    })
}

fn principal(name: Option<&str>, address: &str) -> Principal {
    Principal {
        name: name.map(|name| name.parse().unwrap()),
        address: address.parse().unwrap(),
    }
}

#[test]
fn a_client_is_its_name_or_else_its_address() {
    let clients = clients(1, 1);
    let named = clients.connect(&principal(Some("billing"), "10.0.0.1")).unwrap();
    let full = Some(Full { limit: 1 });
    assert_eq!(
        clients.connect(&principal(Some("billing"), "10.0.0.2")).err(),
        full
    );
    let _other = clients.connect(&principal(Some("orders"), "10.0.0.1")).unwrap();
    let _nameless = clients.connect(&principal(None, "10.0.0.1")).unwrap();
    assert_eq!(clients.connect(&principal(None, "10.0.0.1")).err(), full);
    drop(named);
    clients.connect(&principal(Some("billing"), "10.0.0.2")).unwrap();
}

#[test]
fn a_call_outlives_its_connection_in_the_count() {
    let clients = clients(2, 1);
    let billing = principal(Some("billing"), "10.0.0.1");
    let first = clients.connect(&billing).unwrap();
    let call = first.begin().unwrap();
    drop(first);
    let second = clients.connect(&billing).unwrap();
    assert_eq!(second.begin().err(), Some(Full { limit: 1 }));
    drop(call);
    let _call = second.begin().unwrap();
}

#[test]
fn counts_are_exact_under_many_threads() {
    let clients = clients(8, 64);
    let most = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    let Ok(connected) = clients.connect(&principal(None, "10.0.0.1")) else {
                        continue;
                    };
                    let calls: Vec<_> = (0..20).filter_map(|_| connected.begin().ok()).collect();
                    most.fetch_max(connected.0.calls.load(Ordering::Relaxed), Ordering::Relaxed);
                    drop(connected);
                    drop(calls);
                }
            });
        }
    });
    assert!(most.into_inner() <= 64);
    assert!(clients.accounts.lock().unwrap().is_empty(), "nobody is left");
}

proptest! {
    /// After any sequence of beginnings and ends the counts are those of what is held, and never past a limit.
    #[test]
    fn counts_agree_with_what_is_held(steps in prop::collection::vec((0_usize..3, 0_usize..3, any::<prop::sample::Index>()), 0..100)) {
        let clients = clients(3, 4);
        let mut held: Vec<(usize, Connected)> = Vec::new();
        let mut calls: Vec<(usize, Running)> = Vec::new();
        for (who, what, index) in steps {
            let connections_of = |held: &[(usize, Connected)]| held.iter().filter(|(other, _)| *other == who).count();
            match what {
                0 => {
                    let before = connections_of(&held);
                    let connected = clients.connect(&principal(None, &format!("10.0.0.{who}")));
                    prop_assert_eq!(connected.is_ok(), before < 3);
                    held.extend(connected.ok().map(|connected| (who, connected)));
                }
                1 => {
                    if let Some((_, connected)) = held.iter().find(|(other, _)| *other == who) {
                        let before = calls.iter().filter(|(other, _)| *other == who).count();
                        let call = connected.begin();
                        prop_assert_eq!(call.is_ok(), before < 4);
                        calls.extend(call.ok().map(|call| (who, call)));
                    }
                }
                _ if !held.is_empty() && index.index(2) == 0 => drop(held.swap_remove(index.index(held.len()))),
                _ if !calls.is_empty() => drop(calls.swap_remove(index.index(calls.len()))),
                _ => {}
            }
            let mut holders: HashMap<usize, ()> = HashMap::new();
            holders.extend(held.iter().map(|(who, _)| (*who, ())));
            holders.extend(calls.iter().map(|(who, _)| (*who, ())));
            prop_assert_eq!(clients.accounts.lock().unwrap().len(), holders.len());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_with_too_many_rapid_resets_is_remembered_for_a_while() {
    let clients = clients(2, 1);
    let connect = |address| clients.connect(&principal(None, address)).unwrap();
    let resets = |connected: &Connected| (0..=RAPID_RESETS).filter(|_| connected.reset_rapidly()).count();
    let most = usize::try_from(RAPID_RESETS).unwrap();
    let second = usize::try_from(RAPID_RESETS_PER_SECOND).unwrap();

    // Those of all its connections count together, and nobody else's.
    let one = connect("10.0.0.1");
    assert!(one.reset_rapidly());
    assert_eq!(resets(&connect("10.0.0.1")), most - 1);
    assert_eq!(resets(&connect("10.0.0.2")), most);
    drop(one);
    // Coming again does not help.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(resets(&connect("10.0.0.1")), second);
    tokio::time::sleep(REMEMBERED).await;
    assert_eq!(resets(&connect("10.0.0.1")), most);
    assert_eq!(resets(&connect("10.0.0.3")), most);
    assert_eq!(clients.remembered.lock().unwrap().len(), 2);
}
