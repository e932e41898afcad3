//! The details of `google.rpc` that come with a status, for people.

use prost::{DecodeError, Message};
use tonic_types::pb;

/// What a detail says, a line for each of its parts; `None` if it is none of `google.rpc`'s.
pub(super) fn lines(name: &str, value: &[u8]) -> Option<Result<Vec<String>, DecodeError>> {
    Some(match name.strip_prefix("google.rpc.")? {
        "ErrorInfo" => read(value, |info| error_info(&info)),
        "RetryInfo" => read(value, |info: pb::RetryInfo| {
            let delay = info.retry_delay.unwrap_or_default();
            vec![format!("try again in {delay}")]
        }),
        "BadRequest" => read(value, |bad: pb::BadRequest| {
            let violations = bad.field_violations.into_iter();
            violations
                .map(|v| said(&v.field, &[&v.reason], &v.description))
                .collect()
        }),
        "PreconditionFailure" => read(value, |failure: pb::PreconditionFailure| {
            let violations = failure.violations.into_iter();
            violations
                .map(|v| said(&v.r#type, &[&v.subject], &v.description))
                .collect()
        }),
        "QuotaFailure" => read(value, |failure: pb::QuotaFailure| {
            let violations = failure.violations.into_iter();
            violations
                .map(|v| said(&v.subject, &[&v.quota_metric, &v.quota_id], &v.description))
                .collect()
        }),
        "ResourceInfo" => read(value, |info: pb::ResourceInfo| {
            let owner = match info.owner.as_str() {
                "" => String::new(),
                owner => format!("owner {owner}"),
            };
            let resource = format!("{} {}", info.resource_type, info.resource_name);
            vec![said(resource.trim(), &[&owner], &info.description)]
        }),
        "RequestInfo" => read(value, |info: pb::RequestInfo| {
            vec![said(&info.request_id, &[], &info.serving_data)]
        }),
        "LocalizedMessage" => read(value, |message: pb::LocalizedMessage| {
            vec![said(&message.message, &[&message.locale], "")]
        }),
        "Help" => read(value, |help: pb::Help| {
            let links = help.links.into_iter();
            links
                .map(|link| said(&link.url, &[], &link.description))
                .collect()
        }),
        "DebugInfo" => read(value, |info: pb::DebugInfo| {
            let mut lines = vec![info.detail];
            lines.extend(info.stack_entries.into_iter().map(|entry| format!("  {entry}")));
            lines
        }),
        _ => return None,
    })
}

fn read<M: Message + Default>(
    value: &[u8],
    tell: impl FnOnce(M) -> Vec<String>,
) -> Result<Vec<String>, DecodeError> {
    M::decode(value).map(tell)
}

fn error_info(info: &pb::ErrorInfo) -> Vec<String> {
    let mut pairs: Vec<_> = info
        .metadata
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.sort_unstable();
    vec![said(&info.reason, &[&info.domain], &pairs.join(", "))]
}

/// `subject (notes): description`, without the parts that are empty.
fn said(subject: &str, notes: &[&str], description: &str) -> String {
    let notes: Vec<&str> = notes.iter().copied().filter(|note| !note.is_empty()).collect();
    let mut text = subject.to_owned();
    if !notes.is_empty() {
        text.push_str(&format!(" ({})", notes.join(", ")));
    }
    if !description.is_empty() {
        let colon = if text.is_empty() { "" } else { ": " };
        text.push_str(&format!("{colon}{description}"));
    }
    text.trim_start().to_owned()
}
