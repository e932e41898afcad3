//! RouteGuide as an upstream, and calls of its four kinds.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI32, Ordering};

use adit_examples::ledger::{Calls, Ledger};
use adit_examples::route_guide::pb::{Feature, Point, Rectangle, RouteNote};
use adit_examples::route_guide::{self, RouteGuideClient, geography};
use futures_util::stream;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tonic::metadata::MetadataValue;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Status};

use super::soon;

/// A RouteGuide server that counts its calls.
pub(crate) struct Sample {
    pub(crate) address: SocketAddr,
    pub(crate) ledger: Ledger,
    _task: AbortOnDropHandle<()>,
}

impl Sample {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(super::ANY_PORT).await.unwrap();
        let address = listener.local_addr().unwrap();
        let ledger = Ledger::default();
        let routes = route_guide::routes_with(&ledger).await;
        let server = async move {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            Server::builder()
                .add_routes(routes)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        };
        Self {
            address,
            ledger,
            _task: AbortOnDropHandle::new(tokio::spawn(server)),
        }
    }

    /// The address as `--upstream` takes it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The count of its calls so far.
    pub(crate) fn calls(&self) -> Calls {
        *self.ledger.calls().borrow()
    }
}

/// A client of a hub, which connects again when the hub was away.
pub(crate) fn client(hub: SocketAddr) -> RouteGuideClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{hub}")).unwrap();
    RouteGuideClient::new(endpoint.tcp_nodelay(true).connect_lazy())
}

/// A request for one agent, or for whichever has the service.
pub(crate) fn request<T>(agent: Option<&str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(agent) = agent {
        let agent = MetadataValue::try_from(agent).unwrap();
        request.metadata_mut().insert("adit-agent", agent);
    }
    request
}

/// A place that RouteGuide knows.
pub(crate) fn a_place() -> Feature {
    geography::features().nth(42).unwrap()
}

/// The whole of the Earth.
pub(crate) fn everywhere() -> Rectangle {
    let corner = |latitude, longitude| Some(Point { latitude, longitude });
    Rectangle {
        lo: corner(-900_000_000, -1_800_000_000),
        hi: corner(900_000_000, 1_800_000_000),
    }
}

/// One unary call.
pub(crate) async fn get_feature(
    client: &mut RouteGuideClient<Channel>,
    agent: Option<&str>,
) -> Result<String, Status> {
    let point = a_place().location.unwrap();
    let feature = soon(client.get_feature(request(agent, point))).await?;
    Ok(feature.into_inner().name)
}

/// Makes a call of each kind and checks what it answers.
pub(crate) async fn four_kinds(hub: SocketAddr, agent: Option<&str>) {
    let mut client = client(hub);
    assert_eq!(get_feature(&mut client, agent).await.unwrap(), a_place().name);

    let listed = soon(client.list_features(request(agent, everywhere()))).await;
    let mut listed = listed.unwrap().into_inner();
    let mut names = Vec::new();
    while let Some(feature) = soon(listed.message()).await.unwrap() {
        names.push(feature.name);
    }
    let all: Vec<_> = geography::features().map(|feature| feature.name).collect();
    assert_eq!(names, all);

    let route = stream::iter(
        geography::features()
            .take(5)
            .filter_map(|feature| feature.location),
    );
    let summary = soon(client.record_route(request(agent, route))).await.unwrap();
    let summary = summary.into_inner();
    assert_eq!((summary.point_count, summary.feature_count), (5, 5));

    chat(&mut client, agent).await;
}

/// A conversation in which the last note is sent when the answer to those before has come.
async fn chat(client: &mut RouteGuideClient<Channel>, agent: Option<&str>) {
    // A place of its own: notes of other calls would be heard too.
    static PLACES: AtomicI32 = AtomicI32::new(0);
    let place = Point {
        latitude: PLACES.fetch_add(1, Ordering::Relaxed),
        longitude: 0,
    };
    let note = |message: &str| RouteNote {
        location: Some(place),
        message: message.to_owned(),
    };
    let (say, said) = tokio::sync::mpsc::channel(2);
    let notes = stream::unfold(said, |mut said| async { Some((said.recv().await?, said)) });
    say.send(note("first")).await.unwrap();
    say.send(note("second")).await.unwrap();
    let heard = soon(client.route_chat(request(agent, notes))).await;
    let mut heard = heard.unwrap().into_inner();
    assert_eq!(soon(heard.message()).await.unwrap(), Some(note("first")));
    say.send(note("third")).await.unwrap();
    for expected in ["first", "second"] {
        assert_eq!(soon(heard.message()).await.unwrap(), Some(note(expected)));
    }
    drop(say);
    assert_eq!(soon(heard.message()).await.unwrap(), None);
}
