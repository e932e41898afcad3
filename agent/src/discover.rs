//! Learns from its upstreams which services an agent has.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use adit_transport::{Body, BodyError, Code, Reset};
use futures_util::future::join_all;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tonic_reflection::pb::{v1, v1alpha};
use tower_service::Service;
use tracing::debug;

use crate::forward::Forwarder;
use crate::upstream::Upstream;

/// Services that an agent advertises at the most; a hello has to stay small.
pub const MAX_SERVICES: usize = 4096;

/// How long the upstreams have to list their services, connecting included.
pub const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Packages that every gRPC server may have. They say nothing about where a call belongs, and the hub answers for them.
const COMMON_PACKAGES: [&str; 2] = ["grpc.reflection.", "grpc.health."];

/// The services that an agent's upstreams have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Services {
    /// Exactly these full names, in order.
    Known(Vec<String>),
    /// Not all are known, for the reason in the text.
    Unknown(String),
}

/// Asks every upstream of `forwarder` for its services, by server reflection. Those that would be called at another
/// upstream are left out.
///
/// It may be called again: an upstream that is down has unknown services until it is up.
pub async fn discover(forwarder: &Forwarder) -> Services {
    let lists = forwarder.routes().upstreams().map(|upstream| async move {
        let services = match tokio::time::timeout(DISCOVERY_TIMEOUT, list(upstream)).await {
            Ok(services) => services,
            Err(_) => Err(format!(
                "it did not answer within {} s",
                DISCOVERY_TIMEOUT.as_secs()
            )),
        };
        (upstream, services)
    });
    let mut names = BTreeSet::new();
    for (upstream, services) in join_all(lists).await {
        match services {
            Ok(services) => names.extend(services.into_iter().filter(|service| {
                !COMMON_PACKAGES.iter().any(|package| service.starts_with(package))
                    && forwarder
                        .routes()
                        .find(service)
                        .is_some_and(|has_it| has_it.is(upstream))
            })),
            Err(why) => {
                debug!(%upstream, %why, "the upstream's services are unknown");
                return Services::Unknown(format!(
                    "the upstream {upstream} did not list its services: {why}; turn on server reflection there, or name the services with --service"
                ));
            }
        }
    }
    if names.len() > MAX_SERVICES {
        return Services::Unknown(format!(
            "the upstreams list {} services, and {MAX_SERVICES} are advertised at the most; name those that matter with --service",
            names.len()
        ));
    }
    Services::Known(names.into_iter().collect())
}

/// What the upstream lists. Servers have version 1 of the reflection service, or only its forerunner.
async fn list(upstream: &Upstream) -> Result<Vec<String>, String> {
    let status = match list_v1(upstream).await {
        Err(status) if status.code() == tonic::Code::Unimplemented => match list_v1alpha(upstream).await {
            Err(status) if status.code() == tonic::Code::Unimplemented => {
                return Err("it has no server reflection".to_owned());
            }
            answer => answer,
        },
        answer => answer,
    };
    status.map_err(|status| format!("{:?}: {}", status.code(), status.message()))
}

/// Declares `list_v1` and `list_v1alpha`, whose messages are equal and of different types.
macro_rules! list {
    ($name:ident, $version:ident) => {
        async fn $name(upstream: &Upstream) -> Result<Vec<String>, tonic::Status> {
            use $version::server_reflection_client::ServerReflectionClient;
            use $version::server_reflection_request::MessageRequest;
            use $version::server_reflection_response::MessageResponse;

            let request = $version::ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::ListServices(String::new())),
            };
            let mut client = ServerReflectionClient::new(Channel(upstream.clone()));
            let mut answers = client
                .server_reflection_info(stream::iter([request]))
                .await?
                .into_inner();
            let answer = answers
                .message()
                .await?
                .and_then(|answer| answer.message_response);
            match answer {
                Some(MessageResponse::ListServicesResponse(list)) => {
                    // Let it end in order: a cancelled call is an error in some servers' logs.
                    while answers.message().await?.is_some() {}
                    Ok(list
                        .service
                        .into_iter()
                        .map(|service| service.name)
                        .collect())
                }
                Some(MessageResponse::ErrorResponse(error)) => Err(tonic::Status::new(
                    tonic::Code::from(error.error_code),
                    error.error_message,
                )),
                _ => Err(tonic::Status::internal(
                    "it answered another question than the one for its services",
                )),
            }
        }
    };
}

list!(list_v1, v1);
list!(list_v1alpha, v1alpha);

/// An upstream as tonic's clients see it.
#[derive(Clone)]
struct Channel(Upstream);

impl Service<Request<tonic::body::Body>> for Channel {
    type Response = Response<Body>;
    type Error = Reset;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Reset>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Reset>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let upstream = self.0.clone();
        let request = request.map(|body| Body::new(body.map_err(|_| BodyError::Reset(Code::INTERNAL_ERROR))));
        Box::pin(async move { upstream.call(request).await })
    }
}

#[cfg(test)]
mod tests;
