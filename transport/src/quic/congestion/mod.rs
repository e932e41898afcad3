//! Congestion control, which lets a connection's last word pass.
//!
//! quinn-proto up to 0.11.19 holds the CONNECTION_CLOSE of a connection back for as long as its congestion window is
//! full, which is for ever: a closed connection hears no acknowledgement any more. The peer of a busy link would learn of its
//! end only by its own patience. The frame is not congestion controlled (RFC 9002 §2), so the window of a connection that
//! closes is made as good as endless; nothing else is sent on it.

mod bounded;
mod rate;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use quinn::Connection;
use quinn::congestion::{
    BbrConfig, Controller, ControllerFactory, ControllerMetrics, CubicConfig, NewRenoConfig,
};
use quinn_proto::RttEstimator;

use crate::tuning::Congestion;

/// Makes controllers of the kind that is wanted.
pub(super) fn factory(congestion: Congestion) -> Arc<dyn ControllerFactory + Send + Sync> {
    Arc::new(Factory(match congestion {
        Congestion::Bounded => Arc::new(bounded::BoundedConfig),
        Congestion::Bbr => Arc::new(BbrConfig::default()),
        Congestion::Cubic => Arc::new(CubicConfig::default()),
        Congestion::NewReno => Arc::new(NewRenoConfig::default()),
    }))
}

/// Lets the CONNECTION_CLOSE pass that is sent next.
pub(super) fn let_close(connection: &Connection) {
    // A copy, which shares what says that the connection closes.
    if let Ok(controller) = connection.congestion_state().into_any().downcast::<Outspoken>() {
        controller.closes.store(true, Ordering::Relaxed);
    }
}

struct Factory(Arc<dyn ControllerFactory + Send + Sync>);

impl ControllerFactory for Factory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Outspoken {
            controller: Arc::clone(&self.0).build(now, current_mtu),
            closes: Arc::default(),
        })
    }
}

/// A controller that has no say any more once its connection closes.
struct Outspoken {
    controller: Box<dyn Controller>,
    closes: Arc<AtomicBool>,
}

impl Controller for Outspoken {
    fn window(&self) -> u64 {
        if self.closes.load(Ordering::Relaxed) {
            u64::MAX
        } else {
            self.controller.window()
        }
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            controller: self.controller.clone_box(),
            closes: Arc::clone(&self.closes),
        })
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.controller.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.controller.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.controller
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.controller
            .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.controller.on_mtu_update(new_mtu);
    }

    fn metrics(&self) -> ControllerMetrics {
        self.controller.metrics()
    }

    fn initial_window(&self) -> u64 {
        self.controller.initial_window()
    }
}
