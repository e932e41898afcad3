//! How an agent is told to end.

use tokio_util::sync::CancellationToken;

/// What every part of an agent watches. Clones are handles of the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdown {
    draining: CancellationToken,
    stopping: CancellationToken,
}

impl Shutdown {
    /// No new links and no new calls; those that run go on.
    pub(crate) fn drain(&self) {
        self.draining.cancel();
    }

    /// Everything ends now.
    pub(crate) fn stop(&self) {
        self.draining.cancel();
        self.stopping.cancel();
    }

    /// Ready once the agent drains, or stops.
    pub(crate) async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Ready once the agent stops.
    pub(crate) async fn stopping(&self) {
        self.stopping.cancelled().await;
    }
}
