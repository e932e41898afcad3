//! What health services say.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{Stream, StreamExt as _, stream};
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_check_response::ServingStatus as Said;
use tonic_health::pb::health_server::{Health as HealthService, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::health_reporter;

use super::backend::{Backend, reflection, with_health};
use super::*;
use crate::health::MAX_WATCHED;

#[tokio::test]
async fn the_whole_server_stops_serving_and_serves_again() {
    let (routes, reporter) = with_health(&["Orders"]);
    let backend = Backend::start(routes).await;
    let mut kept = Kept::of([(None, backend.upstream())]).await;
    assert_eq!(kept.now().services, known(&["shop.Orders"]));
    assert_eq!(kept.now().health, serving());
    for _ in 0..2 {
        reporter.set_service_status("", ServingStatus::NotServing).await;
        let offer = kept.until_health(down()).await;
        assert_eq!(offer.services, known(&["shop.Orders"]), "it still has it");
        reporter.set_service_status("", ServingStatus::Serving).await;
        kept.until_health(serving()).await;
    }
}

#[tokio::test]
async fn the_first_offer_knows_of_a_server_that_does_not_serve() {
    let (routes, reporter) = with_health(&["Orders"]);
    reporter.set_service_status("", ServingStatus::NotServing).await;
    let backend = Backend::start(routes).await;
    let kept = Kept::of([(None, backend.upstream())]).await;
    assert_eq!(kept.now().health, down());
    assert_eq!(kept.now().services, known(&["shop.Orders"]));
}

#[tokio::test]
async fn one_service_stops_serving_and_serves_again() {
    let (routes, reporter) = with_health(&["Carts", "Orders"]);
    for service in ["shop.Carts", "shop.Orders"] {
        reporter.set_service_status(service, ServingStatus::Serving).await;
    }
    let backend = Backend::start(routes).await;
    let mut kept = Kept::of([(None, backend.upstream())]).await;
    for status in [ServingStatus::NotServing, ServingStatus::Unknown] {
        reporter.set_service_status("shop.Carts", status).await;
        kept.until_health(not_serving(&["shop.Carts"])).await;
        reporter.set_service_status("shop.Orders", status).await;
        kept.until_health(not_serving(&["shop.Carts", "shop.Orders"]))
            .await;
        for service in ["shop.Carts", "shop.Orders"] {
            reporter.set_service_status(service, ServingStatus::Serving).await;
        }
        kept.until_health(serving()).await;
    }
}

#[tokio::test]
async fn a_service_that_the_server_learns_of_later_is_watched_then() {
    let (routes, reporter) = with_health(&["Orders"]);
    let backend = Backend::start(routes).await;
    let mut kept = Kept::of([(None, backend.upstream())]).await;
    assert_eq!(kept.now().health, serving(), "NOT_FOUND is no statement");
    reporter
        .set_service_status("shop.Orders", ServingStatus::NotServing)
        .await;
    kept.until_health(not_serving(&["shop.Orders"])).await;
}

#[tokio::test]
async fn services_that_are_named_are_watched_without_reflection() {
    let (reporter, health) = health_reporter();
    reporter
        .set_service_status("shop.Orders", ServingStatus::NotServing)
        .await;
    let backend = Backend::start(tonic::service::Routes::new(health)).await;
    let names = ["shop.Carts", "shop.Orders"].map(str::to_owned).to_vec();
    let mut kept = Kept::start([(None, backend.upstream())], Some(names)).await;
    assert_eq!(kept.now().services, known(&["shop.Carts", "shop.Orders"]));
    kept.until_health(not_serving(&["shop.Orders"])).await;
}

#[tokio::test]
async fn two_upstreams_by_prefix_have_a_health_each() {
    let (routes, reporter) = with_health(&["Orders", "Invoices"]);
    let orders = Backend::start(routes).await;
    let others = Backend::start(reflection(&["Carts", "Orders"])).await;
    let upstreams = [
        (Some("shop.Orders"), orders.upstream()),
        (None, others.upstream()),
    ];
    let mut kept = Kept::of(upstreams).await;
    assert_eq!(kept.now().services, known(&["shop.Carts", "shop.Orders"]));
    reporter.set_service_status("", ServingStatus::NotServing).await;
    kept.until_health(not_serving(&["shop.Orders"])).await;
    drop(others);
    let offer = kept.until_health(down()).await;
    assert_eq!(offer.services, known(&["shop.Carts", "shop.Orders"]));
    reporter.set_service_status("", ServingStatus::Serving).await;
    kept.until_health(not_serving(&["shop.Carts"])).await;
}

#[tokio::test]
async fn a_service_in_this_process_always_serves() {
    let (routes, reporter) = with_health(&["Orders"]);
    reporter.set_service_status("", ServingStatus::NotServing).await;
    let others = Backend::start(reflection(&["Carts"])).await;
    let upstreams = [
        (Some("shop.Orders"), Upstream::service(routes)),
        (None, others.upstream()),
    ];
    let mut kept = Kept::of(upstreams).await;
    assert_eq!(kept.now().services, known(&["shop.Carts", "shop.Orders"]));
    assert_eq!(kept.now().health, serving());
    drop(others);
    kept.until_health(not_serving(&["shop.Carts"])).await;
}

/// What is answered when a service is watched.
type Answer = dyn Fn(&str) -> Result<Vec<Said>, Status> + Send + Sync;

/// A health service that answers each Watch as `answer` says: these statuses, and then the end or nothing more.
#[derive(Clone)]
struct Scripted {
    answer: Arc<Answer>,
    ends: bool,
    watches: Arc<AtomicUsize>,
}

impl Scripted {
    fn new(answer: impl Fn(&str) -> Result<Vec<Said>, Status> + Send + Sync + 'static) -> Self {
        Self {
            answer: Arc::new(answer),
            ends: false,
            watches: Arc::default(),
        }
    }

    fn watches(&self) -> usize {
        self.watches.load(Ordering::Relaxed)
    }

    async fn serve(&self, services: &[&str]) -> Backend {
        Backend::start(reflection(services).add_service(HealthServer::new(self.clone()))).await
    }
}

#[tonic::async_trait]
impl HealthService for Scripted {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Err(Status::unimplemented("it is watched"))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.watches.fetch_add(1, Ordering::Relaxed);
        let said = (self.answer)(&request.get_ref().service)?;
        let said = stream::iter(said).map(|status| {
            Ok(HealthCheckResponse {
                status: status.into(),
            })
        });
        Ok(Response::new(if self.ends {
            Box::pin(said)
        } else {
            Box::pin(said.chain(stream::pending()))
        }))
    }
}

#[tokio::test]
async fn what_is_no_statement_leaves_a_server_serving() {
    for answer in [
        Ok(vec![Said::ServiceUnknown]),
        Err(Status::unimplemented("no Watch here")),
        Err(Status::not_found("no such service")),
        Err(Status::permission_denied("not for you")),
    ] {
        let health = Scripted::new({
            let answer = answer.clone();
            move |_| answer.clone()
        });
        let backend = health.serve(&["Orders"]).await;
        let kept = Kept::of([(None, backend.upstream())]).await;
        assert_eq!(kept.now().services, known(&["shop.Orders"]), "{answer:?}");
        assert_eq!(kept.now().health, serving(), "{answer:?}");
        assert!(health.watches() >= 1);
    }
}

#[tokio::test]
async fn a_proxy_without_a_server_behind_it_is_down() {
    let asked = AtomicUsize::new(0);
    let health = Scripted::new(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0..3 => Err(Status::unavailable("no healthy upstream")),
        _ => Ok(vec![Said::Serving]),
    });
    let backend = health.serve(&["Orders"]).await;
    let mut kept = Kept::of([(None, backend.upstream())]).await;
    assert_eq!(kept.now().health, down());
    kept.until_health(serving()).await;
}

#[tokio::test]
async fn a_stream_that_ends_leaves_its_last_word_and_is_opened_anew() {
    let asked = AtomicUsize::new(0);
    let mut health = Scripted::new(
        move |service| match (service, asked.fetch_add(1, Ordering::Relaxed)) {
            ("", 0..3) => Ok(vec![Said::NotServing]),
            _ => Ok(vec![Said::Serving]),
        },
    );
    health.ends = true;
    let backend = health.serve(&[]).await;
    let mut kept = Kept::of([(None, backend.upstream())]).await;
    assert_eq!(kept.now().health, down());
    kept.until_health(serving()).await;
    assert!(health.watches() >= 4, "{}", health.watches());
}

#[tokio::test]
async fn a_health_service_that_is_silent_holds_nothing_up() {
    let health = Scripted::new(|_| Ok(Vec::new()));
    let backend = health.serve(&["Orders"]).await;
    let mut kept = Kept::of([(None, backend.upstream())]).await;
    kept.until_services(&["shop.Orders"]).await;
    assert_eq!(kept.now().health, serving());
}

#[tokio::test]
async fn no_more_services_than_the_limit_are_watched() {
    let last = format!("shop.S{:03}", MAX_WATCHED - 1);
    let health = Scripted::new(|service| match service {
        "" => Ok(vec![Said::Serving]),
        _ => Ok(vec![Said::NotServing]),
    });
    let names: Vec<_> = (0..MAX_WATCHED + 10)
        .map(|number| format!("S{number:03}"))
        .collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let backend = health.serve(&names).await;
    let mut kept = Kept::of([(None, backend.upstream())]).await;
    let offer = kept
        .until(|offer| offer.health.not_serving.len() == MAX_WATCHED)
        .await;
    assert_eq!(offer.health.not_serving.last(), Some(&last));
    assert_eq!(health.watches(), MAX_WATCHED + 1);
}

#[tokio::test]
async fn a_health_that_flaps_is_told_seldom() {
    let (routes, reporter) = with_health(&["Orders"]);
    let backend = Backend::start(routes).await;
    let begun = tokio::time::Instant::now();
    let mut kept = Kept::of([(None, backend.upstream())]).await;
    let flapping = async {
        for _ in 0..100 {
            for status in [ServingStatus::NotServing, ServingStatus::Serving] {
                reporter.set_service_status("", status).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    };
    let counting = async {
        let mut told = 1;
        while tokio::time::timeout(PAUSE * 5, kept.told.changed()).await.is_ok() {
            kept.told.borrow_and_update();
            told += 1;
        }
        told
    };
    let ((), told) = tokio::join!(flapping, counting);
    // The last word counts.
    kept.until_health(serving()).await;
    let most = 2 + begun.elapsed().as_millis() / PAUSE.as_millis();
    assert!(
        told <= most,
        "{told} offers, and {most} were expected at the most"
    );
}
