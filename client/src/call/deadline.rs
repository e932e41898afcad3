//! The time that a call may take.

use std::future::Future;

use tokio::time::Instant;
use tonic::Status;

use super::CallError;
use crate::status::Failure;

/// What comes before the deadline.
pub(super) async fn in_time<T, E: Into<CallError>>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, CallError> {
    let worked = match deadline {
        None => work.await,
        Some(deadline) => match tokio::time::timeout_at(deadline, work).await {
            Ok(worked) => worked,
            Err(_elapsed) => return Err(expired().into()),
        },
    };
    worked.map_err(Into::into)
}

pub(super) async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

pub(super) fn expired() -> Failure {
    Failure::without_schema(Status::deadline_exceeded(
        "the time given to the call has passed before its end",
    ))
}
