//! A link for people, and for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use adit_client::status::printable;
use adit_proto::hub::v1::Link;
use serde::Serialize;

use crate::admin::{Cell, Table, age, rfc3339, short, state, state_cell};
use crate::colour::Tone;

/// As much of an instance's name as people need to tell a few apart.
const SHORT_INSTANCE: usize = 8;

/// A link as an object of `-o json`. The names are a contract: they stay, and others may come.
#[derive(Debug, Serialize)]
pub(super) struct Record<'a> {
    link: u64,
    agent: &'a str,
    instance: Option<&'a str>,
    slot: u32,
    generation: u64,
    state: &'static str,
    carrier: &'a str,
    carrier_reason: Option<&'a str>,
    carrier_moves: u32,
    coding: Option<&'a str>,
    remote_address: &'a str,
    connected_at: Option<String>,
    round_trip_ms: Option<f64>,
    calls_in_flight: u32,
    calls: u64,
    version: Option<&'a str>,
    labels: BTreeMap<&'a str, &'a str>,
    exclusive: bool,
    services: Option<&'a [String]>,
    not_serving: &'a [String],
    down: bool,
}

impl<'a> Record<'a> {
    pub(super) fn of(link: &'a Link) -> Self {
        Self {
            link: link.id,
            agent: &link.agent,
            instance: some(&link.instance),
            slot: link.slot,
            generation: link.generation,
            state: state(link),
            carrier: &link.carrier,
            carrier_reason: some(&link.carrier_reason),
            carrier_moves: link.carrier_moves,
            coding: some(&link.coding),
            remote_address: &link.remote_address,
            connected_at: rfc3339(link.connected_at),
            round_trip_ms: round_trip_ms(link),
            calls_in_flight: link.calls_in_flight,
            calls: link.calls,
            version: some(&link.version),
            labels: labels(link).collect(),
            exclusive: link.exclusive,
            services: link.services_known.then_some(&link.services),
            not_serving: &link.not_serving,
            down: link.down,
        }
    }
}

/// Links as people read them.
pub(super) fn table<'a>(links: impl IntoIterator<Item = &'a Link>) -> Table {
    let mut table = Table::new(&[
        "AGENT", "LINK", "INSTANCE", "SLOT", "STATE", "CARRIER", "RTT", "CALLS", "TOTAL", "AGE", "VERSION",
        "SERVICES", "LABELS",
    ]);
    for link in links {
        table.row([
            link.agent.clone().into(),
            link.id.to_string().into(),
            short_instance(link).into(),
            link.slot.to_string().into(),
            state_cell(link),
            link.carrier.clone().into(),
            round_trip_ms(link)
                .map(|ms| format!("{ms:.1}ms"))
                .unwrap_or_default()
                .into(),
            link.calls_in_flight.to_string().into(),
            link.calls.to_string().into(),
            age(link.connected_at).map(short).unwrap_or_default().into(),
            link.version.clone().into(),
            services_cell(link),
            labels(link)
                .map(|(key, value)| format!("{key}={value}"))
                .collect::<Vec<_>>()
                .join(",")
                .into(),
        ]);
    }
    table
}

/// Below the table, why links run over what they do, where their agents had a reason to choose.
pub(super) fn reasons<'a>(links: impl IntoIterator<Item = &'a Link>) -> String {
    let mut reasons = String::new();
    for link in links.into_iter().filter(|link| !link.carrier_reason.is_empty()) {
        if reasons.is_empty() {
            reasons.push('\n');
        }
        let moves = match link.carrier_moves {
            0 => String::new(),
            1 => ", after 1 move".to_owned(),
            moves => format!(", after {moves} moves"),
        };
        let (agent, id, carrier) = (&link.agent, link.id, &link.carrier);
        let reason = printable(&link.carrier_reason);
        reasons.push_str(&format!(
            "{agent}, link {id}, runs over {carrier}{moves}: {reason}\n"
        ));
    }
    reasons
}

/// How many services it has: `3`, or `2/3` where one of them takes no calls, or `?` where it didn't say.
pub(super) fn services(link: &Link) -> String {
    match (link.services_known, link.serving_count, link.service_count) {
        _ if link.down => "down".to_owned(),
        (false, ..) => "?".to_owned(),
        (true, serving, count) if serving == count => count.to_string(),
        (true, serving, count) => format!("{serving}/{count}"),
    }
}

fn services_cell(link: &Link) -> Cell {
    let text = services(link);
    match link {
        _ if link.down => Cell::toned(Tone::Bad, text),
        _ if link.services_known && link.serving_count < link.service_count => Cell::toned(Tone::Odd, text),
        _ => text.into(),
    }
}

pub(super) fn short_instance(link: &Link) -> String {
    link.instance.chars().take(SHORT_INSTANCE).collect()
}

fn labels(link: &Link) -> impl Iterator<Item = (&str, &str)> {
    let ordered: BTreeMap<_, _> = link
        .labels
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    ordered.into_iter()
}

fn round_trip_ms(link: &Link) -> Option<f64> {
    let time = Duration::try_from(link.round_trip?).ok()?;
    // Whole microseconds: the digits beyond say nothing.
    Some(f64::from(u32::try_from(time.as_micros()).unwrap_or(u32::MAX)) / 1000.0)
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use adit_proto::hub::v1::Link;

    use super::reasons;

    #[test]
    fn only_what_has_a_reason_is_explained() {
        let link = |id, carrier: &str, reason: &str, moves| Link {
            id,
            agent: "site-7".to_owned(),
            carrier: carrier.to_owned(),
            carrier_reason: reason.to_owned(),
            carrier_moves: moves,
            ..Link::default()
        };
        assert_eq!(reasons(&[link(1, "quic", "", 0)]), "");
        let links = [
            link(1, "quic", "", 0),
            link(2, "tls", "quic: no answer within 0.5 s", 0),
            link(3, "quic", "quic works again\u{1b}[2J", 3),
        ];
        let lines: Vec<_> = reasons(&links).lines().map(str::to_owned).collect();
        assert_eq!(
            lines[..2],
            ["", "site-7, link 2, runs over tls: quic: no answer within 0.5 s"]
        );
        assert!(lines[2].starts_with("site-7, link 3, runs over quic, after 3 moves: quic works again"));
        assert!(!lines[2].contains('\u{1b}'), "{lines:?}");
    }
}
