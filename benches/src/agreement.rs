//! Whether what clients were told of their calls agrees with what upstreams saw of them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use adit_proto::failure::{ADIT_DELIVERED, ADIT_ERROR, Delivered};
use tonic::Status;

/// How a call ended for its client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// With the right answer.
    Answered,
    /// With another call's answer, or a broken one.
    Garbled,
    /// It failed.
    Failed {
        /// Its gRPC status.
        code: String,
        /// `adit-error`, if the tunnel made the failure.
        error: Option<String>,
        /// `adit-delivered`.
        delivered: Option<String>,
    },
    /// Not at all: its client gave it up.
    GivenUp,
    /// It had not ended when the patience was over.
    Unended,
}

/// What clients were told, beside what upstreams saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// How many calls ended like this and were seen so often.
    pub counts: BTreeMap<(Ending, u32), u64>,
    /// Calls of which what was told is not true.
    pub disagreements: Vec<Disagreement>,
}

/// A call of which what was told is not true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The call.
    pub id: u64,
    /// What its client was told; nothing where nobody made it.
    pub ending: Option<Ending>,
    /// How often upstreams saw it.
    pub seen: u32,
}

impl Ending {
    /// What the client of a failed call was told.
    #[must_use]
    pub fn failed(status: &Status) -> Self {
        let metadata = status.metadata();
        let word = |name: &str| Some(metadata.get(name)?.to_str().ok()?.to_owned());
        Self::Failed {
            code: format!("{:?}", status.code()),
            error: word(ADIT_ERROR.as_str()),
            delivered: word(ADIT_DELIVERED.as_str()),
        }
    }

    /// Whether it is true of a call that upstreams saw so often. A failure has to say what is known of its delivery.
    fn is_true(&self, seen: u32) -> bool {
        match self {
            Self::Answered => seen == 1,
            Self::GivenUp => seen <= 1,
            Self::Failed {
                error: Some(_),
                delivered: Some(delivered),
                ..
            } if delivered == Delivered::No.as_str() => seen == 0,
            Self::Failed {
                error: Some(_),
                delivered: Some(delivered),
                ..
            } if delivered == Delivered::Maybe.as_str() => seen <= 1,
            Self::Failed { .. } | Self::Garbled | Self::Unended => false,
        }
    }
}

/// Compares how `calls` ended with the calls that upstreams have `seen`, each as often as it was.
pub fn reconcile(
    calls: impl IntoIterator<Item = (u64, Ending)>,
    seen: impl IntoIterator<Item = u64>,
) -> Agreement {
    let mut times: HashMap<u64, u32> = HashMap::new();
    for id in seen {
        *times.entry(id).or_default() += 1;
    }
    let mut agreement = Agreement::default();
    for (id, ending) in calls {
        let seen = times.remove(&id).unwrap_or_default();
        if !ending.is_true(seen) {
            let ending = Some(ending.clone());
            agreement.disagreements.push(Disagreement { id, ending, seen });
        }
        *agreement.counts.entry((ending, seen)).or_default() += 1;
    }
    for (id, seen) in times {
        let ending = None;
        agreement.disagreements.push(Disagreement { id, ending, seen });
    }
    agreement
        .disagreements
        .sort_by_key(|disagreement| disagreement.id);
    agreement
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered => f.write_str("answered"),
            Self::Garbled => f.write_str("answered wrongly"),
            Self::Failed {
                code,
                error,
                delivered,
            } => write!(
                f,
                "{code}, adit-error {}, adit-delivered {}",
                error.as_deref().unwrap_or("none"),
                delivered.as_deref().unwrap_or("none")
            ),
            Self::GivenUp => f.write_str("given up by the client"),
            Self::Unended => f.write_str("never ended"),
        }
    }
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, ending, seen } = self;
        match ending {
            Some(ending) => write!(f, "call {id}: {ending}, and seen {seen} times by upstreams"),
            None => write!(f, "call {id}: nobody made it, and upstreams saw it {seen} times"),
        }
    }
}

#[cfg(test)]
mod tests {
    use adit_proto::failure::{Failure, Reason};

    use super::*;

    fn failed(reason: Reason) -> Ending {
        Ending::failed(&Failure::new(reason, "why").to_status())
    }

    /// The calls of which something is wrong.
    fn wrong(calls: &[(u64, Ending)], seen: &[u64]) -> Vec<u64> {
        let agreement = reconcile(calls.iter().cloned(), seen.iter().copied());
        let disagreements = agreement.disagreements.iter();
        disagreements.map(|disagreement| disagreement.id).collect()
    }

    #[test]
    fn every_call_is_counted_with_what_was_told_and_seen() {
        let (lost, offline) = (failed(Reason::LinkLost), failed(Reason::AgentOffline));
        let calls = [
            (1, Ending::Answered),
            (2, lost.clone()),
            (3, lost.clone()),
            (4, lost.clone()),
            (5, offline.clone()),
            (6, Ending::Answered),
        ];
        let agreement = reconcile(calls, [6, 3, 1]);
        assert_eq!(agreement.disagreements, []);
        let counts = [
            ((Ending::Answered, 1), 2),
            ((lost.clone(), 0), 2),
            ((lost, 1), 1),
            ((offline, 0), 1),
        ];
        assert_eq!(agreement.counts, BTreeMap::from(counts));
    }

    #[test]
    fn an_answered_call_was_seen_once() {
        let calls = [
            (1, Ending::Answered),
            (2, Ending::Answered),
            (3, Ending::Answered),
        ];
        assert_eq!(wrong(&calls, &[2, 3, 3]), [1, 3]);
    }

    #[test]
    fn a_call_that_was_not_delivered_was_never_seen() {
        let calls = [
            (1, failed(Reason::AgentOffline)),
            (2, failed(Reason::UpstreamRefused)),
        ];
        assert_eq!(wrong(&calls, &[2]), [2]);
    }

    #[test]
    fn a_call_that_was_perhaps_delivered_was_seen_once_at_the_most() {
        for ending in [failed(Reason::LinkLost), Ending::GivenUp] {
            let calls = [1, 2, 3].map(|id| (id, ending.clone()));
            assert_eq!(wrong(&calls, &[2, 3, 3]), [3]);
        }
    }

    #[test]
    fn a_failure_has_to_say_what_is_known_of_it() {
        let bare = Ending::failed(&Status::unavailable("the service's own, or the client's"));
        let word = |error: Option<&str>, delivered: Option<&str>| Ending::Failed {
            code: "Unavailable".to_owned(),
            error: error.map(str::to_owned),
            delivered: delivered.map(str::to_owned),
        };
        let calls = [
            (1, bare),
            (2, word(Some("link-lost"), None)),
            (3, word(None, Some("no"))),
            (4, word(Some("link-lost"), Some("perhaps"))),
        ];
        assert_eq!(wrong(&calls, &[]), [1, 2, 3, 4]);
    }

    #[test]
    fn calls_that_nobody_made_or_that_never_ended_are_told() {
        let calls = [(1, Ending::Unended), (2, Ending::Garbled)];
        assert_eq!(wrong(&calls, &[1, 2, 7, 7]), [1, 2, 7]);
        let told = reconcile(calls, [7, 7]).disagreements;
        let told: Vec<String> = told.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "call 1: never ended, and seen 0 times by upstreams",
                "call 2: answered wrongly, and seen 0 times by upstreams",
                "call 7: nobody made it, and upstreams saw it 2 times",
            ]
        );
    }
}
