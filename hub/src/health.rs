//! The hub's own health, and that of the services behind it, as `grpc.health.v1` tells it (gRPC "Health Checking
//! Protocol").

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use adit_proto::failure::{Failure, Reason};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{Request, Response};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tower_service::Service as _;

use crate::registry::Registry;

/// The longest question: the name of a service is most of it.
const MAX_QUESTION: usize = 4 << 10;

/// A watcher is told no more often than this, and then what holds by that time: agents may come and go faster.
const COALESCE: Duration = Duration::from_millis(100);

/// Answers for a hub. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HubHealth(HealthServer<Answers>);

#[derive(Clone)]
struct Answers {
    registry: Arc<Registry>,
    drain: CancellationToken,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

type Updates = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

impl HubHealth {
    /// The services are those of `registry`; the hub itself is well until it has to `drain`.
    pub(crate) fn new(registry: Arc<Registry>, drain: CancellationToken) -> Self {
        let answers = Answers { registry, drain };
        Self(HealthServer::new(answers).max_decoding_message_size(MAX_QUESTION))
    }

    /// Answers a call of `grpc.health.v1.Health`; UNIMPLEMENTED where it is another service's.
    pub(crate) async fn answer<B>(&self, request: Request<B>) -> Response<tonic::body::Body>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
    {
        match self.0.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

impl Answers {
    /// `None` where nothing is known of the service.
    fn serving(&self, service: &str) -> Option<ServingStatus> {
        let serving = if service.is_empty() {
            !self.drain.is_cancelled()
        } else {
            self.registry.serving(service)?
        };
        Some(if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        })
    }
}

#[tonic::async_trait]
impl Health for Answers {
    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        match self.serving(service) {
            Some(status) => Ok(tonic::Response::new(told(status))),
            None => Err(Status::not_found(format!(
                "no agent of this hub has advertised the service {service:?}"
            ))),
        }
    }

    type WatchStream = Updates;

    async fn watch(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Updates>, Status> {
        let watcher = Watcher {
            // Subscribed to before the first look: no change is missed.
            changes: self.registry.changes(),
            answers: self.clone(),
            service: request.into_inner().service,
            last: None,
            over: false,
        };
        let updates = stream::unfold(watcher, |mut watcher| async {
            let update = watcher.next().await?;
            Some((update, watcher))
        });
        Ok(tonic::Response::new(Box::pin(updates)))
    }
}

/// One who is told of changes.
struct Watcher {
    answers: Answers,
    service: String,
    changes: watch::Receiver<()>,
    last: Option<ServingStatus>,
    over: bool,
}

impl Watcher {
    /// What has changed; `None` once there is nothing more to be told.
    async fn next(&mut self) -> Option<Result<HealthCheckResponse, Status>> {
        loop {
            if self.over {
                return None;
            }
            let draining = self.answers.drain.is_cancelled();
            let status = self.answers.serving(&self.service);
            let status = status.unwrap_or(ServingStatus::ServiceUnknown);
            if self.last != Some(status) {
                self.last = Some(status);
                return Some(Ok(told(status)));
            }
            if draining {
                // It would be the last call of its connection, and hold the hub up.
                self.over = true;
                let failure = Failure::new(Reason::Draining, "this hub is stopping: watch another one");
                return Some(Err(failure.to_status()));
            }
            self.change().await;
        }
    }

    async fn change(&mut self) {
        tokio::select! {
            () = self.answers.drain.cancelled() => return,
            changed = self.changes.changed() => {
                if changed.is_err() {
                    // The registry is gone, and so is the hub.
                    return self.answers.drain.cancelled().await;
                }
            }
        }
        tokio::select! {
            () = self.answers.drain.cancelled() => {}
            () = tokio::time::sleep(COALESCE) => self.changes.mark_unchanged(),
        }
    }
}

fn told(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

impl fmt::Debug for HubHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubHealth").finish_non_exhaustive()
    }
}
