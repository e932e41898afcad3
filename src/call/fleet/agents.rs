//! Which agents a call to all of them is for.

use std::collections::{BTreeMap, BTreeSet};

use adit_certs::AgentId;
use adit_client::status::printable;
use adit_client::suggest;
use adit_proto::hub::v1::Link;
use adit_proto::labels::{Labels, Selector};
use anyhow::{Context as _, bail};

use crate::admin::listed;

/// What is known of an agent by its links.
#[derive(Default)]
struct Seen {
    serves: bool,
    /// It did not say which services it has.
    silent: bool,
}

/// The agents that have the service; with labels, those of them that have these, and what has the labels and did not
/// say what it serves. Without labels such agents are meant when there are no others, as the hub has it.
///
/// # Errors
///
/// The labels are none, or there is no such agent.
pub(super) fn meant(links: &[Link], service: &str, labels: Option<&str>) -> anyhow::Result<Vec<AgentId>> {
    let selector: Option<Selector> = labels
        .map(|labels| labels.parse().with_context(|| format!("--select {labels}")))
        .transpose()?;
    let mut agents: BTreeMap<&str, Seen> = BTreeMap::new();
    for link in links {
        let of_link = Labels::from_map(link.labels.iter()).unwrap_or_default();
        if selector
            .as_ref()
            .is_none_or(|selector| selector.matches(&of_link))
        {
            let seen = agents.entry(&link.agent).or_default();
            seen.serves |= link.services.iter().any(|name| name == service);
            seen.silent |= !link.services_known;
        }
    }
    let any_serves = agents.values().any(|seen| seen.serves);
    let meant = |seen: &Seen| seen.serves || (seen.silent && (selector.is_some() || !any_serves));
    let ids: Vec<&str> = (agents.iter())
        .filter(|(_, seen)| meant(seen))
        .map(|(id, _)| *id)
        .collect();
    if ids.is_empty() {
        bail!("{}", nobody(links, &agents, service, labels));
    }
    ids.into_iter()
        .map(|id| {
            id.parse()
                .with_context(|| format!("the hub names an agent {:?}", printable(id)))
        })
        .collect()
}

/// Why nobody is meant, and what there is.
fn nobody(links: &[Link], agents: &BTreeMap<&str, Seen>, service: &str, labels: Option<&str>) -> String {
    let connected: BTreeSet<&str> = links.iter().map(|link| link.agent.as_str()).collect();
    if connected.is_empty() {
        return "no agent is connected to the hub".to_owned();
    }
    let with = labels.map_or_else(String::new, |labels| format!(" with the labels {labels}"));
    if agents.is_empty() {
        return format!("no agent{with} is connected; connected: {}", listed(&connected));
    }
    let services: BTreeSet<&str> = links
        .iter()
        .flat_map(|link| &link.services)
        .map(String::as_str)
        .collect();
    let hint = suggest::nearest(service, services.iter().copied());
    let hint = hint.map_or_else(String::new, |name| format!("; did you mean {}?", printable(name)));
    format!("no connected agent{with} serves {service}{hint}; `adit list` tells what there is")
}

#[cfg(test)]
mod tests {
    use adit_proto::hub::v1::Link;

    use super::meant;

    fn link(agent: &str, labels: &[(&str, &str)], services: &[&str]) -> Link {
        Link {
            agent: agent.to_owned(),
            labels: labels
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            services: services.iter().map(|&name| name.to_owned()).collect(),
            services_known: !services.is_empty(),
            ..Link::default()
        }
    }

    fn ids(links: &[Link], service: &str, labels: Option<&str>) -> String {
        match meant(links, service, labels) {
            Ok(ids) => ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn who_has_the_service_and_the_labels_is_meant() {
        let eu = ("region", "eu");
        let links = [
            link("a", &[eu, ("tier", "edge")], &["p.One", "p.Two"]),
            link("a", &[], &["p.One"]),
            link("b", &[], &["p.One"]),
            link("c", &[eu], &["p.Two"]),
            link("d", &[eu], &[]),
        ];
        assert_eq!(ids(&links, "p.One", None), "a b");
        assert_eq!(ids(&links, "p.One", Some("region=eu")), "a d");
        assert_eq!(ids(&links, "p.One", Some("region=eu,tier=edge")), "a");
        assert_eq!(ids(&links[4..], "p.One", None), "d");
        let said = ids(&links[..4], "p.Onee", None);
        assert!(said.contains("serves p.Onee; did you mean p.One?"), "{said}");
        let said = ids(&links, "p.One", Some("region=us"));
        assert_eq!(
            said,
            "no agent with the labels region=us is connected; connected: a, b, c, d"
        );
        assert_eq!(ids(&[], "p.One", None), "no agent is connected to the hub");
        assert!(ids(&links, "p.One", Some("Region!=us")).starts_with("--select Region!=us"));
    }
}
