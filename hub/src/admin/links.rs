//! Links as an operator sees them, in responses of a size that gRPC libraries take.

use std::sync::Arc;

use adit_certs::AgentId;
use adit_proto::hub::v1::{Link, link};
use prost::Message as _;

use crate::member::{Member, Place, State};
use crate::registry::Registry;

use super::changes::Now;

/// A response is closed when it is larger than this. One link more, whose agent's two events of a mebibyte each have
/// named its services, stays below the 4 MiB that gRPC libraries take as a rule.
const PAGE: usize = 1 << 20;

/// Links that are made into responses as these are sent.
#[derive(Debug, Default)]
pub(super) struct Pages {
    left: std::vec::IntoIter<(Arc<Member>, Now)>,
    names: bool,
}

impl Pages {
    /// With the names of services or without.
    pub(super) fn new(links: Vec<(Arc<Member>, Now)>, names: bool) -> Self {
        Self {
            left: links.into_iter(),
            names,
        }
    }

    /// Whether there is no further page.
    pub(super) fn is_empty(&self) -> bool {
        self.left.len() == 0
    }
}

impl Iterator for Pages {
    type Item = Vec<Link>;

    fn next(&mut self) -> Option<Vec<Link>> {
        let names = self.names;
        page(
            self.left
                .by_ref()
                .map(|(member, now)| shown(&member, &now, names)),
        )
    }
}

/// As many links as one response takes.
fn page(links: impl Iterator<Item = Link>) -> Option<Vec<Link>> {
    let (mut page, mut size) = (Vec::new(), 0);
    for link in links {
        size += link.encoded_len();
        page.push(link);
        if size > PAGE {
            break;
        }
    }
    Some(page).filter(|page| !page.is_empty())
}

/// The links of one agent or of all, by agent and then by their own numbers.
pub(super) fn look(registry: &Registry, agent: Option<&AgentId>) -> Vec<(Arc<Member>, Now)> {
    let mut links = registry.links(agent);
    links.sort_by(|a, b| (&a.peer.id, a.key).cmp(&(&b.peer.id, b.key)));
    let links = links.into_iter().map(|member| {
        let now = Now {
            state: member.state(),
            address: member.link.remote_address(),
            offer: member.offer(),
            round_trip: member.round_trip(),
            calls_in_flight: member.in_flight(),
            calls: member.calls(),
        };
        (member, now)
    });
    links.collect()
}

fn shown(member: &Member, now: &Now, names: bool) -> Link {
    let (peer, offer) = (&member.peer, &now.offer);
    // A bare agent has said nothing of itself.
    let (instance, slot, generation, version) = peer.place.as_ref().map_or(("", 0, 0, ""), |place| {
        let Place {
            instance,
            slot,
            generation,
        } = place;
        (instance.as_str(), *slot, *generation, peer.version.as_str())
    });
    let services = offer.services.iter().flatten();
    let serving = |service: &&String| !offer.down && !offer.not_serving.contains(*service);
    let listed = |services: &mut dyn Iterator<Item = &String>| match names {
        true => services.cloned().collect(),
        false => Vec::new(),
    };
    Link {
        id: member.key,
        agent: peer.id.to_string(),
        instance: instance.to_owned(),
        slot,
        generation,
        version: version.to_owned(),
        labels: peer.labels.to_map(),
        services_known: offer.services.is_some(),
        service_count: count(services.clone().count()),
        serving_count: count(services.clone().filter(serving).count()),
        services: listed(&mut services.clone()),
        not_serving: listed(&mut offer.not_serving.iter()),
        down: offer.down,
        exclusive: peer.exclusive,
        carrier: member.link.carrier().to_string(),
        carrier_reason: peer.carrier_reason.clone(),
        carrier_moves: peer.carrier_moves,
        coding: member.link.coding().unwrap_or_default().to_owned(),
        remote_address: now.address.to_string(),
        connected_at: Some(member.connected_at.into()),
        round_trip: now.round_trip.try_into().ok(),
        calls_in_flight: count(now.calls_in_flight),
        calls: now.calls,
        state: match now.state {
            State::Ready => link::State::Ready,
            State::Suspect => link::State::Suspect,
            State::Draining => link::State::Draining,
        }
        .into(),
    }
}

/// A count of what has a limit far below this.
pub(super) fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use adit_proto::hub::v1::{Link, WatchLinksResponse};
    use prost::Message as _;

    use super::page;

    /// What gRPC libraries take as a rule.
    const LIBRARIES: usize = 4 << 20;

    #[test]
    fn links_come_in_responses_that_libraries_take() {
        let bare = |id| Link {
            id,
            ..Link::default()
        };
        // As many names as two events of a mebibyte hold.
        let large = |id| Link {
            services: vec!["s".repeat(512); 2000],
            not_serving: vec!["s".repeat(512); 2000],
            ..bare(id)
        };
        for (links, pages) in [
            (Vec::new(), 0..=0),
            ((0..100_000).map(bare).collect(), 1..=1),
            ((0..5).map(large).collect::<Vec<_>>(), 5..=5),
            (
                (0..100)
                    .map(|id| if id % 2 == 0 { large(id) } else { bare(id) })
                    .collect(),
                50..=51,
            ),
        ] {
            let mut left = links.clone().into_iter();
            let (mut told, mut count) = (Vec::new(), 0);
            while let Some(changed) = page(left.by_ref()) {
                let response = WatchLinksResponse {
                    changed,
                    ..WatchLinksResponse::default()
                };
                assert!(response.encoded_len() < LIBRARIES);
                told.extend(response.changed);
                count += 1;
            }
            assert_eq!(told, links);
            assert!(pages.contains(&count), "{count} pages");
        }
    }
}
