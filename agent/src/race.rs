//! Which carrier a link runs over, where the agent may choose: who comes first, with a head start for QUIC.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use adit_transport::{AgentLink, Carrier, Dialer, UnknownCarrier};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

use crate::dial::{HubAddress, ReachError};

/// How long QUIC goes alone where nothing is known of the network, before TLS is dialled beside it.
const HEAD_START: Duration = Duration::from_millis(500);

/// The same where QUIC is what worked last: a hub that is being restarted is no reason to leave it.
const HEAD_START_OF_PROVEN: Duration = Duration::from_secs(3);

/// And where it was another carrier, which is then the next to be dialled.
const HEAD_START_OF_DOUBTED: Duration = Duration::from_millis(250);

/// The last carrier starts so long after the one before it.
const LAST_START: Duration = Duration::from_secs(1);

/// The first wait before QUIC is tried again beside a link over TCP is between half of this and all of it,
pub const FIRST_PROBE: Duration = Duration::from_secs(20);

/// each further one twice as long, and none longer than this.
pub const LONGEST_PROBE: Duration = Duration::from_secs(600);

/// A link over QUIC that has held for this long proves that the network passes it: the waits start over.
const PROVEN: Duration = Duration::from_secs(120);

/// What an agent's links may run over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carriers {
    /// QUIC wherever it works, and otherwise whatever does.
    Auto,
    /// This one.
    Only(Carrier),
}

/// What one slot has learned of its network.
#[derive(Debug)]
pub(crate) struct Memory {
    /// What worked last.
    worked: Option<Carrier>,
    /// A link over QUIC went silent soon after it was made, whatever the handshake had said.
    doubted: bool,
    first_probe: Duration,
    probe: Duration,
}

/// A link, and why it is not over QUIC, if it could have been.
#[derive(Debug)]
pub(crate) struct Won {
    pub(crate) link: AgentLink,
    pub(crate) why: Option<String>,
}

impl FromStr for Carriers {
    type Err = UnknownCarrier;

    fn from_str(name: &str) -> Result<Self, UnknownCarrier> {
        match name {
            "auto" => Ok(Self::Auto),
            name => name.parse().map(Self::Only),
        }
    }
}

impl fmt::Display for Carriers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Only(carrier) => carrier.fmt(f),
        }
    }
}

impl Memory {
    /// QUIC is tried again within `first_probe` of a link over TCP, and then ever less often.
    pub(crate) fn new(first_probe: Duration) -> Self {
        Self {
            worked: None,
            doubted: false,
            first_probe,
            probe: first_probe,
        }
    }

    /// A link over `carrier` has come about.
    pub(crate) fn worked(&mut self, carrier: Carrier) {
        self.worked = Some(carrier);
        if carrier == Carrier::Quic {
            self.doubted = false;
        }
    }

    /// A link over `carrier` has ended after this time, because nothing came through it where `silently`.
    pub(crate) fn ended(&mut self, carrier: Carrier, held: Duration, silently: bool) {
        if carrier == Carrier::Quic && held >= PROVEN {
            self.probe = self.first_probe;
        }
        if silently && carrier == Carrier::Quic {
            self.doubted = held < PROVEN;
        }
        if silently && self.worked == Some(carrier) {
            self.worked = None;
        }
    }

    /// How long to wait before QUIC is tried again.
    pub(crate) fn next_probe(&mut self) -> Duration {
        let wait = self.probe;
        self.probe = (wait * 2).min(LONGEST_PROBE);
        wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }

    /// Why a link over `carrier` is not over QUIC.
    fn why(&self, carrier: Carrier, failed: &[(Carrier, ReachError)], after: Duration) -> Option<String> {
        if carrier == Carrier::Quic {
            return None;
        }
        let quic = failed.iter().find(|(failed, _)| *failed == Carrier::Quic);
        Some(match quic {
            _ if self.doubted => "quic: a link over it went silent soon after it was made".to_owned(),
            Some((_, error)) => format!("quic: {error}"),
            None => format!("quic: no answer within {:.1} s", after.as_secs_f64()),
        })
    }

    /// When each carrier starts, after the first.
    fn starts(&self) -> [(Carrier, Duration); 3] {
        use Carrier::{Quic, Tls, WebSocket};
        if self.doubted {
            return [
                (Tls, Duration::ZERO),
                (WebSocket, LAST_START),
                (Quic, 2 * LAST_START),
            ];
        }
        let (head_start, [second, third]) = match self.worked {
            Some(Quic) => (HEAD_START_OF_PROVEN, [Tls, WebSocket]),
            Some(Tls) => (HEAD_START_OF_DOUBTED, [Tls, WebSocket]),
            Some(WebSocket) => (HEAD_START_OF_DOUBTED, [WebSocket, Tls]),
            None => (HEAD_START, [Tls, WebSocket]),
        };
        [
            (Quic, Duration::ZERO),
            (second, head_start),
            (third, head_start + LAST_START),
        ]
    }
}

/// Dials `hub` by each carrier in turn, the next one when its time has come or all before it have failed; the first that makes
/// a link wins.
pub(crate) async fn race(hub: &HubAddress, dialer: &Dialer, memory: &Memory) -> Result<Won, ReachError> {
    let begun = Instant::now();
    let mut waiting = VecDeque::from(memory.starts());
    let mut running = FuturesUnordered::new();
    let mut failed = Vec::new();
    loop {
        while let Some(&(carrier, start)) = waiting.front() {
            if !running.is_empty() && begun.elapsed() < start {
                break;
            }
            waiting.pop_front();
            running.push(async move { (carrier, hub.reach(dialer, carrier).await) });
        }
        let next = waiting.front().map(|&(_, start)| begun + start);
        tokio::select! {
            dialled = running.next() => match dialled {
                Some((carrier, Ok(link))) => {
                    return Ok(Won { link, why: memory.why(carrier, &failed, begun.elapsed()) });
                }
                Some((carrier, Err(error))) => failed.push((carrier, error)),
                None => {}
            },
            () = sleep_until(next.unwrap_or(begun)), if next.is_some() => {}
        }
        if running.is_empty() && waiting.is_empty() {
            return Err(ReachError::NoCarrier(Failures(failed)));
        }
    }
}

/// How each carrier failed.
#[derive(Debug)]
pub(crate) struct Failures(Vec<(Carrier, ReachError)>);

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (carrier, error)) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{carrier}: {error}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_worked_decides_who_starts_when() {
        let mut memory = Memory::new(FIRST_PROBE);
        let order = |memory: &Memory| memory.starts().map(|(carrier, _)| carrier);
        assert_eq!(order(&memory), [Carrier::Quic, Carrier::Tls, Carrier::WebSocket]);
        let unknown = memory.starts()[1].1;
        memory.worked(Carrier::Quic);
        assert!(memory.starts()[1].1 > unknown, "who was proven is given time");
        memory.ended(Carrier::Quic, Duration::from_secs(5), false);
        assert!(memory.starts()[1].1 > unknown, "an orderly end is no doubt");
        memory.ended(Carrier::Quic, Duration::from_secs(500), true);
        assert_eq!(memory.starts()[1].1, unknown, "a silent end is");
        memory.worked(Carrier::Quic);
        memory.ended(Carrier::Quic, Duration::from_secs(5), true);
        assert_eq!(order(&memory), [Carrier::Tls, Carrier::WebSocket, Carrier::Quic]);
        memory.worked(Carrier::Quic);
        assert_eq!(order(&memory)[0], Carrier::Quic, "it works after all");
        memory.worked(Carrier::WebSocket);
        assert_eq!(order(&memory), [Carrier::Quic, Carrier::WebSocket, Carrier::Tls]);
        assert!(memory.starts()[1].1 < unknown);
    }

    #[test]
    fn probes_become_seldom_and_often_again_after_a_link_that_held() {
        let mut memory = Memory::new(FIRST_PROBE);
        let mut longest = FIRST_PROBE;
        for _ in 0..12 {
            let wait = memory.next_probe();
            assert!((longest / 2..=longest).contains(&wait), "{wait:?}");
            longest = (longest * 2).min(LONGEST_PROBE);
        }
        assert_eq!(memory.probe, LONGEST_PROBE);
        memory.ended(Carrier::Quic, PROVEN - Duration::from_secs(1), true);
        assert_eq!(
            memory.probe, LONGEST_PROBE,
            "a link that broke soon proves nothing"
        );
        memory.ended(Carrier::Tls, 2 * PROVEN, true);
        assert_eq!(memory.probe, LONGEST_PROBE);
        memory.ended(Carrier::Quic, PROVEN, false);
        assert_eq!(memory.probe, FIRST_PROBE);
    }

    #[test]
    fn carriers_have_names() {
        for name in ["auto", "quic", "tls", "websocket"] {
            assert_eq!(
                name.parse::<Carriers>().map(|carriers| carriers.to_string()),
                Ok(name.to_owned())
            );
        }
        assert!("udp".parse::<Carriers>().is_err());
    }
}
