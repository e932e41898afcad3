//! Watches whether an upstream takes calls: by a connection that stays open, and by its health service
//! (gRPC health checking protocol, `grpc.health.v1.Health/Watch`).

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tracing::debug;

use crate::channel::Channel;
use crate::dial::Backoff;
use crate::discover::ASK_RARELY;
use crate::standing::{Condition, Place, Standing};
use crate::upstream::{Monitor, Remote};

/// Services of one upstream whose health is watched, the first by name. For others the upstream's own counts.
pub(crate) const MAX_WATCHED: usize = 32;

/// How long a health service may be silent before that counts as serving.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

/// The first wait before an upstream is connected to again, or asked for its health, is random below this,
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// each further one below twice as much, and none is longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A connection or a stream that held this long is made anew at once, and the waits start over.
const HELD: Duration = Duration::from_secs(1);

/// Bytes of one answer of a health service, which has one number to say.
const MAX_ANSWER: usize = 4 << 10;

/// Keeps the standing of the upstream at `place` right, for ever.
pub(crate) async fn watch(remote: &Arc<Remote>, place: Place<'_>) {
    let [mut after_refusal, mut after_loss] = [(); 2].map(|()| Backoff::between(FIRST_WAIT, LONGEST_WAIT));
    loop {
        let wait = match remote.monitor().await {
            Ok(monitor) => {
                place.connected();
                after_refusal.start_over();
                let since = Instant::now();
                tokio::select! {
                    () = follow(&monitor, place) => {}
                    () = monitor.closing() => {}
                }
                // Not yet a reason to call it down: servers end connections that are old or idle.
                debug!(upstream = %place.upstream(), held = ?since.elapsed(), "the connection that watches the upstream ended");
                if since.elapsed() >= HELD {
                    after_loss.start_over();
                    continue;
                }
                after_loss.next()
            }
            Err(error) => {
                place.unreachable(format!("no connection to it can be made: {error}"));
                after_refusal.next()
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Reports what the health service says on one connection, until that is closing.
async fn follow(monitor: &Monitor, place: Place<'_>) {
    let mut backoff = Backoff::between(FIRST_WAIT, LONGEST_WAIT);
    while monitor.is_open() {
        // The server as a whole has the empty name.
        let asked = ask(monitor, "");
        tokio::pin!(asked);
        let answer = tokio::select! {
            answer = &mut asked => answer,
            () = tokio::time::sleep(FIRST_ANSWER) => {
                place.says(Condition::Serving);
                asked.await
            }
        };
        match answer {
            Ok((status, answers)) => {
                let since = Instant::now();
                place.says(condition(status));
                // On the same connection, and so after it: where there is room for one stream, it is this.
                tokio::select! {
                    () = hear(answers, |status| place.says(condition(status))) => {}
                    () = watch_services(monitor, place) => {}
                }
                if since.elapsed() >= HELD {
                    backoff.start_over();
                }
            }
            // The connection has failed, and not the health service.
            Err(_) if !monitor.is_open() => break,
            Err(status) if status.code() == Code::Unimplemented => {
                place.says_only_of(&[]);
                place.says(Condition::Serving);
                return monitor.closing().await;
            }
            // A proxy that has nobody behind it says so.
            Err(status) if status.code() == Code::Unavailable => {
                place.says(Condition::Down(format!(
                    "its health service is unavailable: {}",
                    status.message()
                )));
            }
            Err(status) => {
                debug!(upstream = %place.upstream(), %status, "the upstream has no word on its health as a whole");
                place.says(Condition::Serving);
                let _ = tokio::time::timeout(ASK_RARELY, watch_services(monitor, place)).await;
            }
        }
        tokio::time::sleep(backoff.next()).await;
    }
    monitor.closing().await;
}

/// Reports what the upstream says of its services, as these change. It doesn't end.
async fn watch_services(monitor: &Monitor, place: Place<'_>) {
    let watched = |standing: &Standing| match &standing.services {
        Some(Ok(services)) => services.iter().take(MAX_WATCHED).cloned().collect(),
        Some(Err(_)) | None => Vec::new(),
    };
    loop {
        let services = place.wait_for(|_| true, watched).await;
        place.says_only_of(&services);
        let changed = place.wait_for(|standing| watched(standing) != services, |_| ());
        let watches = async {
            let watches = services
                .iter()
                .map(|service| watch_service(monitor, place, service));
            join_all(watches).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = watches => {}
            () = changed => {}
        }
    }
}

/// Reports what the upstream says of one service. It doesn't end.
async fn watch_service(monitor: &Monitor, place: Place<'_>, service: &str) {
    // A server that does not know the name may register it while it starts. Later it is asked as rarely as for the names.
    let mut backoff = Backoff::between(FIRST_WAIT, ASK_RARELY);
    loop {
        match ask(monitor, service).await {
            Ok((status, answers)) => {
                let since = Instant::now();
                place.says_of(service, serves(status));
                hear(answers, |status| place.says_of(service, serves(status))).await;
                if since.elapsed() >= HELD {
                    backoff.start_over();
                }
            }
            // The connection has failed, and not the service.
            Err(_) if !monitor.is_open() => return monitor.closing().await,
            Err(status) => {
                debug!(upstream = %place.upstream(), service, %status, "the upstream has no word on a service's health");
                place.says_of(service, true);
            }
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// Begins to watch `service`: its first answer, and the stream of those that follow.
async fn ask(
    monitor: &Monitor,
    service: &str,
) -> Result<(ServingStatus, Streaming<HealthCheckResponse>), Status> {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let mut client =
        HealthClient::new(Channel::Monitor(monitor.clone())).max_decoding_message_size(MAX_ANSWER);
    let mut answers = client.watch(request).await?.into_inner();
    match answers.message().await? {
        Some(answer) => Ok((answer.status(), answers)),
        None => Err(Status::unknown("the stream ended before it said anything")),
    }
}

/// Reports what follows the first answer, until the stream ends.
async fn hear(mut answers: Streaming<HealthCheckResponse>, mut report: impl FnMut(ServingStatus)) {
    loop {
        match answers.message().await {
            Ok(Some(answer)) => report(answer.status()),
            Ok(None) => return debug!("a stream of health ended"),
            Err(status) => return debug!(%status, "a stream of health failed"),
        }
    }
}

/// Whether a status says that calls are taken. As for gRPC's own clients (gRPC proposal A17), only SERVING does; that
/// the name is unknown to the health service is no statement.
fn serves(status: ServingStatus) -> bool {
    matches!(status, ServingStatus::Serving | ServingStatus::ServiceUnknown)
}

fn condition(status: ServingStatus) -> Condition {
    if serves(status) {
        Condition::Serving
    } else {
        Condition::Down(format!("its health service says {}", status.as_str_name()))
    }
}
