//! Learns from its upstreams which services an agent has, by server reflection (`grpc.reflection.v1` and `v1alpha`).

use std::time::Duration;

use futures_util::stream;
use tonic_reflection::pb::{v1, v1alpha};
use tracing::debug;

use crate::channel::Channel;
use crate::standing::{Board, Place, Standing};
use crate::upstream::Upstream;

/// Services that an agent advertises at the most; a hello has to stay small.
pub const MAX_SERVICES: usize = 4096;

/// How long an upstream has to list its services.
pub(crate) const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(5);

/// How soon an upstream is asked for its services again while they are unknown, because it is still starting;
const ASK_SOON: Duration = Duration::from_secs(1);

/// then twice as late each time, up to this, which is also how often it is asked when it has answered: it may be
/// replaced by one with other services, behind a proxy that stays.
pub(crate) const ASK_RARELY: Duration = Duration::from_secs(60);

/// Between two questions, however often there is reason to ask.
const ASK_PAUSE: Duration = Duration::from_millis(200);

/// The services that an agent's upstreams have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Services {
    /// Exactly these full names, in order.
    Known(Vec<String>),
    /// Not all are known, for the reason in the text.
    Unknown(String),
}

/// Why an upstream's services are unknown.
#[derive(Debug, thiserror::Error)]
enum Unlisted {
    /// It is sure to have no list, whatever it had before.
    #[error("it has no server reflection")]
    NoReflection,
    /// It may have one at another time.
    #[error("{:?}: {}", .0.code(), .0.message())]
    Failed(#[from] tonic::Status),
    #[error("it did not answer within {} s", DISCOVERY_TIMEOUT.as_secs())]
    TimedOut,
}

/// What all upstreams have together.
pub(crate) fn services(board: &Board<'_>, standings: &[Standing]) -> Services {
    let mut names = Vec::new();
    for (upstream, standing) in board.with(standings) {
        let why = match &standing.services {
            Some(Ok(services)) => {
                names.extend(services.iter().cloned());
                continue;
            }
            Some(Err(why)) => why,
            None => standing.down().unwrap_or("it did not answer yet"),
        };
        return Services::Unknown(format!(
            "the upstream {upstream} did not list its services: {why}; turn on server reflection there, or name the services with --service"
        ));
    }
    if names.len() > MAX_SERVICES {
        return Services::Unknown(format!(
            "the upstreams list {} services, and {MAX_SERVICES} are advertised at the most; name those that matter with --service",
            names.len()
        ));
    }
    names.sort_unstable();
    Services::Known(names)
}

/// Asks an upstream for its services, by server reflection, whenever there is reason to, and now and then.
pub(crate) async fn keep_asking(place: Place<'_>) {
    let mut wait = ASK_SOON;
    let mut known = false;
    loop {
        // One that is down is asked when it is back.
        let reasons = place
            .wait_for(|standing| standing.connected, |standing| standing.asks)
            .await;
        let asked = tokio::time::timeout(DISCOVERY_TIMEOUT, list(place.upstream())).await;
        match asked.unwrap_or(Err(Unlisted::TimedOut)) {
            Ok(services) => {
                place.lists(Ok(services));
                known = true;
                wait = ASK_RARELY;
            }
            Err(error) => {
                debug!(upstream = %place.upstream(), %error, "the upstream's services are unknown");
                // An upstream that fails for a moment is not without services.
                if !known || matches!(error, Unlisted::NoReflection) {
                    place.lists(Err(error.to_string()));
                    known = false;
                }
            }
        }
        tokio::time::sleep(ASK_PAUSE).await;
        let anew = place.wait_for(|standing| standing.asks != reasons, |_| ());
        match tokio::time::timeout(wait, anew).await {
            Ok(()) => wait = ASK_SOON,
            Err(_) => wait = (wait * 2).min(ASK_RARELY),
        }
    }
}

/// What the upstream lists. Servers have version 1 of the reflection service, or only its forerunner.
async fn list(upstream: &Upstream) -> Result<Vec<String>, Unlisted> {
    let answer = match list_v1(upstream).await {
        Err(status) if status.code() == tonic::Code::Unimplemented => list_v1alpha(upstream).await,
        answer => answer,
    };
    answer.map_err(|status| match status.code() {
        tonic::Code::Unimplemented => Unlisted::NoReflection,
        _ => Unlisted::Failed(status),
    })
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
            let mut client = ServerReflectionClient::new(Channel::Pool(upstream.clone()));
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

#[cfg(test)]
mod tests;
