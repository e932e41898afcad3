//! What the client is told of a call that failed on the way: the one place that turns the hub's errors into gRPC's.

use adit_proto::failure::{Delivered, Failure, Reason};
use adit_transport::{BodyError, CallError, Code};

use crate::member::{Closing, Member};
use crate::principal::Principal;
use crate::router::{Miss, TargetError};

/// How a call ends that has no response, or whose response broke off.
#[derive(Debug)]
pub(crate) enum Ending {
    /// By a failure of the hub's own making.
    Failed(Failure),
    /// As the upstream ended it: by a reset, which the client is given as it came.
    Reset(h2::Reason),
}

pub(crate) fn bad_target(error: &TargetError) -> Failure {
    // No reason is nearer: what the request says of its route names no agent.
    Failure::new(Reason::NoRoute, error.to_string()).with_code(tonic::Code::InvalidArgument)
}

pub(crate) fn missed(miss: &Miss) -> Failure {
    let reason = match miss {
        Miss::Offline { .. } | Miss::Unmatched(_) => Reason::AgentOffline,
        Miss::Draining(_) => Reason::Draining,
        Miss::NoRoute(_) => Reason::NoRoute,
        Miss::Ambiguous { .. } => Reason::AmbiguousRoute,
    };
    Failure::new(reason, miss.message())
}

/// A service that nobody serves while agents may still be on their way back from the hub's restart.
pub(crate) fn not_yet(miss: &Miss) -> Failure {
    let message = format!(
        "{}; this hub has just started, and agents may still be connecting",
        miss.message()
    );
    Failure::new(Reason::AgentOffline, message)
}

pub(crate) fn hub_is_full(held: usize) -> Failure {
    Failure::new(
        Reason::AgentBusy,
        format!("{held} calls wait already for agents that are not connected: try again later"),
    )
}

/// The client has as many calls as it may have.
pub(crate) fn too_many_calls(client: &Principal, limit: usize) -> Failure {
    Failure::new(
        Reason::AgentBusy,
        format!("{client} has {limit} calls in flight, which is the limit: wait for some to end"),
    )
}

pub(crate) fn reserved(what: &str) -> Failure {
    Failure::new(
        Reason::Denied,
        format!("{what} is between a hub and its agents: no client may call it"),
    )
}

pub(crate) fn metadata_too_large(size: usize, limit: usize) -> Failure {
    Failure::new(
        Reason::AgentBusy,
        format!("the request's metadata has {size} bytes, and {limit} are the limit"),
    )
}

pub(crate) fn deadline_passed() -> Failure {
    Failure::new(
        Reason::Deadline,
        "the call's deadline passed before the upstream ended it",
    )
}

/// The deadline passed while the call still waited for its agent.
pub(crate) fn deadline_before_agent(miss: &Miss) -> Failure {
    Failure::new(
        Reason::Deadline,
        format!(
            "the call's deadline passed while it waited for an agent: {}",
            miss.message()
        ),
    )
    .with_delivered(Delivered::No)
}

/// The hub's time was over before an agent came that could have had the call.
pub(crate) fn hub_stopped() -> Failure {
    Failure::new(Reason::Draining, "the hub stopped before the call had an agent")
}

/// No response's head came.
pub(crate) fn call_failed(member: &Member, error: &CallError) -> Ending {
    let message = || format!("agent {}: {error}", member.peer.id);
    let delivered = match error.delivered() {
        adit_transport::Delivered::No => Delivered::No,
        adit_transport::Delivered::Maybe => Delivered::Maybe,
    };
    let failure = match error {
        CallError::Busy | CallError::RequestTooLarge { .. } => Failure::new(Reason::AgentBusy, message()),
        CallError::Draining => Failure::new(Reason::Draining, message()),
        CallError::LinkLost { .. } => link_lost(member, error),
        CallError::Malformed(_) | CallError::ResponseTooLarge { .. } | CallError::Unsendable(_) => {
            Failure::new(Reason::UpstreamProtocol, message())
        }
        CallError::Refused => return Ending::Reset(h2::Reason::REFUSED_STREAM),
        CallError::Reset(code) => return Ending::Reset(h2_reason(*code)),
    };
    Ending::Failed(failure.with_delivered(delivered))
}

/// The response's body broke off.
pub(crate) fn body_failed(member: &Member, error: &BodyError) -> Ending {
    Ending::Failed(match error {
        BodyError::Reset(code) => return Ending::Reset(h2_reason(*code)),
        BodyError::Malformed(_) => {
            let message = format!("agent {}: {error}", member.peer.id);
            Failure::new(Reason::UpstreamProtocol, message)
        }
        BodyError::SlowReader => Failure::new(
            Reason::SlowReader,
            "the client did not read the response for long, and the memory that it held was needed",
        ),
        BodyError::LinkLost(_) => link_lost(member, error),
    })
}

/// The link ended under the call: this end's own reason to close it says more than that it was closed.
fn link_lost(member: &Member, error: &dyn std::error::Error) -> Failure {
    let id = &member.peer.id;
    match member.closing() {
        Some(Closing::HubStopped) => {
            let message = "the hub stopped, and the call had not ended within the drain timeout";
            Failure::new(Reason::Draining, message).with_delivered(Delivered::Maybe)
        }
        Some(closing) => Failure::new(
            Reason::LinkLost,
            format!("agent {id}: the hub gave the link up: {closing}"),
        ),
        None => Failure::new(Reason::LinkLost, format!("agent {id}: {error}")),
    }
}

/// The response's body ended, and no status had come.
pub(crate) fn ended_without_status(member: &Member) -> Failure {
    Failure::new(
        Reason::UpstreamProtocol,
        format!(
            "agent {}: the upstream's response ended without a grpc-status",
            member.peer.id
        ),
    )
}

/// The response is not one of gRPC: its HTTP status says what happened (gRPC's `http-grpc-status-mapping`, in which 200
/// is unknown, too).
pub(crate) fn not_grpc(member: &Member, status: http::StatusCode, content_type: &str) -> Failure {
    let code = match status.as_u16() {
        400 => tonic::Code::Internal,
        401 => tonic::Code::Unauthenticated,
        403 => tonic::Code::PermissionDenied,
        404 => tonic::Code::Unimplemented,
        429 | 502 | 503 | 504 => tonic::Code::Unavailable,
        _ => tonic::Code::Unknown,
    };
    let message = format!(
        "agent {}: the upstream answered with HTTP status {} and content type {content_type:?}, not with gRPC",
        member.peer.id,
        status.as_u16()
    );
    Failure::new(Reason::UpstreamProtocol, message).with_code(code)
}

/// The HTTP/2 code that means to a gRPC client what the HTTP/3 code means (gRPC proposal G2).
fn h2_reason(code: Code) -> h2::Reason {
    match code {
        Code::NO_ERROR => h2::Reason::NO_ERROR,
        Code::INTERNAL_ERROR => h2::Reason::INTERNAL_ERROR,
        Code::FRAME_ERROR => h2::Reason::FRAME_SIZE_ERROR,
        Code::EXCESSIVE_LOAD => h2::Reason::ENHANCE_YOUR_CALM,
        Code::SETTINGS_ERROR => h2::Reason::SETTINGS_TIMEOUT,
        Code::REQUEST_REJECTED => h2::Reason::REFUSED_STREAM,
        Code::REQUEST_CANCELLED => h2::Reason::CANCEL,
        Code::CONNECT_ERROR => h2::Reason::CONNECT_ERROR,
        _ => h2::Reason::PROTOCOL_ERROR,
    }
}
