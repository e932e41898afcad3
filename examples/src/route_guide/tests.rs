#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};

use super::*;
use crate::serve::{Address, Listener};

const LONG: Duration = Duration::from_secs(20);

fn at(latitude: i32, longitude: i32) -> Point {
    Point { latitude, longitude }
}

fn note(message: &str) -> RouteNote {
    RouteNote {
        location: Some(at(1, 2)),
        message: message.into(),
    }
}

/// A client of the service itself, with no network between.
fn in_process() -> RouteGuideClient<RouteGuideServer<RouteGuideService>> {
    RouteGuideClient::new(service())
}

#[tokio::test]
async fn get_feature_names_what_is_there() {
    let mut client = in_process();
    let found = client.get_feature(at(405_000_000, -745_000_000)).await;
    assert_eq!(found.unwrap().into_inner().name, "Elm Harbor");

    let nothing = client.get_feature(at(5, 6)).await.unwrap().into_inner();
    assert_eq!(nothing.name, "");
    assert_eq!(nothing.location, Some(at(5, 6)));

    let refused = client.get_feature(at(900_000_001, 0)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn list_features_streams_a_rectangle() {
    let mut client = in_process();
    let rectangle = Rectangle {
        lo: Some(at(400_000_000, -750_000_000)),
        hi: Some(at(420_000_000, -730_000_000)),
    };
    let listed = client.list_features(rectangle).await.unwrap().into_inner();
    let listed: Vec<_> = listed.try_collect().await.unwrap();
    assert_eq!(listed, geography::features().collect::<Vec<_>>());
}

#[tokio::test]
async fn record_route_counts_and_measures() {
    let mut client = in_process();
    let route = [
        at(401_000_000, -749_000_000),
        at(402_000_000, -749_000_000),
        at(402_500_000, -749_000_000),
    ];
    let summary = client.record_route(stream::iter(route)).await.unwrap();
    let RouteSummary {
        point_count,
        feature_count,
        distance,
        ..
    } = summary.into_inner();
    // 0.15° of a meridian.
    assert_eq!((point_count, feature_count, distance), (3, 2, 16_679));

    let empty = client.record_route(stream::empty()).await.unwrap();
    assert_eq!(empty.into_inner(), RouteSummary::default());

    let lost = client.record_route(stream::iter([at(0, i32::MAX)])).await;
    assert_eq!(lost.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn route_chat_answers_each_note_before_the_next() {
    let mut client = in_process();
    chat(&mut client).await;

    // Another caller finds what the first has left.
    let second = client.route_chat(stream::iter([note("c")])).await.unwrap();
    let found: Vec<_> = second.into_inner().try_collect().await.unwrap();
    assert_eq!(found, [note("a"), note("b")]);
}

#[tokio::test]
async fn health_is_serving_and_both_reflections_list_every_service() {
    let routes = routes().await;
    let mut health = HealthClient::new(routes.clone());
    for service in ["", SERVICE_NAME] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving);
    }

    let expected = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        SERVICE_NAME,
    ];
    assert_eq!(services_by_v1(routes.clone()).await, expected);
    assert_eq!(services_by_v1alpha(routes).await, expected);
}

#[tokio::test]
async fn all_four_kinds_over_tcp_and_a_cancellation_that_the_server_sees() {
    let served = Served::start("127.0.0.1:0".parse().unwrap()).await;
    let Address::Tcp(address) = served.address else {
        panic!("not a TCP address: {}", served.address);
    };
    let mut client = RouteGuideClient::connect(format!("http://{address}"))
        .await
        .unwrap();
    all_four_kinds(&mut client).await;

    let mut calls = served.ledger.calls();
    let already = calls.borrow().begun;
    assert_eq!(calls.borrow().cancelled, 0);
    let until_it_has_begun = calls.wait_for(|calls| calls.begun > already);
    tokio::select! {
        summary = client.record_route(stream::pending()) => panic!("no end of the route: {summary:?}"),
        begun = timeout(LONG, until_it_has_begun) => drop(begun.unwrap().unwrap()),
    }
    timeout(LONG, calls.wait_for(|calls| calls.cancelled == 1))
        .await
        .unwrap()
        .unwrap();
    // Its connection is still open: it is closed for it.
    served.stop().await;
}

#[tokio::test]
async fn all_four_kinds_over_a_unix_socket_that_is_gone_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("route-guide.sock");
    let served = Served::start(Address::Unix(path.clone())).await;
    let mut client = RouteGuideClient::connect(format!("unix:{}", path.display()))
        .await
        .unwrap();
    all_four_kinds(&mut client).await;
    assert!(path.exists());
    served.stop().await;
    assert!(!path.exists());
}

/// A call that never ends does not keep the server from stopping: the drain runs out (in the test's own time).
#[tokio::test(start_paused = true)]
async fn a_call_that_goes_on_holds_the_stop_up_for_the_drain_timeout_only() {
    let served = Served::start("127.0.0.1:0".parse().unwrap()).await;
    let mut client = RouteGuideClient::connect(format!("http://{}", served.address))
        .await
        .unwrap();
    let (notes, requests) = mpsc::channel(1);
    let call = client.route_chat(ReceiverStream::new(requests)).await;
    let begun = tokio::time::Instant::now();
    served.stop().await;
    assert!(begun.elapsed() >= crate::serve::DRAIN_TIMEOUT);
    drop((call, notes));
}

/// RouteGuide on a real socket.
struct Served {
    address: Address,
    ledger: Ledger,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), crate::serve::ServeError>>,
}

impl Served {
    async fn start(address: Address) -> Self {
        let ledger = Ledger::default();
        let listener = Listener::bind(address).await.unwrap();
        let address = listener.address().clone();
        let routes = routes_with(&ledger).await;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(listener.serve(routes, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            ledger,
            stop,
            task,
        }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(LONG, self.task).await.unwrap().unwrap().unwrap();
    }
}

async fn all_four_kinds(client: &mut RouteGuideClient<Channel>) {
    let found = client.get_feature(at(401_000_000, -749_000_000)).await;
    assert_eq!(found.unwrap().into_inner().name, "Alder Bridge");

    let rectangle = Rectangle {
        lo: Some(at(401_000_000, -749_000_000)),
        hi: Some(at(401_000_000, -747_000_000)),
    };
    let listed = client.list_features(rectangle).await.unwrap().into_inner();
    let listed: Vec<_> = listed.map_ok(|feature| feature.name).try_collect().await.unwrap();
    assert_eq!(listed, ["Alder Bridge", "Alder Crossing", "Alder Dam"]);

    let route = stream::iter((0..500).map(|i| at(i, 0)));
    let summary = client.record_route(route).await.unwrap().into_inner();
    assert_eq!(summary.point_count, 500);

    chat(client).await;
}

/// Leaves `a` and then, having left it, `b`; expects `a` in answer to `b`.
async fn chat<T>(client: &mut RouteGuideClient<T>)
where
    T: tonic::client::GrpcService<tonic::body::Body>,
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    T::ResponseBody: tonic::codegen::Body<Data = tonic::codegen::Bytes> + Send + 'static,
    <T::ResponseBody as tonic::codegen::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    // Room for both: with no network between, the service runs only when an answer is asked for.
    let (notes, requests) = mpsc::channel(2);
    notes.send(note("a")).await.unwrap();
    let call = client.route_chat(ReceiverStream::new(requests)).await;
    let mut answers = call.unwrap().into_inner();
    notes.send(note("b")).await.unwrap();
    // The request is still open: the answer is not held back until its end.
    let answer = timeout(LONG, answers.message()).await.unwrap().unwrap();
    assert_eq!(answer, Some(note("a")));
    drop(notes);
    assert_eq!(answers.message().await.unwrap(), None);
}

async fn services_by_v1(routes: Routes) -> Vec<String> {
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;

    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(routes);
    let answers = client
        .server_reflection_info(stream::iter([request]))
        .await
        .unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("not a list of services: {answer:?}");
    };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    names
}

async fn services_by_v1alpha(routes: Routes) -> Vec<String> {
    use v1alpha::server_reflection_request::MessageRequest;
    use v1alpha::server_reflection_response::MessageResponse;

    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(routes);
    let answers = client
        .server_reflection_info(stream::iter([request]))
        .await
        .unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("not a list of services: {answer:?}");
    };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    names
}
