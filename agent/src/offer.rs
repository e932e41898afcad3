//! What an agent tells its hubs of its upstreams: their services, and which of them take calls.

use std::collections::BTreeSet;
use std::time::Duration;

use adit_proto::tunnel::v1;
use tokio::sync::watch;
use tracing::info;

use crate::discover::{Services, discover};
use crate::forward::Forwarder;

/// How soon upstreams are asked for their services again while some are unknown, because one is still starting;
const ASK_SOON: Duration = Duration::from_secs(1);

/// then twice as late each time, up to this, which is also how often those are asked that have answered: an upstream may
/// be replaced by one with other services.
const ASK_RARELY: Duration = Duration::from_secs(60);

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
/// upstreams are asked.
///
/// It is marked as changed once at the start, when every upstream has answered or has had its time: that is the offer
/// for the first hello. Later only news mark it.
pub(crate) async fn keep(
    forwarder: &Forwarder,
    configured: Option<Vec<String>>,
    offer: &watch::Sender<Offer>,
) {
    if let Some(names) = configured {
        offer.send_modify(|offer| offer.services = Services::Known(names));
        return std::future::pending().await;
    }
    let services = discover(forwarder).await;
    offer.send_modify(|offer| offer.services = services);
    let mut wait = ASK_SOON;
    loop {
        match &offer.borrow().services {
            Services::Known(names) => {
                info!(?names, "services of the upstreams");
                wait = ASK_RARELY;
            }
            Services::Unknown(reason) => info!(reason, "services of the upstreams are unknown"),
        }
        loop {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(ASK_RARELY);
            let services = discover(forwarder).await;
            let changed = offer.send_if_modified(|current| {
                // An upstream that is down for a moment is not without services.
                let forgets = matches!(
                    (&current.services, &services),
                    (Services::Known(_), Services::Unknown(_))
                );
                let news = !forgets && current.services != services;
                if news {
                    current.services = services;
                }
                news
            });
            if changed {
                break;
            }
        }
    }
}
