//! Agents that were connected, and since when they are not.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use adit_certs::AgentId;

/// How many are remembered; of more, those that have been gone for longest are forgotten.
const MAX: usize = 16_384;

/// Those that have left last.
#[derive(Debug, Default)]
pub(crate) struct Departed {
    agents: HashMap<AgentId, (u64, Instant)>,
    /// The same in the order in which they left.
    order: BTreeMap<u64, AgentId>,
    next: u64,
}

impl Departed {
    /// An agent's last link has ended.
    pub(crate) fn left(&mut self, id: &AgentId) {
        self.is_back(id);
        self.next += 1;
        self.agents.insert(id.clone(), (self.next, Instant::now()));
        self.order.insert(self.next, id.clone());
        if self.order.len() > MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.agents.remove(&oldest);
        }
    }

    /// An agent is connected.
    pub(crate) fn is_back(&mut self, id: &AgentId) {
        if let Some((number, _)) = self.agents.remove(id) {
            self.order.remove(&number);
        }
    }

    /// For how long an agent has been away, if it was here.
    pub(crate) fn away(&self, id: &AgentId) -> Option<Duration> {
        self.agents.get(id).map(|(_, left)| left.elapsed())
    }
}

/// How long ago something was, in the largest unit that it has one of.
pub(crate) fn ago(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s ago"),
        seconds @ 60..3600 => format!("{} min ago", seconds / 60),
        seconds @ 3600..172_800 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use std::time::Duration;

    use super::{Departed, MAX, ago};

    #[test]
    fn the_last_to_leave_are_remembered_until_they_are_back() {
        let id = |n: usize| format!("a{n}").parse().unwrap();
        let mut departed = Departed::default();
        for n in 0..=MAX {
            departed.left(&id(n));
            departed.left(&id(n));
        }
        assert_eq!((departed.agents.len(), departed.order.len()), (MAX, MAX));
        assert_eq!(departed.away(&id(0)), None);
        assert!(departed.away(&id(1)).unwrap() < Duration::from_secs(60));
        departed.is_back(&id(1));
        departed.is_back(&id(1));
        assert_eq!(departed.away(&id(1)), None);
        assert_eq!((departed.agents.len(), departed.order.len()), (MAX - 1, MAX - 1));
    }

    #[test]
    fn a_time_is_told_in_one_unit() {
        let times = [0, 59, 60, 185, 3600, 172_799, 172_800];
        let told = times.map(|seconds| ago(Duration::from_secs(seconds)));
        assert_eq!(
            told,
            [
                "0 s ago",
                "59 s ago",
                "1 min ago",
                "3 min ago",
                "1 h ago",
                "47 h ago",
                "2 days ago"
            ]
        );
    }
}
