//! Upstreams that go, come back, and hang up.

use std::time::Duration;

use tonic_health::ServingStatus;

use super::backend::{Backend, MANY, reflection, with_health};
use super::*;
use crate::upstream::tests::support::{collect, request, upstream};

#[tokio::test]
async fn an_upstream_that_is_back_is_asked_for_its_services_at_once() {
    for has_health in [false, true] {
        let routes = |services: &[&str]| {
            if has_health {
                with_health(services).0
            } else {
                reflection(services)
            }
        };
        let mut backend = Backend::start(routes(&["Orders"])).await;
        let address = backend.address;
        let mut kept = Kept::of([(None, backend.upstream())]).await;
        let mut before = known(&["shop.Orders"]);
        assert_eq!(kept.now().services, before);
        for (services, names) in [
            (["Carts", "Offers"], ["shop.Carts", "shop.Offers"]),
            (["Carts", "Orders"], ["shop.Carts", "shop.Orders"]),
        ] {
            drop(backend);
            let offer = kept.until_health(down()).await;
            assert_eq!(offer.services, before, "nothing is forgotten while it is down");
            backend = Backend::start_at(address, routes(&services), MANY).await;
            kept.until_health(serving()).await;
            before = kept.until_services(&names).await.services;
        }
    }
}

#[tokio::test]
async fn an_upstream_that_comes_up_late_is_found() {
    let routes = reflection(&["Orders"]);
    let backend = Backend::start(routes.clone()).await;
    let address = backend.address;
    drop(backend);
    let mut kept = Kept::of([(None, upstream(&format!("http://{address}")))]).await;
    let Services::Unknown(why) = kept.now().services else {
        panic!("nobody listed them")
    };
    assert!(
        why.contains("no connection") && why.contains("--service"),
        "{why}"
    );
    assert_eq!(kept.now().health, down());
    let _backend = Backend::start_at(address, routes, MANY).await;
    kept.until_health(serving()).await;
    kept.until_services(&["shop.Orders"]).await;
}

#[tokio::test]
async fn an_upstream_that_lost_its_reflection_is_believed() {
    let backend = Backend::start(reflection(&["Orders"])).await;
    let address = backend.address;
    let mut kept = Kept::of([(None, backend.upstream())]).await;
    assert_eq!(kept.now().services, known(&["shop.Orders"]));
    drop(backend);
    kept.until_health(down()).await;
    let _backend = Backend::start_at(address, tonic::service::Routes::default(), MANY).await;
    kept.until(
        |offer| matches!(&offer.services, Services::Unknown(why) if why.contains("no server reflection")),
    )
    .await;
}

#[tokio::test]
async fn an_upstream_that_is_unknown_and_down_beside_another_cannot_be_named() {
    let other = Backend::start(reflection(&["Carts"])).await;
    let gone = Backend::start(reflection(&[])).await;
    let upstreams = [(Some("shop.Carts"), other.upstream()), (None, gone.upstream())];
    drop(gone);
    let kept = Kept::of(upstreams).await;
    assert!(matches!(kept.now().services, Services::Unknown(_)));
    assert_eq!(kept.now().health, serving());
}

#[tokio::test]
async fn where_one_stream_has_room_the_watch_takes_none_of_the_calls_room() {
    let (routes, reporter) = with_health(&["Orders"]);
    reporter
        .set_service_status("shop.Orders", ServingStatus::NotServing)
        .await;
    let backend = Backend::start_at("127.0.0.1:0".parse().unwrap(), routes, 1).await;
    let upstream = backend.upstream();
    let mut kept = Kept::of([(None, upstream.clone())]).await;
    assert_eq!(kept.now().services, known(&["shop.Orders"]));
    for status in [ServingStatus::NotServing, ServingStatus::Serving] {
        reporter.set_service_status("", status).await;
        let expected = if status == ServingStatus::Serving {
            serving()
        } else {
            down()
        };
        // That of the service has no room, and waits.
        kept.until_health(expected).await;
        for _ in 0..5 {
            let answer = soon(upstream.call(request("/a.B/C", adit_transport::Body::empty())))
                .await
                .unwrap();
            assert_eq!(answer.headers()["grpc-status"], "12");
            soon(collect(answer.into_body())).await.unwrap();
        }
    }
    // One for watching, one for calls, and one for the question for its services where it met a call.
    assert!(backend.accepted() <= 3, "{}", backend.accepted());
}

#[tokio::test]
async fn an_upstream_that_hangs_up_is_not_down() {
    for has_health in [false, true] {
        let (routes, _reporter) = with_health(&["Orders"]);
        let routes = if has_health {
            routes
        } else {
            reflection(&["Orders"])
        };
        let backend = Backend::start(routes.clone()).await;
        let mut kept = Kept::of([(None, backend.upstream())]).await;
        for round in 2..5 {
            let before = backend.accepted();
            // The streams of health don't hold the connections that are told to go away.
            backend.hang_up();
            let settled = async {
                while backend.accepted() == before || backend.told_to_go() > 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            soon(settled).await;
            assert!(backend.accepted() >= round);
        }
        // Long enough for whatever is wrong to be told.
        assert!(
            tokio::time::timeout(PAUSE * 3, kept.told.changed())
                .await
                .is_err()
        );
        assert_eq!(kept.now().health, serving());
    }
}

#[tokio::test]
async fn the_watch_ends_with_its_keeper() {
    let (routes, _reporter) = with_health(&["Orders"]);
    let backend = Backend::start(routes).await;
    let kept = Kept::of([(None, backend.upstream())]).await;
    assert!(backend.open() >= 1);
    drop(kept);
    let gone = async {
        while backend.open() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(gone).await;
}
