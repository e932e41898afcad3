//! What picks the agent for a call: a pure function of the request's head and of what is connected.

use adit_certs::AgentId;
use http::HeaderMap;
use http::header::HeaderName;

use crate::directory::Directory;

/// Names the agent that a call is for.
pub(crate) static AGENT: HeaderName = HeaderName::from_static("adit-agent");

/// Picks agents by their labels.
pub(crate) static SELECT: HeaderName = HeaderName::from_static("adit-select");

/// What a request says of where it is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Metadata `adit-agent` names it.
    Agent(AgentId),
    /// Nothing but the service: whoever serves it, if that is one agent.
    Service(String),
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
    #[error("metadata adit-select is not understood by this hub; name one agent with adit-agent")]
    Select,
    #[error("the path {0:?} is not of a gRPC method: it has to be /package.Service/Method")]
    Path(String),
}

/// A target that no agent can be picked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// The agent that is named is not connected.
    Offline(AgentId),
    /// Nobody serves it.
    NoRoute(String),
    /// Several agents serve it, and nothing says that they are equal.
    Ambiguous { service: String, ids: Vec<AgentId> },
}

/// How many ids an ambiguous target's message lists.
const LISTED: usize = 5;

impl Target {
    /// Reads a request's routing metadata and path.
    pub(crate) fn of(path: &str, metadata: &HeaderMap) -> Result<Self, TargetError> {
        if metadata.contains_key(&SELECT) {
            return Err(TargetError::Select);
        }
        let mut named = metadata.get_all(&AGENT).iter();
        if let Some(id) = named.next() {
            let others = named.count();
            if others > 0 {
                return Err(TargetError::SeveralAgents(others + 1));
            }
            let id = String::from_utf8_lossy(id.as_bytes());
            return match id.parse::<AgentId>() {
                Ok(id) => Ok(Self::Agent(id)),
                Err(error) => Err(TargetError::Agent(error.to_string())),
            };
        }
        match path.strip_prefix('/').and_then(|path| path.rsplit_once('/')) {
            Some((service, _)) if service.starts_with("grpc.reflection.") => Ok(Self::AnyService),
            Some((service, _)) => Ok(Self::Service(service.to_owned())),
            None => Err(TargetError::Path(path.to_owned())),
        }
    }

    /// The id that this target means at this moment.
    pub(crate) fn resolve<'a>(&'a self, connected: &'a Directory) -> Result<&'a AgentId, Miss> {
        match self {
            Self::Agent(id) => Ok(id),
            Self::Service(service) => {
                if let Some(id) = only(connected.serving(service), service)? {
                    return Ok(id);
                }
                only(connected.silent(), service)?.ok_or_else(|| Miss::NoRoute(service.clone()))
            }
            Self::AnyService => {
                let service = "server reflection";
                only(connected.ids(), service)?.ok_or_else(|| Miss::NoRoute(service.to_owned()))
            }
        }
    }
}

/// The only id of several candidates: a call that could stop a machine must not go to a random one.
fn only<'a>(
    mut ids: impl ExactSizeIterator<Item = &'a AgentId>,
    service: &str,
) -> Result<Option<&'a AgentId>, Miss> {
    match ids.len() {
        0 | 1 => Ok(ids.next()),
        _ => {
            let mut ids: Vec<AgentId> = ids.cloned().collect();
            ids.sort();
            Err(Miss::Ambiguous {
                service: service.to_owned(),
                ids,
            })
        }
    }
}

impl Miss {
    /// What the client is told, and what to do about it.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Offline(id) => format!("agent {id} is not connected to this hub"),
            Self::NoRoute(what) => format!(
                "no connected agent serves {what}: name an agent with metadata adit-agent, or check that its \
                 agent is connected and advertises it"
            ),
            Self::Ambiguous { service, ids } => {
                let more = ids.len().saturating_sub(LISTED);
                let mut names = ids
                    .iter()
                    .take(LISTED)
                    .map(AgentId::as_str)
                    .collect::<Vec<_>>()
                    .join(", ");
                if more > 0 {
                    names.push_str(&format!(" and {more} more"));
                }
                format!("several agents have {service}: name one with metadata adit-agent ({names})")
            }
        }
    }
}

/// Takes the routing metadata out, and leaves the order of everything else as it was.
///
/// `HeaderMap::remove` moves the last entry into the gap, which would change it.
pub(crate) fn without_routing(metadata: HeaderMap) -> HeaderMap {
    if !metadata.contains_key(&AGENT) {
        return metadata;
    }
    let mut kept = HeaderMap::with_capacity(metadata.len());
    let mut last: Option<HeaderName> = None;
    for (name, value) in metadata {
        // The iterator names a key with its first value only.
        last = name.or(last);
        match &last {
            Some(name) if *name != AGENT => {
                kept.append(name, value);
            }
            _ => {}
        }
    }
    kept
}

#[cfg(test)]
mod tests;
