//! What an agent tells its hubs of its upstreams: their services, and which of them take calls.

use std::collections::BTreeSet;
use std::time::Duration;

use adit_proto::tunnel::v1;
use futures_util::future::join_all;
use tokio::sync::watch;
use tracing::info;

use crate::discover::{self, DISCOVERY_TIMEOUT, MAX_SERVICES, Services};
use crate::forward::Forwarder;
use crate::health;
use crate::standing::{Board, Standing};
use crate::upstream::Upstream;

/// Between two offers: a health that flaps is told this often at the most.
const PAUSE: Duration = Duration::from_millis(100);

/// What an agent tells its hubs of its upstreams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// What they serve. It does not shrink because one of them is down.
    pub(crate) services: Services,
    /// Which of it can be called now.
    pub(crate) health: Health,
}

/// Which services take calls now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// No upstream takes calls.
    pub(crate) down: bool,
    /// The full names of services that take none while others do: empty while all are down.
    pub(crate) not_serving: BTreeSet<String>,
}

impl Offer {
    /// What there is to say before an upstream was asked.
    pub(crate) fn unasked() -> Self {
        Self {
            services: Services::Unknown("the upstreams have not been asked yet".to_owned()),
            health: Health::default(),
        }
    }
}

impl From<&Services> for v1::Services {
    fn from(services: &Services) -> Self {
        match services {
            Services::Known(names) => Self {
                known: true,
                names: names.clone(),
            },
            Services::Unknown(_) => Self::default(),
        }
    }
}

impl From<&Health> for v1::Health {
    fn from(health: &Health) -> Self {
        Self {
            down: health.down,
            not_serving: health.not_serving.iter().cloned().collect(),
        }
    }
}

/// Keeps `offer` right, for ever: `configured` are the full names of the services to advertise, and without them the
/// upstreams are asked. Their health is watched in any case.
///
/// It is marked as changed once at the start, when every upstream has answered or has had its time: that is the offer
/// for the first hello. Later only news mark it.
pub(crate) async fn keep(
    forwarder: &Forwarder,
    configured: Option<Vec<String>>,
    offer: &watch::Sender<Offer>,
) {
    let board = Board::new(forwarder, configured.as_deref());
    let watches = board.places().filter_map(|place| {
        let remote = place.upstream().remote()?;
        Some(health::watch(remote, place))
    });
    let asks = board
        .places()
        .filter(|_| configured.is_none())
        .map(discover::keep_asking);
    tokio::join!(
        join_all(watches),
        join_all(asks),
        publish(&board, configured.as_deref(), offer)
    );
}

async fn publish(board: &Board<'_>, configured: Option<&[String]>, offer: &watch::Sender<Offer>) {
    let mut news = board.subscribe();
    let settled = news.wait_for(|standings| standings.iter().all(Standing::is_settled));
    // What has no answer by then is told when it has one.
    let _ = tokio::time::timeout(DISCOVERY_TIMEOUT, settled).await.is_ok();
    let mut told = vec![Standing::default(); board.places().count()];
    let mut first = true;
    loop {
        let standings = news.borrow_and_update().clone();
        for ((upstream, now), before) in board.with(&standings).zip(&told) {
            log(upstream, before, now);
        }
        let services = match configured {
            Some(names) => Services::Known(names.to_vec()),
            None => discover::services(board, &standings),
        };
        let health = health(&standings);
        offer.send_if_modified(|offer| {
            let news = first || offer.services != services;
            if news && configured.is_none() {
                match &services {
                    Services::Known(names) => info!(?names, "services of the upstreams"),
                    Services::Unknown(reason) => info!(reason, "services of the upstreams are unknown"),
                }
            }
            // Two reasons for the same ignorance are the same to a hub.
            let unknown = |services: &Services| matches!(services, Services::Unknown(_));
            let same = unknown(&offer.services) && unknown(&services);
            let changed = first || (news && !same) || offer.health != health;
            *offer = Offer { services, health };
            changed
        });
        told = standings;
        first = false;
        tokio::time::sleep(PAUSE).await;
        if news.changed().await.is_err() {
            // Not while the board is there.
            return;
        }
    }
}

fn health(standings: &[Standing]) -> Health {
    if !standings.is_empty() && standings.iter().all(|standing| standing.down().is_some()) {
        return Health {
            down: true,
            not_serving: BTreeSet::new(),
        };
    }
    let named = standings.iter().flat_map(|standing| {
        let services = standing.services.iter().flatten().flatten();
        services.filter(|service| standing.down().is_some() || standing.not_serving.contains(*service))
    });
    Health {
        down: false,
        not_serving: named.take(MAX_SERVICES).cloned().collect(),
    }
}

/// Says what became of an upstream since `before`.
fn log(upstream: &Upstream, before: &Standing, now: &Standing) {
    match (before.down(), now.down()) {
        (None, Some(why)) => info!(%upstream, why, "the upstream is down"),
        (Some(_), None) => info!(%upstream, "the upstream is back"),
        _ => {}
    }
    for service in now.not_serving.difference(&before.not_serving) {
        info!(%upstream, service, "a service takes no calls: its upstream says so");
    }
    for service in before.not_serving.difference(&now.not_serving) {
        let listed = now
            .services
            .iter()
            .flatten()
            .flatten()
            .any(|known| known == service);
        if listed && now.down().is_none() {
            info!(%upstream, service, "a service takes calls again");
        }
    }
}

#[cfg(test)]
mod tests;
