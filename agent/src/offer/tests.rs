#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod backend;
mod connections;
mod health;

use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::upstream::ServicePrefix;
use crate::upstream::tests::support::soon;

/// An offer that is kept right while the test runs.
struct Kept {
    told: watch::Receiver<Offer>,
    _task: AbortOnDropHandle<()>,
}

impl Kept {
    /// That of upstreams by prefix, which are asked for their services.
    async fn of<const N: usize>(upstreams: [(Option<&str>, Upstream); N]) -> Self {
        Self::start(upstreams, None).await
    }

    /// The same, when the first offer is there.
    async fn start<const N: usize>(
        upstreams: [(Option<&str>, Upstream); N],
        configured: Option<Vec<String>>,
    ) -> Self {
        let upstreams = upstreams.map(|(prefix, upstream)| {
            let prefix = prefix.map(|prefix| prefix.parse::<ServicePrefix>().unwrap());
            (prefix, upstream)
        });
        let forwarder = Forwarder::new(upstreams).unwrap();
        let (offer, mut told) = watch::channel(Offer::unasked());
        let task = tokio::spawn(async move { keep(&forwarder, configured, &offer).await });
        soon(told.changed()).await.unwrap();
        Self {
            told,
            _task: AbortOnDropHandle::new(task),
        }
    }

    fn now(&self) -> Offer {
        self.told.borrow().clone()
    }

    async fn until(&mut self, told: impl Fn(&Offer) -> bool) -> Offer {
        soon(self.told.wait_for(told)).await.unwrap().clone()
    }

    async fn until_health(&mut self, health: Health) -> Offer {
        self.until(|offer| offer.health == health).await
    }

    async fn until_services(&mut self, names: &[&str]) -> Offer {
        self.until(|offer| offer.services == known(names)).await
    }
}

fn known(names: &[&str]) -> Services {
    Services::Known(names.iter().map(|name| (*name).to_owned()).collect())
}

fn serving() -> Health {
    Health::default()
}

fn down() -> Health {
    Health {
        down: true,
        not_serving: BTreeSet::new(),
    }
}

fn not_serving(names: &[&str]) -> Health {
    Health {
        down: false,
        not_serving: names.iter().map(|name| (*name).to_owned()).collect(),
    }
}

#[test]
fn an_offer_is_told_as_it_is() {
    assert_eq!(
        v1::Services::from(&known(&["a.B"])),
        v1::Services {
            known: true,
            names: vec!["a.B".to_owned()]
        }
    );
    let unknown = Services::Unknown("it is down".to_owned());
    assert_eq!(v1::Services::from(&unknown), v1::Services::default());
    assert_eq!(v1::Health::from(&serving()), v1::Health::default());
    let told = v1::Health::from(&not_serving(&["a.B", "a.C"]));
    assert_eq!(
        (told.down, told.not_serving),
        (false, vec!["a.B".to_owned(), "a.C".to_owned()])
    );
    assert!(v1::Health::from(&down()).down);
}

#[tokio::test]
async fn without_upstreams_nothing_is_offered() {
    let kept = Kept::of([]).await;
    assert_eq!(kept.now().services, known(&[]));
    assert_eq!(kept.now().health, serving());
}
