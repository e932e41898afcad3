//! Certificates for the two ends of a link, from a CA that is forgotten with their folder.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::path::Path;

use adit_certs::{
    AgentId, Authority, CredentialFiles, Credentials, Directory, Existing, Host, Role, Subject, TrustDomain,
    Validity,
};

/// The id of the agent.
pub const AGENT: &str = "bench";

/// Makes a CA, and a certificate for a hub at 127.0.0.1 and for the agent.
///
/// # Errors
/// A file cannot be written.
pub fn make(directory: &Path) -> anyhow::Result<()> {
    make_for(directory, [AGENT.parse()?])
}

/// Makes a CA, and certificates for a hub at 127.0.0.1 and for these agents.
///
/// # Errors
/// A file cannot be written.
pub fn make_for(directory: &Path, agents: impl IntoIterator<Item = AgentId>) -> anyhow::Result<()> {
    make_at(directory, Ipv4Addr::LOCALHOST.into(), agents)
}

/// Makes a CA, and certificates for a hub at this address and for these agents.
///
/// # Errors
/// A file cannot be written.
pub fn make_at(
    directory: &Path,
    hub: IpAddr,
    agents: impl IntoIterator<Item = AgentId>,
) -> anyhow::Result<()> {
    let directory = Directory::new(directory);
    let validity = Validity::days(NonZeroU16::MIN);
    let authority = Authority::create(&"adit".parse::<TrustDomain>()?, validity)?;
    directory.write_authority(&authority, Existing::Keep)?;
    let hub = Subject::Hub {
        sans: vec![Host::Ip(hub)],
    };
    for subject in std::iter::once(hub).chain(agents.into_iter().map(Subject::Agent)) {
        directory.write(&subject, &authority.issue(&subject, validity)?, Existing::Keep)?;
    }
    Ok(())
}

/// Loads the hub's.
///
/// # Errors
/// [`make`] was not there.
pub fn hub(directory: &Path) -> anyhow::Result<Credentials> {
    Ok(Credentials::load(&CredentialFiles::hub(directory), Role::Hub)?)
}

/// Loads the agent's.
///
/// # Errors
/// [`make`] was not there.
pub fn agent(directory: &Path) -> anyhow::Result<Credentials> {
    agent_with_id(directory, &AGENT.parse()?)
}

/// Loads those of one of several agents.
///
/// # Errors
/// [`make_for`] was not there, or not for this one.
pub fn agent_with_id(directory: &Path, id: &AgentId) -> anyhow::Result<Credentials> {
    Ok(Credentials::load(
        &CredentialFiles::agent(directory, id),
        Role::Agent,
    )?)
}
