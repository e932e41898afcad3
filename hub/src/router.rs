//! What picks the agent for a call: a pure function of the request's head and of what is connected.
//!
//! The first of these that a request has decides:
//!
//! 1. metadata `adit-agent`, an agent's id;
//! 2. metadata `adit-select`, labels of which an agent has to have all; several that match share the calls;
//! 3. the authority `<id>.<domain>`, where a domain is configured;
//! 4. the service's name, when exactly one agent advertises it, or, when none does, exactly one advertises nothing.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use adit_certs::AgentId;
use adit_proto::labels::{InvalidLabel, Label, Selector};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, ToStrError};
use http::uri::Authority;

use crate::balance::pick;
use crate::departed::ago;
use crate::directory::{Directory, Group, Links};
use crate::domain::{AgentDomain, BadAuthority};
use crate::member::{Member, State};
use crate::pools::Pools;

/// Names the agent that a call is for.
pub(crate) static AGENT: HeaderName = HeaderName::from_static("adit-agent");

/// Picks agents by their labels.
pub(crate) static SELECT: HeaderName = HeaderName::from_static("adit-select");

/// The longest `adit-select` that is looked at, over all its values.
const MAX_SELECT: usize = 4096;

/// How many ids a message lists.
const LISTED: usize = 5;

/// Who is meant by a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// This agent.
    Agent(AgentId),
    /// Any agent with these labels.
    Labels(Selector),
    /// Nothing but the service says it: whoever serves it, if that is one agent.
    Service,
    /// Server reflection, which every agent may have: whoever is connected, if that is one agent.
    AnyService,
}

/// A target that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("metadata adit-agent: {0}")]
    Agent(String),
    #[error("metadata adit-agent is given {0} times; name one agent")]
    SeveralAgents(usize),
    #[error("metadata adit-select: {0}")]
    Select(#[from] InvalidLabel),
    #[error("metadata adit-select has {0} bytes, and {MAX_SELECT} are the limit")]
    LongSelect(usize),
    #[error("metadata adit-select is not text")]
    SelectBytes(#[from] ToStrError),
    #[error(transparent)]
    Authority(#[from] BadAuthority),
    #[error("the path {0:?} is not of a gRPC method: it has to be /package.Service/Method")]
    Path(String),
}

/// A target that no link can be picked for at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// The agent that is named is not connected.
    Offline {
        id: AgentId,
        /// For how long, if it was.
        away: Option<Duration>,
        /// Some of those that are connected, and how many others are.
        connected: Vec<AgentId>,
        more: usize,
    },
    /// No connected agent has the labels.
    Unmatched(Selector),
    /// Those who are meant are connected, and take no new calls.
    Draining(String),
    /// Nobody serves it.
    NoRoute(String),
    /// Several agents serve it, and nothing says that they are equal.
    Ambiguous {
        what: String,
        ids: Vec<AgentId>,
        more: usize,
    },
}

impl Target {
    /// Reads where a request is to go.
    pub(crate) fn of(
        path: &str,
        authority: Option<&Authority>,
        metadata: &HeaderMap,
        domain: Option<&AgentDomain>,
    ) -> Result<Self, TargetError> {
        let service = service(path)?;
        if let Some(id) = agent(metadata)? {
            return Ok(Self::Agent(id));
        }
        if let Some(selector) = selector(metadata)? {
            return Ok(Self::Labels(selector));
        }
        if let (Some(domain), Some(authority)) = (domain, authority)
            && let Some(id) = domain.agent(authority)?
        {
            return Ok(Self::Agent(id));
        }
        Ok(if service.starts_with("grpc.reflection.") {
            Self::AnyService
        } else {
            Self::Service
        })
    }

    /// The link that a call for `service` goes to, of those that are not excluded.
    pub(crate) fn route<L>(
        &self,
        service: &str,
        connected: &Directory<L>,
        pools: &Pools,
        excluded: &[u64],
    ) -> Result<Arc<Member<L>>, Miss> {
        let allowed = |member: &Member<L>| !excluded.contains(&member.key);
        match self {
            Self::Agent(id) => {
                let links = connected.of_agent(id.as_str());
                let links = links.ok_or_else(|| offline(id, connected))?;
                pick(links, service, allowed)
                    .ok_or_else(|| unavailable(links, || offline(id, connected), || format!("agent {id}")))
            }
            Self::Labels(selector) => {
                let unmatched = || Miss::Unmatched(selector.clone());
                let links = fewest(selector.labels(), connected).ok_or_else(unmatched)?;
                let meant = |member: &Member<L>| selector.matches(&member.peer.labels);
                if let Some(member) = pick(links, service, |member| meant(member) && allowed(member)) {
                    return Ok(member);
                }
                // Of others with one of the labels nothing has to be known.
                let draining = links
                    .values()
                    .any(|member| meant(member) && member.state() == State::Draining);
                Err(match draining {
                    true => Miss::Draining(format!("every agent with the labels {selector}")),
                    false => unmatched(),
                })
            }
            Self::Service => {
                let equal = pools.has(service);
                let group = match connected.serving(service) {
                    Some(group) => group,
                    None => connected.silent(),
                };
                one_agent(group, equal, service, service, allowed)
            }
            Self::AnyService => one_agent(
                connected.all(),
                pools.has_all(),
                service,
                "server reflection",
                allowed,
            ),
        }
    }
}

/// A link of the only agent in a group: a call that could stop a machine must not go to a random one, unless
/// somebody has said that they are equal.
fn one_agent<L>(
    group: &Group<L>,
    equal: bool,
    service: &str,
    what: &str,
    allowed: impl Fn(&Member<L>) -> bool,
) -> Result<Arc<Member<L>>, Miss> {
    let count = group.ids().len();
    if count > 1 && !equal {
        return Err(Miss::Ambiguous {
            what: what.to_owned(),
            ids: group.ids().take(LISTED).cloned().collect(),
            more: count.saturating_sub(LISTED),
        });
    }
    let links = group.links();
    let no_route = || Miss::NoRoute(what.to_owned());
    pick(links, service, allowed)
        .ok_or_else(|| unavailable(links, no_route, || format!("every agent that has {what}")))
}

/// That an agent is not connected, and what may help: when it was, and who is.
fn offline<L>(id: &AgentId, directory: &Directory<L>) -> Miss {
    let mut connected = directory.near(id, LISTED);
    // Itself, where none of its links could take the call.
    connected.retain(|other| other != id);
    let itself = usize::from(directory.of_agent(id.as_str()).is_some());
    let more = directory.agents().saturating_sub(connected.len() + itself);
    Miss::Offline {
        id: id.clone(),
        away: directory.away(id),
        connected,
        more,
    }
}

/// Why none of the links takes a call: those that are there take none, or there is none left to try.
fn unavailable<L>(links: &Links<L>, gone: impl Fn() -> Miss, who: impl Fn() -> String) -> Miss {
    let draining = links.values().any(|member| member.state() == State::Draining);
    if draining { Miss::Draining(who()) } else { gone() }
}

/// The links that have one of the labels: of the label that the fewest have. `None` when nobody has one of them.
fn fewest<'a, L>(
    labels: impl Iterator<Item = &'a Label>,
    connected: &'a Directory<L>,
) -> Option<&'a Links<L>> {
    let mut fewest: Option<&Links<L>> = None;
    for label in labels {
        let links = connected.labelled(label)?.links();
        if fewest.is_none_or(|fewest| links.len() < fewest.len()) {
            fewest = Some(links);
        }
    }
    fewest
}

/// The full name of the service that a path calls.
pub(crate) fn service(path: &str) -> Result<&str, TargetError> {
    match path.strip_prefix('/').and_then(|path| path.rsplit_once('/')) {
        Some((service, _)) => Ok(service),
        None => Err(TargetError::Path(path.to_owned())),
    }
}

fn agent(metadata: &HeaderMap) -> Result<Option<AgentId>, TargetError> {
    let mut named = metadata.get_all(&AGENT).iter();
    let Some(id) = named.next() else {
        return Ok(None);
    };
    let others = named.count();
    if others > 0 {
        return Err(TargetError::SeveralAgents(others + 1));
    }
    let id = String::from_utf8_lossy(id.as_bytes());
    match id.parse() {
        Ok(id) => Ok(Some(id)),
        Err(error) => Err(TargetError::Agent(format!("{error}"))),
    }
}

/// Several values are one list, as HTTP has it (RFC 9110 §5.3): all labels have to match.
fn selector(metadata: &HeaderMap) -> Result<Option<Selector>, TargetError> {
    let mut values = metadata.get_all(&SELECT).iter().map(HeaderValue::to_str);
    let Some(first) = values.next() else {
        return Ok(None);
    };
    let mut list = Cow::Borrowed(first?);
    for value in values {
        let list = list.to_mut();
        list.push(',');
        list.push_str(value?);
    }
    if list.len() > MAX_SELECT {
        return Err(TargetError::LongSelect(list.len()));
    }
    Ok(Some(list.parse()?))
}

impl Miss {
    /// What the client is told, and what to do about it.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Offline {
                id,
                away,
                connected,
                more,
            } => {
                let seen = away.map_or_else(String::new, |away| format!("; last seen {}", ago(away)));
                let connected = match listed(connected, *more) {
                    none if none.is_empty() => "no other agent is".to_owned(),
                    some => format!("connected: {some}"),
                };
                format!("agent {id} is not connected to this hub{seen}; {connected}")
            }
            Self::Unmatched(selector) => {
                format!("no agent that is connected to this hub has the labels {selector}")
            }
            Self::Draining(who) => format!(
                "{who} takes no new calls: it is stopping, or an operator has drained it; try again later"
            ),
            Self::NoRoute(what) => format!(
                "no connected agent serves {what}: name an agent with metadata adit-agent, or check that its \
                 agent is connected and advertises it"
            ),
            Self::Ambiguous { what, ids, more } => {
                let names = listed(ids, *more);
                format!(
                    "several agents have {what}: name one with metadata adit-agent ({names}), or have the hub \
                     share the calls with --pool"
                )
            }
        }
    }
}

fn listed(ids: &[AgentId], more: usize) -> String {
    let mut names = ids.iter().map(AgentId::as_str).collect::<Vec<_>>().join(", ");
    if !names.is_empty() && more > 0 {
        names.push_str(&format!(" and {more} more"));
    }
    names
}

/// Takes the routing metadata out, and leaves the order of everything else as it was.
pub(crate) fn without_routing(metadata: HeaderMap) -> HeaderMap {
    adit_transport::metadata::without(metadata, &[&AGENT, &SELECT])
}

#[cfg(test)]
mod tests;
