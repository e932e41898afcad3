//! One caller of `WatchLinks`.
//!
//! The stream looks at the registry only when its caller has taken what it was told last: a slow one costs what one
//! look found, and misses what came and went between two looks.

use std::sync::Arc;
use std::time::Duration;

use adit_certs::AgentId;
use adit_proto::hub::v1::WatchLinksResponse;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::registry::Registry;

use super::changes::Told;
use super::links::{Pages, look};

/// How often a caller may have the links looked at.
pub(super) const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// How often they are looked at for a caller who doesn't say.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// What a caller wants to watch.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) agent: Option<AgentId>,
    pub(super) names: bool,
    pub(super) interval: Duration,
}

struct Watch {
    registry: Arc<Registry>,
    wanted: Wanted,
    looks: Interval,
    told: Told,
    /// What the last look found, as far as it is not told.
    pages: Pages,
    ended: Vec<u64>,
    /// Nothing has been told yet, not even that there is nothing.
    first: bool,
    /// The hub's end.
    stopped: CancellationToken,
    _room: OwnedSemaphorePermit,
}

/// Tells the links, then what changes, for as long as somebody takes it and the hub runs.
pub(super) fn watch(
    registry: Arc<Registry>,
    wanted: Wanted,
    stopped: CancellationToken,
    room: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<WatchLinksResponse, Status>> {
    let mut looks = interval(wanted.interval.max(SHORTEST_INTERVAL));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watch = Watch {
        registry,
        wanted,
        looks,
        told: Told::default(),
        pages: Pages::default(),
        ended: Vec::new(),
        first: true,
        stopped,
        _room: room,
    };
    unfold(Some(watch), |watch| async {
        let mut watch = watch?;
        let stopped = watch.stopped.clone();
        Some(tokio::select! {
            response = watch.next() => (Ok(response), Some(watch)),
            () = stopped.cancelled() => (Err(Status::unavailable("the hub stops")), None),
        })
    })
}

impl Watch {
    async fn next(&mut self) -> WatchLinksResponse {
        loop {
            if !self.pages.is_empty() || !self.ended.is_empty() {
                return self.page();
            }
            self.looks.tick().await;
            self.look();
            if std::mem::take(&mut self.first) {
                return self.page();
            }
        }
    }

    fn look(&mut self) {
        let links = look(&self.registry, self.wanted.agent.as_ref());
        let changes = self
            .told
            .update(links.iter().map(|(member, now)| (member.key, now)));
        let mut places = changes.changed.into_iter().peekable();
        let links = links.into_iter().enumerate();
        let changed = links.filter_map(|(place, link)| places.next_if_eq(&place).map(|_| link));
        self.pages = Pages::new(changed.collect(), self.wanted.names);
        self.ended = changes.ended;
    }

    fn page(&mut self) -> WatchLinksResponse {
        WatchLinksResponse {
            ended: std::mem::take(&mut self.ended),
            changed: self.pages.next().unwrap_or_default(),
            more: !self.pages.is_empty(),
        }
    }
}
