//! Arguments that all commands share which call a server: where it is, and with which certificates.

use std::path::PathBuf;

use adit_certs::{ClientName, CredentialFiles};
use adit_client::target::Target;
use adit_client::tls::Trust;

/// Where calls go, and who they say they are from.
#[derive(Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// The hub's port for clients, or any gRPC server: http://HOST:PORT or https://HOST:PORT
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    pub(crate) hub: Target,
    /// Directory with the CA that an https server's certificate is from (ca.pem), as `adit certs` writes it [default: the system's CAs]
    #[arg(long, value_name = "DIR")]
    certs: Option<PathBuf>,
    /// Present the certificate client-NAME.pem of that directory
    #[arg(long, requires = "certs")]
    name: Option<ClientName>,
    /// The CA that an https server's certificate is from, in place of ca.pem in that directory
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The certificate to present, in place of the one in that directory
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with = "name")]
    cert: Option<PathBuf>,
    /// The private key of that certificate
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// The user's settings, in TOML: hub, admin, certs, name, ca, cert, key and agent, for all commands that call; flags
    /// and environment variables beat it [default: adit/config.toml in $XDG_CONFIG_HOME, or in ~/.config]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ServerArgs {
    /// Whom a connection trusts, and who it says it is.
    pub(crate) fn trust(&self) -> Trust {
        let Self {
            certs,
            name,
            ca,
            cert,
            key,
            ..
        } = self;
        match (certs, ca, cert.clone().zip(key.clone())) {
            (None, None, None) => Trust::System,
            (Some(dir), None, None) => Trust::Certs {
                dir: dir.clone(),
                name: name.clone(),
            },
            (certs, ca, own) => Trust::Files {
                ca: ca
                    .clone()
                    .or_else(|| certs.as_ref().map(|dir| dir.join("ca.pem"))),
                own: own.or_else(|| {
                    let files = CredentialFiles::client(certs.as_ref()?, name.as_ref()?);
                    Some((files.cert, files.key))
                }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use adit_client::tls::Trust;
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::ServerArgs;

    fn trust(line: &[&str]) -> Result<Trust, clap::Error> {
        let command = ServerArgs::augment_args(Command::new("adit").no_binary_name(true));
        let matches = command.try_get_matches_from(line)?;
        Ok(ServerArgs::from_arg_matches(&matches)?.trust())
    }

    #[test]
    fn files_take_the_place_of_those_in_the_folder() {
        let files = |ca: Option<&str>, own: Option<(&str, &str)>| Trust::Files {
            ca: ca.map(Into::into),
            own: own.map(|(cert, key)| (cert.into(), key.into())),
        };
        assert_eq!(trust(&[]).unwrap(), Trust::System);
        assert_eq!(
            trust(&["--certs", "d", "--name", "n"]).unwrap(),
            Trust::Certs {
                dir: "d".into(),
                name: Some("n".parse().unwrap()),
            }
        );
        assert_eq!(trust(&["--ca", "c"]).unwrap(), files(Some("c"), None));
        assert_eq!(
            trust(&["--cert", "c", "--key", "k"]).unwrap(),
            files(None, Some(("c", "k")))
        );
        assert_eq!(
            trust(&["--certs", "d", "--cert", "c", "--key", "k"]).unwrap(),
            files(Some("d/ca.pem"), Some(("c", "k")))
        );
        assert_eq!(
            trust(&["--certs", "d", "--name", "n", "--ca", "c"]).unwrap(),
            files(Some("c"), Some(("d/client-n.pem", "d/client-n.key")))
        );
        for wrong in [
            &["--cert", "c"][..],
            &["--key", "k"],
            &["--name", "n"],
            &["--certs", "d", "--name", "n", "--cert", "c", "--key", "k"],
        ] {
            assert!(trust(wrong).is_err(), "{wrong:?}");
        }
    }
}
