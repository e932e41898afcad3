//! Clients of a hub's TLS port that check nothing about themselves.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use adit_certs::{CredentialFiles, TrustStore, provider};
use h2::client::Builder;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::raw::RawClient;
use super::soon;

/// What a client shows and offers.
pub(crate) struct TlsClient(ClientConfig);

impl TlsClient {
    /// Trusts the hub's CA, shows these files, and offers what gRPC libraries do.
    pub(crate) fn new(ca: &Path, shown: Option<&CredentialFiles>) -> Self {
        Self::of(ca, shown, &[&TLS13, &TLS12])
    }

    /// The same in TLS 1.2.
    pub(crate) fn old(ca: &Path, shown: Option<&CredentialFiles>) -> Self {
        Self::of(ca, shown, &[&TLS12])
    }

    fn of(
        ca: &Path,
        shown: Option<&CredentialFiles>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(Arc::clone(TrustStore::load(ca).unwrap().roots()));
        let mut config = match shown {
            Some(files) => {
                let chain = CertificateDer::pem_file_iter(&files.cert).unwrap();
                let chain = chain.collect::<Result<_, _>>().unwrap();
                let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
                let certified = CertifiedKey::from_der(chain, key, &provider()).unwrap();
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self(config)
    }

    /// Offers these application protocols.
    pub(crate) fn offering(mut self, protocols: &[&str]) -> Self {
        self.0.alpn_protocols = protocols
            .iter()
            .map(|protocol| protocol.as_bytes().to_vec())
            .collect();
        self
    }

    pub(crate) async fn connect(&self, hub: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(hub).await?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connector = TlsConnector::from(Arc::new(self.0.clone()));
        soon(connector.connect(name, stream)).await
    }

    /// An HTTP/2 connection, which has to be taken.
    pub(crate) async fn http2(&self, hub: SocketAddr) -> RawClient {
        RawClient::over(self.connect(hub).await.unwrap(), &Builder::new()).await
    }

    /// What the client hears of a hub that does not take it; the hub's half of the handshake may come after its own.
    pub(crate) async fn refused(&self, hub: SocketAddr) -> String {
        let mut stream = match self.connect(hub).await {
            Ok(stream) => stream,
            Err(error) => return error.to_string(),
        };
        // As HTTP/2 clients do, it says at once what it wants: none of it may cost the answer.
        let said = [
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..],
            &[0; 2000],
        ]
        .concat();
        let _ = stream.write_all(&said).await;
        let mut back = Vec::new();
        match soon(stream.read_to_end(&mut back)).await {
            Ok(_) => format!("closed after {} bytes", back.len()),
            Err(error) => error.to_string(),
        }
    }
}
