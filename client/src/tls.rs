//! TLS settings of a connection to an `https` target.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use adit_certs::{
    ClientName, CredentialFiles, Credentials, LoadError, NoSystemRoots, Role, TlsError, TrustStore,
    load_certified_key, upstream_config,
};
use rustls::ClientConfig;

/// The application protocol that gRPC is spoken over (RFC 9113, section 3.1).
const HTTP2: &[u8] = b"h2";

/// Whom a client trusts, and who it says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The CAs that the operating system trusts; no certificate of the client's own.
    System,
    /// The CA in a folder of `adit certs` (`ca.pem`), and with a name the client's certificate there
    /// (`client-NAME.pem`, `client-NAME.key`).
    Certs {
        /// The folder.
        dir: PathBuf,
        /// Whose certificate to present.
        name: Option<ClientName>,
    },
    /// Files that may be anybody's.
    Files {
        /// The CAs that are trusted; the operating system's unless there are others.
        ca: Option<PathBuf>,
        /// The certificate to present, and its private key.
        own: Option<(PathBuf, PathBuf)>,
    },
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file is missing or wrong.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The operating system trusts nobody.
    #[error("{0}, in a folder named with --certs or a file named with --ca")]
    NoSystemRoots(#[from] NoSystemRoots),
}

impl Trust {
    /// The settings, for HTTP/2 over TLS 1.3; where the servers may be
    /// anybody's, over TLS 1.2 as well.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, TrustError> {
        let mut config = match self {
            Self::System => upstream_config(&TrustStore::system()?, None)?,
            Self::Files { ca, own } => {
                let store = match ca {
                    Some(ca) => TrustStore::load(ca)?,
                    None => TrustStore::system()?,
                };
                let own = own.as_ref().map(|(cert, key)| load_certified_key(cert, key));
                upstream_config(&store, own.transpose()?)?
            }
            Self::Certs { dir, name: None } => TrustStore::load(&ca_file(dir))?.client_config()?,
            Self::Certs {
                dir,
                name: Some(name),
            } => {
                let credentials = Credentials::load(&CredentialFiles::client(dir, name), Role::Client)?;
                credentials.check_client_name(name)?;
                credentials.client_config()?
            }
        };
        config.alpn_protocols = vec![HTTP2.to_vec()];
        Ok(Arc::new(config))
    }
}

fn ca_file(dir: &Path) -> PathBuf {
    dir.join("ca.pem")
}
