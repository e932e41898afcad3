//! Certificates: the authority that issues them, the identities in them, and the way from files to
//! TLS settings.
//!
//! - *Names.* [`AgentId`], [`ClientName`], [`TrustDomain`], [`UpstreamName`] and [`Host`] are
//!   strings that were checked once, when they were parsed. An [`Identity`] is what a certificate
//!   says that its holder is: one SPIFFE id.
//! - *Issuing.* An [`Authority`] signs a certificate for a [`Subject`], valid for a [`Validity`]; a
//!   [`Directory`] writes it under the names that the `--certs` flags read.
//! - *Loading.* [`CredentialFiles`] say where the files are, [`Credentials::load`] checks
//!   everything that can be checked before a handshake, and [`Credentials::client_config`] and
//!   [`Credentials::server_config`] make TLS settings of them. A [`TrustStore`] is the same for a
//!   process that has only a CA; [`load_certified_key`] for one that has only a certificate.
//! - *Looking.* [`show()`] tells what is in a PEM file.
//!
//! An error's message is complete: it includes its cause, which `Error::source` does not repeat.
//!
//! Nothing here touches the network, and no private key appears in an error, a log line or a
//! `Debug` output.

mod age;
mod agent_id;
mod authority;
mod certified_key;
mod checked_name;
mod client_name;
mod credential_files;
mod credentials;
mod host;
mod identity;
mod load_error;
mod parsed;
mod pem_file;
mod reissue;
mod show;
mod spiffe;
mod store;
#[cfg(test)]
mod test_fixtures;
mod tls;
mod trust_domain;
mod trust_store;
mod upstream_name;
mod validity;

pub use agent_id::{AgentId, InvalidAgentId};
pub use authority::{Authority, IssueError, Issued, Subject};
pub use certified_key::load_certified_key;
pub use client_name::{ClientName, InvalidClientName};
pub use credential_files::CredentialFiles;
pub use credentials::{Credentials, Role};
pub use host::{Host, InvalidHost};
pub use identity::{Identity, IdentityError, InvalidIdentity};
pub use load_error::LoadError;
pub use parsed::NotX509;
pub use pem_file::FileKind;
pub use show::{CertificateSummary, CrlSummary, Section, ShowError, show};
pub use spiffe::InvalidSpiffeId;
pub use store::{Directory, Existing, StoreError, Written};
pub use tls::{TlsError, provider, upstream_config};
pub use trust_domain::{InvalidTrustDomain, TrustDomain};
pub use trust_store::{NoSystemRoots, TrustStore};
pub use upstream_name::{InvalidUpstreamName, UpstreamName};
pub use validity::Validity;
