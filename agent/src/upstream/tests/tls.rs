//! TLS to upstreams.

use std::num::NonZeroU16;
use std::path::Path;
use std::sync::Arc;

use adit_certs::{
    Authority, Directory, Existing, Subject, TrustStore, Validity, Written, load_certified_key, provider,
};
use h2::server::Builder;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use super::support::{Server, answer, collect, get, soon};
use crate::upstream::{Target, Upstream, UpstreamAddr, UpstreamTls, UpstreamTlsError};

/// A CA with a server's and a client's certificate.
struct Pki {
    folder: TempDir,
    server: Written,
    client: Written,
}

impl Pki {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let validity = Validity::days(NonZeroU16::MIN);
        let authority = Authority::create(&"upstreams".parse().unwrap(), validity).unwrap();
        let directory = Directory::new(folder.path());
        directory.write_authority(&authority, Existing::Replace).unwrap();
        let issue = |subject: &Subject| {
            let issued = authority.issue(subject, validity).unwrap();
            directory.write(subject, &issued, Existing::Replace).unwrap()
        };
        let sans = ["orders.example", "127.0.0.1"]
            .map(|san| san.parse().unwrap())
            .to_vec();
        let server = issue(&Subject::Server {
            name: "orders".parse().unwrap(),
            sans,
        });
        let client = issue(&Subject::Client("agent".parse().unwrap()));
        Self {
            folder,
            server,
            client,
        }
    }

    fn ca(&self) -> std::path::PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A server that demands a client certificate and offers `alpn`. It answers with the authority it was called by.
    async fn serve(&self, versions: &[&'static rustls::SupportedProtocolVersion], alpn: &[&str]) -> Server {
        let roots = Arc::clone(TrustStore::load(&self.ca()).unwrap().roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .build()
            .unwrap();
        let certified = load_certified_key(&self.server.certificate, &self.server.key).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = alpn.iter().map(|alpn| alpn.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Server::accept(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let Ok(mut connection) = Builder::new().handshake(stream).await else {
                    return;
                };
                while let Some(Ok(exchange)) = connection.accept().await {
                    let uri = exchange.0.uri();
                    let asked = format!("{}://{}", uri.scheme_str().unwrap(), uri.authority().unwrap());
                    answer(exchange, asked.leak()).await;
                }
            }
        })
        .await
    }

    fn tls(&self, name: Option<&'static str>) -> UpstreamTls {
        UpstreamTls {
            ca: Some(self.ca()),
            identity: Some((self.client.certificate.clone(), self.client.key.clone())),
            name: name.map(|name| name.try_into().unwrap()),
        }
    }
}

fn https(server: &Server) -> Target {
    format!("https://{}", server.address)
        .parse::<UpstreamAddr>()
        .unwrap()
        .target
}

/// What the server answers, or the message of the agent's own failure.
async fn ask(server: &Server, tls: &UpstreamTls) -> Result<String, String> {
    let upstream = Upstream::at(https(server), tls).unwrap();
    let response = soon(upstream.call(get("/a.B/C"))).await.unwrap();
    if let Some(reason) = response.headers().get("adit-error") {
        assert_eq!(reason, "upstream-refused");
        return Err(tonic::Status::from_header_map(response.headers())
            .unwrap()
            .message()
            .to_owned());
    }
    let (data, _) = soon(collect(response.into_body())).await.unwrap();
    Ok(String::from_utf8(data.to_vec()).unwrap())
}

#[tokio::test]
async fn both_sides_prove_who_they_are() {
    let (pki, other) = (Pki::new(), Pki::new());
    for versions in [[&rustls::version::TLS13], [&rustls::version::TLS12]] {
        let server = pki.serve(&versions, &["h2"]).await;
        assert_eq!(
            ask(&server, &pki.tls(None)).await.unwrap(),
            format!("https://{}", server.address)
        );
        // Another name replaces the host both in the check and in the call.
        assert_eq!(
            ask(&server, &pki.tls(Some("orders.example"))).await.unwrap(),
            "https://orders.example"
        );

        let message = ask(&server, &pki.tls(Some("billing.example"))).await.unwrap_err();
        assert!(
            message.contains("billing.example") && message.contains("TLS handshake"),
            "{message}"
        );
        let stranger = UpstreamTls {
            ca: Some(other.ca()),
            ..pki.tls(None)
        };
        let message = ask(&server, &stranger).await.unwrap_err();
        assert!(message.contains("UnknownIssuer"), "{message}");
        let anonymous = UpstreamTls {
            identity: None,
            ..pki.tls(None)
        };
        let message = ask(&server, &anonymous).await.unwrap_err();
        assert!(
            message.contains("fatal alert") && message.contains("--upstream-cert"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn http2_is_demanded() {
    let pki = Pki::new();
    for alpn in [&["http/1.1"][..], &[]] {
        let server = pki.serve(rustls::DEFAULT_VERSIONS, alpn).await;
        let message = ask(&server, &pki.tls(None)).await.unwrap_err();
        assert!(
            message.contains("HTTP/2") || message.contains("NoApplicationProtocol"),
            "{message}"
        );
    }
}

#[test]
fn files_are_checked_before_any_connection() {
    let pki = Pki::new();
    let target: Target = "https://localhost".parse::<UpstreamAddr>().unwrap().target;
    let missing = Path::new("/no/such/file.pem").to_owned();
    let no_ca = UpstreamTls {
        ca: Some(missing.clone()),
        ..UpstreamTls::default()
    };
    let other_key = UpstreamTls {
        identity: Some((pki.client.certificate.clone(), pki.server.key.clone())),
        ..pki.tls(None)
    };
    for (tls, file) in [(no_ca, "/no/such/file.pem"), (other_key, "server-orders.key")] {
        let error = Upstream::at(target.clone(), &tls).unwrap_err();
        assert!(matches!(error, UpstreamTlsError::Load(_)), "{error:?}");
        assert!(error.to_string().contains(file), "{error}");
    }
    // An upstream without TLS needs none of it.
    let plain = UpstreamTls {
        ca: Some(missing),
        ..UpstreamTls::default()
    };
    Upstream::at(
        "http://localhost:1".parse::<UpstreamAddr>().unwrap().target,
        &plain,
    )
    .unwrap();
}
