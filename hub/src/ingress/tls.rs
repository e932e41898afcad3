//! TLS on the clients' port: what is asked of a client, and where less than a certificate will do.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use adit_certs::{ClientName, Credentials, Identity, TlsError, TrustDomain};
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, ServerConfig};

/// The application protocol that gRPC is spoken over (RFC 9113 §3.1).
pub(crate) const HTTP2: &[u8] = b"h2";

/// What the clients' port asks of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientTls {
    /// Nothing: cleartext HTTP/2, for clients of the same machine.
    Off,
    /// TLS 1.2 or 1.3 with the hub's certificate. Clients show none, so that anybody who reaches the port may call.
    On,
    /// The same, and a certificate of the hub's CA for `spiffe://<trust domain>/client/<name>`.
    Mutual,
}

/// A text that is no [`ClientTls`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is none of off, on and mutual")]
pub struct InvalidClientTls {
    value: String,
}

/// A port of clients that would let anybody in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{flag} {address} with --client-tls {mode}: anybody who reaches this address could call every agent; use \
     --client-tls mutual and give each client a certificate (adit certs client NAME), or a loopback address such as \
     127.0.0.1:{}, or say with --insecure-clients that the network is trusted", address.port()
)]
pub struct ExposedClients {
    flag: &'static str,
    address: SocketAddr,
    mode: ClientTls,
}

impl ClientTls {
    /// What the port of clients at `address`, which is the value of `flag`, asks for: what is `wanted`, or by default nothing on a loopback address and
    /// a certificate elsewhere. `insecure` says that an address that others reach may go without authentication; it
    /// changes no default.
    ///
    /// # Errors
    ///
    /// Others than the own machine reach the address, and nothing would be asked of them.
    pub fn choose(
        flag: &'static str,
        address: SocketAddr,
        wanted: Option<Self>,
        insecure: bool,
    ) -> Result<Self, ExposedClients> {
        // ::ffff:127.0.0.1 is a loopback address as well.
        let loopback = address.ip().to_canonical().is_loopback();
        match wanted {
            None if loopback => Ok(Self::Off),
            None => Ok(Self::Mutual),
            Some(mode) if mode == Self::Mutual || loopback || insecure => Ok(mode),
            Some(mode) => Err(ExposedClients { flag, address, mode }),
        }
    }
}

impl fmt::Display for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Mutual => "mutual",
        })
    }
}

impl FromStr for ClientTls {
    type Err = InvalidClientTls;

    fn from_str(text: &str) -> Result<Self, InvalidClientTls> {
        match text {
            "off" => Ok(Self::Off),
            "on" => Ok(Self::On),
            "mutual" => Ok(Self::Mutual),
            _ => Err(InvalidClientTls {
                value: text.chars().take(100).collect(),
            }),
        }
    }
}

/// The TLS settings of clients' connections, over which `protocol` (ALPN) is spoken; `None` without TLS.
pub(crate) fn clients_tls(
    credentials: &Credentials,
    trust_domain: &TrustDomain,
    mode: ClientTls,
    protocol: &[u8],
) -> Result<Option<ServerConfig>, TlsError> {
    let mut config = match mode {
        ClientTls::Off => return Ok(None),
        ClientTls::On => credentials.anybody_config()?,
        ClientTls::Mutual => credentials.clients_config(trust_domain)?,
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Some(config))
}

/// The name in the certificate that a handshake has checked.
pub(super) fn name(shown: Option<&[CertificateDer<'_>]>) -> Option<ClientName> {
    let identity = Identity::from_certificate(shown?.first()?).ok()?;
    identity.client_name().cloned()
}

/// What was wrong in a handshake; `None` where the client only went away.
pub(super) fn refusal(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(reason)) => reason.to_string(),
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => format!("its certificate is not by this hub's CA: {error}"),
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            "what it sends is not TLS, and this port speaks nothing else".to_owned()
        }
        other => other.to_string(),
    })
}

/// The address as IPv4 where it is one.
pub(super) fn address(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::ClientTls::{Mutual, Off, On};
    use super::*;

    #[test]
    fn a_port_that_others_reach_asks_for_a_certificate_unless_told() {
        let loopback = [
            "127.0.0.1:9090",
            "127.1.2.3:9090",
            "[::1]:9090",
            "[::ffff:127.0.0.1]:9090",
        ];
        let others = [
            "0.0.0.0:9090",
            "[::]:9090",
            "10.0.0.1:9090",
            "[2001:db8::1]:9090",
            "[::ffff:10.0.0.1]:9090",
        ];
        let table = [
            // wanted, insecure, on a loopback address, elsewhere
            (None, false, Off, Some(Mutual)),
            (None, true, Off, Some(Mutual)),
            (Some(Off), false, Off, None),
            (Some(Off), true, Off, Some(Off)),
            (Some(On), false, On, None),
            (Some(On), true, On, Some(On)),
            (Some(Mutual), false, Mutual, Some(Mutual)),
            (Some(Mutual), true, Mutual, Some(Mutual)),
        ];
        for (wanted, insecure, near, far) in table {
            for address in loopback {
                let chosen = ClientTls::choose("--clients", address.parse().unwrap(), wanted, insecure);
                assert_eq!(chosen, Ok(near), "{address} {wanted:?} {insecure}");
            }
            for address in others {
                let chosen = ClientTls::choose("--clients", address.parse().unwrap(), wanted, insecure);
                assert_eq!(chosen.ok(), far, "{address} {wanted:?} {insecure}");
            }
        }
    }

    #[test]
    fn a_refusal_names_the_flags_and_what_to_do() {
        let refusal =
            ClientTls::choose("--clients", "0.0.0.0:7000".parse().unwrap(), Some(On), false).unwrap_err();
        let said = refusal.to_string();
        for word in [
            "--clients 0.0.0.0:7000",
            "--client-tls on",
            "--client-tls mutual",
            "adit certs client NAME",
            "127.0.0.1:7000",
            "--insecure-clients",
        ] {
            assert!(said.contains(word), "no {word:?} in {said}");
        }
    }

    #[test]
    fn a_mode_is_written_as_it_is_read() {
        for mode in [Off, On, Mutual] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        let error = "Mutual".parse::<ClientTls>().unwrap_err();
        assert_eq!(error.to_string(), "\"Mutual\" is none of off, on and mutual");
    }
}
