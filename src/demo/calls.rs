//! One call of each kind, through the hub's port for clients, as any gRPC client would make it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use adit_examples::route_guide::RouteGuideClient;
use adit_examples::route_guide::geography;
use adit_examples::route_guide::pb::{Point, Rectangle, RouteNote};
use anyhow::{Context as _, ensure};
use futures_util::stream;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::AGENT;

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

type Client = RouteGuideClient<InterceptedService<Channel, fn(Request<()>) -> Result<Request<()>, Status>>>;

/// Makes the four calls, each of which has to answer what the service knows.
pub(super) async fn make_one_of_each(clients: SocketAddr) -> anyhow::Result<()> {
    let channel = Endpoint::from_shared(format!("http://{clients}"))?
        .tcp_nodelay(true)
        .connect_timeout(CALL_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .connect()
        .await
        .with_context(|| format!("cannot connect to the hub's port for clients, {clients}"))?;
    let mut client: Client = RouteGuideClient::with_interceptor(channel, to_the_agent);
    // Until the agent is connected the hub holds the first call: what that takes is no latency of a call.
    let known = geography::features().next().and_then(|feature| feature.location);
    let place = known.context("the sample service knows no places")?;
    client.get_feature(place).await?;

    show("GetFeature", "unary", get_feature(&mut client, place)).await?;
    show("ListFeatures", "server streaming", list_features(&mut client)).await?;
    show("RecordRoute", "client streaming", record_route(&mut client)).await?;
    show("RouteChat", "bidirectional", route_chat(&mut client, place)).await
}

/// Every call names its agent, as a client does that is not alone with one.
fn to_the_agent(mut request: Request<()>) -> Result<Request<()>, Status> {
    request
        .metadata_mut()
        .insert("adit-agent", MetadataValue::from_static(AGENT));
    Ok(request)
}

async fn show(
    method: &str,
    kind: &str,
    call: impl Future<Output = anyhow::Result<String>>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let answer = call.await.with_context(|| format!("{method} failed"))?;
    let took = start.elapsed();
    writeln!(
        std::io::stdout(),
        "{method:<13} {kind:<17} {:>7.2} ms  {answer}",
        took.as_secs_f64() * 1e3
    )?;
    Ok(())
}

async fn get_feature(client: &mut Client, place: Point) -> anyhow::Result<String> {
    let feature = client.get_feature(place).await?.into_inner();
    ensure!(!feature.name.is_empty(), "no name for {place:?}");
    Ok(format!("{:?}", feature.name))
}

async fn list_features(client: &mut Client) -> anyhow::Result<String> {
    let world = Rectangle {
        lo: Some(Point {
            latitude: -900_000_000,
            longitude: -1_800_000_000,
        }),
        hi: Some(Point {
            latitude: 900_000_000,
            longitude: 1_800_000_000,
        }),
    };
    let mut features = client.list_features(world).await?.into_inner();
    let mut count = 0;
    while features.message().await?.is_some() {
        count += 1;
    }
    let expected = geography::features().count();
    ensure!(
        count == expected,
        "{count} features came, and there are {expected}"
    );
    Ok(format!("{count} features"))
}

async fn record_route(client: &mut Client) -> anyhow::Result<String> {
    let route: Vec<Point> = geography::features()
        .filter_map(|feature| feature.location)
        .take(10)
        .collect();
    let points = route.len();
    let summary = client.record_route(stream::iter(route)).await?.into_inner();
    ensure!(
        usize::try_from(summary.point_count) == Ok(points),
        "{points} points went: {summary:?}"
    );
    Ok(format!(
        "{} points, {} features, {} m",
        summary.point_count, summary.feature_count, summary.distance
    ))
}

async fn route_chat(client: &mut Client, place: Point) -> anyhow::Result<String> {
    let notes = ["first", "second", "third"].map(|message| RouteNote {
        location: Some(place),
        message: message.to_owned(),
    });
    let mut answers = client.route_chat(stream::iter(notes)).await?.into_inner();
    let mut heard = Vec::new();
    while let Some(note) = answers.message().await? {
        heard.push(note.message);
    }
    // Each note is answered with those left at the place before it.
    ensure!(
        heard == ["first", "first", "second"],
        "the notes came back as {heard:?}"
    );
    Ok(format!("{} notes heard", heard.len()))
}
