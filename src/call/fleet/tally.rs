//! How the calls ended, all in all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use adit_certs::AgentId;
use adit_client::status::name;

use super::Ending;
use crate::call::{EXIT_FAILED_CALL, status};

/// How many ids are listed for each way to end.
const LISTED: usize = 5;

/// The endings so far.
pub(super) struct Tally {
    agents: usize,
    succeeded: usize,
    /// By the status, or without one where there was no call.
    failed: BTreeMap<Option<u8>, Failed>,
    /// Those that have not ended.
    open: BTreeSet<AgentId>,
}

/// Those that failed in one way.
struct Failed {
    status: &'static str,
    agents: Vec<AgentId>,
}

impl Tally {
    pub(super) fn of(agents: &[AgentId]) -> Self {
        Self {
            agents: agents.len(),
            succeeded: 0,
            failed: BTreeMap::new(),
            open: agents.iter().cloned().collect(),
        }
    }

    pub(super) fn add(&mut self, ending: &Ending) {
        self.open.remove(&ending.agent);
        match &ending.called {
            Ok(_) => self.succeeded += 1,
            Err(error) => {
                let failure = error.failure();
                let failed = self.failed.entry(status(error)).or_insert_with(|| Failed {
                    status: failure.map_or("not called", |failure| name(failure.status().code())),
                    agents: Vec::new(),
                });
                failed.agents.push(ending.agent.clone());
            }
        }
    }

    /// One line for people. `begun` calls have been begun, and all have ended unless they were stopped.
    pub(super) fn summary(&self, begun: usize, stopped: bool, took: Duration) -> String {
        let agents = match self.agents {
            1 => "1 agent".to_owned(),
            agents => format!("{agents} agents"),
        };
        let mut parts = Vec::new();
        if self.succeeded > 0 || self.failed.is_empty() && !stopped {
            parts.push(format!("{} OK", self.succeeded));
        }
        for Failed { status, agents } in self.failed.values() {
            parts.push(format!("{} {status} ({})", agents.len(), listed(agents)));
        }
        let ended = self.agents - self.open.len();
        if stopped {
            parts.push(format!("{} stopped", begun.saturating_sub(ended)));
            parts.push(format!("{} not called", self.agents.saturating_sub(begun)));
        }
        let interrupted = if stopped { "interrupted: " } else { "" };
        let took = took.as_secs_f64();
        format!(
            "adit: {interrupted}{agents}: {}, in {took:.1} s\n",
            parts.join(", ")
        )
    }

    /// 0 where all succeeded; 64 and the status where those that failed did with the same; else 1.
    pub(super) fn exit_code(&self) -> u8 {
        let mut ways = self.failed.keys();
        match (ways.next(), ways.next()) {
            (None, _) => 0,
            (Some(Some(status)), None) => EXIT_FAILED_CALL.saturating_add(*status),
            _ => 1,
        }
    }
}

fn listed(agents: &[AgentId]) -> String {
    let mut text = agents
        .iter()
        .take(LISTED)
        .map(AgentId::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    let more = agents.len().saturating_sub(LISTED);
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use std::time::Duration;

    use adit_certs::AgentId;
    use adit_client::call::{CallError, Outcome};
    use adit_client::status::Failure;
    use tonic::{Code, Status};

    use super::Tally;
    use crate::call::fleet::Ending;

    fn ended(agent: &AgentId, code: Code) -> Ending {
        Ending {
            agent: agent.clone(),
            called: match code {
                Code::Ok => Ok(Outcome::default()),
                code => Err(CallError::Failed(Failure::without_schema(Status::new(code, "x")))),
            },
            took: Duration::ZERO,
        }
    }

    fn tally(codes: &[Code]) -> Tally {
        let ids: Vec<AgentId> = (0..codes.len())
            .map(|n| format!("a{n}").parse().unwrap())
            .collect();
        let mut tally = Tally::of(&ids);
        for (id, code) in ids.iter().zip(codes) {
            tally.add(&ended(id, *code));
        }
        tally
    }

    #[test]
    fn the_exit_code_is_the_status_only_where_failures_agree() {
        let (ok, gone, denied) = (Code::Ok, Code::Unavailable, Code::PermissionDenied);
        assert_eq!(tally(&[ok, ok]).exit_code(), 0);
        assert_eq!(tally(&[ok, gone, gone]).exit_code(), 64 + 14);
        assert_eq!(tally(&[gone, denied]).exit_code(), 1);
        let mut tally = tally(&[gone]);
        let wrong = std::io::Error::other("wrong");
        tally.add(&Ending {
            agent: "b".parse().unwrap(),
            called: Err(CallError::Output(wrong)),
            took: Duration::ZERO,
        });
        assert_eq!(tally.exit_code(), 1);
    }

    #[test]
    fn the_summary_says_who_failed_and_how() {
        let second = Duration::from_millis(1230);
        let summary = tally(&[Code::Ok; 2]).summary(2, false, second);
        assert_eq!(summary, "adit: 2 agents: 2 OK, in 1.2 s\n");
        let summary = tally(&[Code::Unavailable; 7]).summary(7, false, second);
        assert_eq!(
            summary,
            "adit: 7 agents: 7 UNAVAILABLE (a0, a1, a2, a3, a4 and 2 more), in 1.2 s\n"
        );
        let ids: Vec<AgentId> = ["a", "b", "c", "d"].map(|id| id.parse().unwrap()).into();
        let mut some = Tally::of(&ids);
        some.add(&ended(&ids[0], Code::Ok));
        assert_eq!(
            some.summary(3, true, second),
            "adit: interrupted: 4 agents: 1 OK, 2 stopped, 1 not called, in 1.2 s\n"
        );
    }
}
