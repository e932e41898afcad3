//! What an agent knows of each of its upstreams.

use std::collections::BTreeSet;

use tokio::sync::watch;

use crate::forward::Forwarder;
use crate::upstream::Upstream;

/// The standing of every upstream, in the order of the forwarder's routes.
#[derive(Debug)]
pub(crate) struct Board<'a> {
    forwarder: &'a Forwarder,
    upstreams: Vec<&'a Upstream>,
    standings: watch::Sender<Vec<Standing>>,
}

/// What is known of one upstream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// Whether it can be asked anything.
    pub(crate) connected: bool,
    /// Whether it takes calls; `None` until that is known.
    pub(crate) condition: Option<Condition>,
    /// Those of its services that say of themselves that they take no calls.
    pub(crate) not_serving: BTreeSet<String>,
    /// The services that are called at it, in order, or why they are unknown; `None` until it was asked. It is kept
    /// while the upstream is down.
    pub(crate) services: Option<Result<Vec<String>, String>>,
    /// Counts the reasons to ask it for its services anew.
    pub(crate) asks: u64,
}

/// Whether an upstream takes calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Serving,
    /// For the reason in the text.
    Down(String),
}

/// One upstream's place on the board.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    board: &'a Board<'a>,
    index: usize,
}

impl<'a> Board<'a> {
    /// `configured` are the names of services, where the upstreams are not to be asked.
    pub(crate) fn new(forwarder: &'a Forwarder, configured: Option<&[String]>) -> Self {
        let upstreams: Vec<_> = forwarder.routes().upstreams().collect();
        let standing = |upstream: &&Upstream| {
            let here = upstream.remote().is_none();
            Standing {
                // What is in this process is there.
                connected: here,
                condition: here.then_some(Condition::Serving),
                services: configured.map(|names| Ok(called_at(forwarder, upstream, names.iter().cloned()))),
                ..Standing::default()
            }
        };
        let standings = watch::Sender::new(upstreams.iter().map(standing).collect());
        Self {
            forwarder,
            upstreams,
            standings,
        }
    }

    pub(crate) fn places(&'a self) -> impl Iterator<Item = Place<'a>> {
        (0..self.upstreams.len()).map(|index| Place { board: self, index })
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Vec<Standing>> {
        self.standings.subscribe()
    }

    /// Upstreams, each with what is known of it in `standings`.
    pub(crate) fn with<'b>(
        &self,
        standings: &'b [Standing],
    ) -> impl Iterator<Item = (&'a Upstream, &'b Standing)> {
        self.upstreams.iter().copied().zip(standings)
    }
}

impl Standing {
    /// Why the upstream takes no calls, if so.
    pub(crate) fn down(&self) -> Option<&str> {
        match &self.condition {
            Some(Condition::Down(why)) => Some(why),
            Some(Condition::Serving) | None => None,
        }
    }

    /// Whether it was asked everything, as far as it can be.
    pub(crate) fn is_settled(&self) -> bool {
        self.condition.is_some() && (self.services.is_some() || !self.connected)
    }
}

impl<'a> Place<'a> {
    pub(crate) fn upstream(self) -> &'a Upstream {
        // It is made from an index of this list alone.
        self.board.upstreams[self.index]
    }

    /// Waits until `true_of` the standing, and gives what `then` takes from it.
    pub(crate) async fn wait_for<T>(
        self,
        mut true_of: impl FnMut(&Standing) -> bool,
        then: impl FnOnce(&Standing) -> T,
    ) -> T {
        let mut news = self.board.subscribe();
        if let Ok(standings) = news.wait_for(|standings| true_of(&standings[self.index])).await {
            return then(&standings[self.index]);
        }
        // Never: the board holds the sender, and is borrowed here.
        std::future::pending().await
    }

    /// A connection to it was made.
    pub(crate) fn connected(self) {
        self.change(|standing| {
            standing.connected = true;
            standing.asks += 1;
            true
        });
    }

    /// No connection to it can be made.
    pub(crate) fn unreachable(self, why: String) {
        self.change(|standing| {
            standing.connected = false;
            // It is asked anew when it is back.
            standing.not_serving.clear();
            standing.set(Condition::Down(why));
            true
        });
    }

    /// What it says of itself as a whole.
    pub(crate) fn says(self, condition: Condition) {
        self.change(|standing| standing.set(condition));
    }

    /// What it says of one of its services.
    pub(crate) fn says_of(self, service: &str, serving: bool) {
        self.change(|standing| {
            if serving {
                standing.not_serving.remove(service)
            } else {
                standing.not_serving.insert(service.to_owned())
            }
        });
    }

    /// It says nothing of other services than `watched`.
    pub(crate) fn says_only_of(self, watched: &[String]) {
        self.change(|standing| {
            let before = standing.not_serving.len();
            standing.not_serving.retain(|service| watched.contains(service));
            standing.not_serving.len() != before
        });
    }

    /// What it answers when it is asked for its services: those that are called elsewhere are left out.
    pub(crate) fn lists(self, services: Result<Vec<String>, String>) {
        let services =
            services.map(|services| called_at(self.board.forwarder, self.upstream(), services.into_iter()));
        self.change(|standing| {
            let news = standing.services.as_ref() != Some(&services);
            standing.services = Some(services);
            news
        });
    }

    fn change(self, change: impl FnOnce(&mut Standing) -> bool) {
        self.board
            .standings
            .send_if_modified(|standings| change(&mut standings[self.index]));
    }
}

impl Standing {
    fn set(&mut self, condition: Condition) -> bool {
        if self.condition.as_ref() == Some(&condition) {
            return false;
        }
        // What has changed so much may have other services.
        self.asks += u64::from(self.condition.is_some());
        self.condition = Some(condition);
        true
    }
}

/// Packages that every gRPC server may have. They say nothing about where a call belongs, and the hub answers for them.
const COMMON_PACKAGES: [&str; 2] = ["grpc.reflection.", "grpc.health."];

/// Those of `services` that are called at `upstream`, in order.
fn called_at(
    forwarder: &Forwarder,
    upstream: &Upstream,
    services: impl Iterator<Item = String>,
) -> Vec<String> {
    let services = services.filter(|service| {
        !COMMON_PACKAGES.iter().any(|package| service.starts_with(package))
            && forwarder
                .routes()
                .find(service)
                .is_some_and(|has_it| has_it.is(upstream))
    });
    let services: BTreeSet<_> = services.collect();
    services.into_iter().collect()
}
