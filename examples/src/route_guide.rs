//! RouteGuide, the service of gRPC's tutorials: one method of each of the four kinds.
//!
//! [`service`] is the service alone; [`routes`] adds health and reflection, as a well-behaved server has them.
//! The state is in memory and bounded, and lives as long as the service.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt, future};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use tonic_health::server::{HealthReporter, HealthService};

use crate::ledger::Ledger;

use notes::Notes;
use pb::route_guide_server::{RouteGuide, RouteGuideServer};
use pb::{Feature, Point, Rectangle, RouteNote, RouteSummary};

pub mod geography;
pub mod notes;
#[cfg(test)]
mod tests;

/// `routeguide`: the messages, the client and the server stub, generated from `route_guide.proto`.
pub mod pb {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        clippy::pedantic,
        reason = "generated code"
    )]
    tonic::include_proto!("routeguide");
}

pub use pb::route_guide_client::RouteGuideClient;

/// The full name of the service, as it stands in a request's path.
pub const SERVICE_NAME: &str = pb::route_guide_server::SERVICE_NAME;

/// `route_guide.proto` as a serialized `google.protobuf.FileDescriptorSet`, comments included.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/route_guide.bin"));

/// RouteGuide with fresh state, ready to be added to a server.
#[must_use]
pub fn service() -> RouteGuideServer<RouteGuideService> {
    RouteGuideServer::new(RouteGuideService::default())
}

/// RouteGuide with fresh state, beside `grpc.health.v1` (SERVING) and server reflection v1 and v1alpha.
pub async fn routes() -> Routes {
    routes_with(&Ledger::default()).await
}

/// As [`routes`], with RouteGuide's calls counted in `ledger`.
///
/// # Panics
/// Never in practice: the descriptors that reflection is built from were checked when this crate was compiled.
pub async fn routes_with(ledger: &Ledger) -> Routes {
    let health = HealthReporter::new();
    health.set_serving::<RouteGuideServer<RouteGuideService>>().await;
    let health = HealthService::from_health_reporter(health);

    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .include_reflection_service(false)
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // Both versions list both versions: a client that finds one may look for the other.
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
    };
    #[expect(
        clippy::expect_used,
        reason = "the descriptors are compiled in; a test builds them"
    )]
    let (v1, v1alpha) = (
        reflection().build_v1().expect("valid descriptors"),
        reflection().build_v1alpha().expect("valid descriptors"),
    );

    Routes::new(ledger.follow(service()))
        .add_service(tonic_health::pb::health_server::HealthServer::new(health))
        .add_service(v1)
        .add_service(v1alpha)
}

/// The service's implementation. Clones share their state.
#[derive(Clone, Default)]
pub struct RouteGuideService {
    notes: Arc<Mutex<Notes>>,
}

#[tonic::async_trait]
impl RouteGuide for RouteGuideService {
    async fn get_feature(&self, request: Request<Point>) -> Result<Response<Feature>, Status> {
        let point = geography::on_earth(Some(request.into_inner()))?;
        Ok(Response::new(geography::feature_at(&point).unwrap_or(Feature {
            name: String::new(),
            location: Some(point),
        })))
    }

    type ListFeaturesStream = BoxStream<'static, Result<Feature, Status>>;

    async fn list_features(
        &self,
        request: Request<Rectangle>,
    ) -> Result<Response<Self::ListFeaturesStream>, Status> {
        let Rectangle { lo, hi } = request.into_inner();
        let (lo, hi) = (geography::on_earth(lo)?, geography::on_earth(hi)?);
        let features = stream::iter(geography::features_within(lo, hi)).map(Ok);
        Ok(Response::new(features.boxed()))
    }

    async fn record_route(
        &self,
        request: Request<Streaming<Point>>,
    ) -> Result<Response<RouteSummary>, Status> {
        Ok(Response::new(summarize(request.into_inner()).await?))
    }

    type RouteChatStream = BoxStream<'static, Result<RouteNote, Status>>;

    async fn route_chat(
        &self,
        request: Request<Streaming<RouteNote>>,
    ) -> Result<Response<Self::RouteChatStream>, Status> {
        let notes = Arc::clone(&self.notes);
        let answers = request
            .into_inner()
            .and_then(move |note| {
                // A panic elsewhere leaves the notes whole: every change to them is one step.
                let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
                future::ready(notes.leave(note))
            })
            .map_ok(|earlier| stream::iter(earlier).map(Ok))
            .try_flatten();
        Ok(Response::new(answers.boxed()))
    }
}

/// Follows a route to its end.
async fn summarize(mut points: Streaming<Point>) -> Result<RouteSummary, Status> {
    let begun = Instant::now();
    let mut summary = RouteSummary::default();
    let mut distance = 0.0;
    let mut previous: Option<Point> = None;
    while let Some(point) = points.message().await? {
        let point = geography::on_earth(Some(point))?;
        summary.point_count = summary.point_count.saturating_add(1);
        if geography::feature_at(&point).is_some() {
            summary.feature_count = summary.feature_count.saturating_add(1);
        }
        if let Some(previous) = previous {
            distance += geography::distance(&previous, &point);
        }
        previous = Some(point);
    }
    summary.distance = geography::whole_metres(distance);
    summary.elapsed_time = i32::try_from(begun.elapsed().as_secs()).unwrap_or(i32::MAX);
    Ok(summary)
}
