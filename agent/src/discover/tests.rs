#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use h2::server::Builder;
use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet, ServiceDescriptorProto};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;
use tonic_reflection::server;

use super::*;
use crate::forward::Forwarder;
use crate::offer::{Offer, keep};
use crate::upstream::tests::support::{Server, answer, soon, upstream};

/// The descriptors of services of the package `shop`.
fn shop(services: &[&str]) -> Vec<u8> {
    let service = services
        .iter()
        .map(|name| ServiceDescriptorProto {
            name: Some((*name).to_owned()),
            ..Default::default()
        })
        .collect();
    let file = FileDescriptorProto {
        name: Some("shop.proto".to_owned()),
        package: Some("shop".to_owned()),
        service,
        ..Default::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

fn v1(services: &[&str]) -> Routes {
    let descriptors = shop(services);
    Routes::new(
        server::Builder::configure()
            .register_encoded_file_descriptor_set(&descriptors)
            .build_v1()
            .unwrap(),
    )
}

fn v1alpha(services: &[&str]) -> Routes {
    let descriptors = shop(services);
    Routes::new(
        server::Builder::configure()
            .register_encoded_file_descriptor_set(&descriptors)
            .build_v1alpha()
            .unwrap(),
    )
}

/// Serves `routes` on a port.
async fn serve(routes: Routes) -> (Upstream, AbortOnDropHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = upstream(&format!("http://{}", listener.local_addr().unwrap()));
    let task = tokio::spawn(async move {
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper_util::service::TowerToHyperService::new(routes.clone());
            let connection = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
                .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
            tasks.spawn(connection);
        }
    });
    (upstream, AbortOnDropHandle::new(task))
}

/// The services of the first offer.
async fn first(forwarder: &Forwarder) -> Services {
    let (offer, mut told) = watch::channel(Offer::unasked());
    tokio::select! {
        () = keep(forwarder, None, &offer) => panic!("it ended"),
        _ = told.changed() => told.borrow().services.clone(),
    }
}

fn known(names: &[&str]) -> Services {
    Services::Known(names.iter().map(|name| (*name).to_owned()).collect())
}

#[tokio::test]
async fn both_versions_of_reflection_are_understood() {
    for routes in [v1(&["Orders", "Carts"]), v1alpha(&["Orders", "Carts"])] {
        let (upstream, _server) = serve(routes.clone()).await;
        for upstream in [upstream, Upstream::service(routes)] {
            let forwarder = Forwarder::new([(None, upstream)]).unwrap();
            assert_eq!(
                soon(first(&forwarder)).await,
                known(&["shop.Carts", "shop.Orders"])
            );
        }
    }
}

#[tokio::test]
async fn only_what_is_called_at_an_upstream_counts() {
    let everything = Upstream::service(v1(&["Orders", "Carts"]));
    let orders = Upstream::service(v1(&["Orders", "Secret"]));
    let prefix = |text: &str| Some(text.parse().unwrap());
    let forwarder = Forwarder::new([
        (prefix("shop.Carts"), everything),
        (prefix("shop.Orders"), orders),
    ])
    .unwrap();
    assert_eq!(
        soon(first(&forwarder)).await,
        known(&["shop.Carts", "shop.Orders"])
    );
}

#[tokio::test]
async fn an_upstream_that_does_not_tell_leaves_all_unknown() {
    let silent = Server::start(Builder::new(), |exchange| answer(exchange, "")).await;
    let down = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = upstream(&format!("http://{}", down.local_addr().unwrap()));
    drop(down);
    for (other, why) in [
        (Upstream::service(Routes::default()), "no server reflection"),
        (nobody, "no connection to it can be made"),
        (silent.upstream(), "another question"),
    ] {
        let orders = (Some("shop".parse().unwrap()), Upstream::service(v1(&["Orders"])));
        let forwarder = Forwarder::new([orders, (None, other)]).unwrap();
        let Services::Unknown(reason) = soon(first(&forwarder)).await else {
            panic!("{why}")
        };
        assert!(reason.contains(why) && reason.contains("--service"), "{reason}");
    }
}

#[tokio::test]
async fn too_many_services_are_not_cut_silently() {
    let names: Vec<_> = (0..=MAX_SERVICES).map(|number| format!("S{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let forwarder = Forwarder::new([(None, Upstream::service(v1(&names)))]).unwrap();
    let Services::Unknown(reason) = soon(first(&forwarder)).await else {
        panic!("known")
    };
    assert!(reason.contains("4097") && reason.contains("4096"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_never_answers_is_given_up() {
    let server = Server::start(Builder::new(), |exchange| async move {
        std::future::pending::<()>().await;
        drop(exchange);
    })
    .await;
    let forwarder = Forwarder::new([(None, server.upstream())]).unwrap();
    let (offer, mut told) = watch::channel(Offer::unasked());
    let given_up =
        |offer: &Offer| matches!(&offer.services, Services::Unknown(why) if why.contains("within 5 s"));
    tokio::select! {
        () = keep(&forwarder, None, &offer) => {}
        _ = soon(told.wait_for(given_up)) => {}
    }
}
