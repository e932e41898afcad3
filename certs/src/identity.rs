//! Who a certificate says its holder is.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use thiserror::Error;
use x509_parser::certificate::X509Certificate;

use crate::agent_id::{AgentId, InvalidAgentId};
use crate::checked_name::excerpt;
use crate::client_name::{ClientName, InvalidClientName};
use crate::parsed::{self, NotX509};
use crate::spiffe::{self, InvalidSpiffeId, SCHEME};
use crate::trust_domain::TrustDomain;

/// The SPIFFE id of an agent, a client or a hub.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// `spiffe://<trust domain>/agent/<id>`
    Agent {
        /// Whose CA vouches for it.
        trust_domain: TrustDomain,
        /// The id of the agent.
        id: AgentId,
    },
    /// `spiffe://<trust domain>/client/<name>`
    Client {
        /// Whose CA vouches for it.
        trust_domain: TrustDomain,
        /// The name of the client.
        name: ClientName,
    },
    /// `spiffe://<trust domain>/hub`
    Hub {
        /// Whose CA vouches for it.
        trust_domain: TrustDomain,
    },
}

impl Identity {
    /// The identity in the certificate, which must carry exactly one URI as subject alternative
    /// name (X509-SVID §2). Says nothing about who signed it: ask after the handshake verified
    /// that.
    ///
    /// # Errors
    /// The certificate has no URI or several, or the URI is no identity of this system.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        Self::from_parsed(&parsed::certificate(certificate)?)
    }

    pub(crate) fn from_parsed(certificate: &X509Certificate<'_>) -> Result<Self, IdentityError> {
        let uris = parsed::uris(certificate)?;
        match uris.as_slice() {
            [] => Err(IdentityError::NoUri),
            [uri] => Ok(uri.parse()?),
            several => Err(IdentityError::SeveralUris { count: several.len() }),
        }
    }

    /// The trust domain, which is to be compared with the hub's own: a CA bundle may hold several.
    pub fn trust_domain(&self) -> &TrustDomain {
        match self {
            Self::Agent { trust_domain, .. }
            | Self::Client { trust_domain, .. }
            | Self::Hub { trust_domain } => trust_domain,
        }
    }

    /// The id, if this is an agent.
    pub fn agent_id(&self) -> Option<&AgentId> {
        match self {
            Self::Agent { id, .. } => Some(id),
            Self::Client { .. } | Self::Hub { .. } => None,
        }
    }

    /// The name, if this is a client.
    pub fn client_name(&self) -> Option<&ClientName> {
        match self {
            Self::Client { name, .. } => Some(name),
            Self::Agent { .. } | Self::Hub { .. } => None,
        }
    }
}

impl FromStr for Identity {
    type Err = InvalidIdentity;

    fn from_str(uri: &str) -> Result<Self, InvalidIdentity> {
        let (trust_domain, path) = spiffe::parse(uri)?;
        match path.as_slice() {
            ["agent", id] => Ok(Self::Agent {
                trust_domain,
                id: id.parse()?,
            }),
            ["client", name] => Ok(Self::Client {
                trust_domain,
                name: name.parse()?,
            }),
            ["hub"] => Ok(Self::Hub { trust_domain }),
            _ => Err(InvalidIdentity::Path { uri: excerpt(uri) }),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent { trust_domain, id } => write!(f, "{SCHEME}{trust_domain}/agent/{id}"),
            Self::Client { trust_domain, name } => write!(f, "{SCHEME}{trust_domain}/client/{name}"),
            Self::Hub { trust_domain } => write!(f, "{SCHEME}{trust_domain}/hub"),
        }
    }
}

/// A URI is no identity of this system.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidIdentity {
    /// It is no SPIFFE id at all.
    #[error(transparent)]
    Spiffe(#[from] InvalidSpiffeId),
    /// Its path is none of ours.
    #[error("{uri:?} names no agent, client or hub: its path must be /agent/ID, /client/NAME or /hub")]
    Path {
        /// The URI, shortened when it is long.
        uri: String,
    },
    /// The id in `/agent/<id>` is malformed.
    #[error(transparent)]
    Agent(#[from] InvalidAgentId),
    /// The name in `/client/<name>` is malformed.
    #[error(transparent)]
    Client(#[from] InvalidClientName),
}

/// A certificate does not say who its holder is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// The bytes are no certificate.
    #[error(transparent)]
    NotX509(#[from] NotX509),
    /// There is no URI among its subject alternative names.
    #[error(
        "the certificate has no SPIFFE id: it needs one URI as subject alternative name, such as spiffe://adit/agent/site-7 \
         or spiffe://adit/client/ann"
    )]
    NoUri,
    /// There are several, and which one counts would be a guess.
    #[error(
        "the certificate has {count} URIs as subject alternative names: it needs exactly one, its SPIFFE id"
    )]
    SeveralUris {
        /// How many there are.
        count: usize,
    },
    /// The one URI is no identity.
    #[error(transparent)]
    Uri(#[from] InvalidIdentity),
}

#[cfg(test)]
mod tests;
