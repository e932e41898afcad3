#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::num::NonZeroU16;
use std::path::Path;
use std::time::Duration;

use adit_certs::{Authority, CredentialFiles, Credentials, Directory, Existing, Role, Subject, Validity};
use tonic::Code;

use super::{ConnectError, Connection};
use crate::call::{Call, CallError};
use crate::testing::TestServer;
use crate::tls::{Trust, TrustError};

const WITHIN: Duration = Duration::from_secs(10);

/// A folder with a CA, and certificates of a hub on 127.0.0.1 and of the client `billing`.
fn certs() -> tempfile::TempDir {
    let temporary = tempfile::tempdir().unwrap();
    let dir = Directory::new(temporary.path());
    let validity = Validity::days(NonZeroU16::new(1).unwrap());
    let authority = Authority::create(&"adit".parse().unwrap(), validity).unwrap();
    dir.write_authority(&authority, Existing::Keep).unwrap();
    let hub = Subject::Hub {
        sans: vec!["127.0.0.1".parse().unwrap()],
    };
    for subject in [hub, Subject::Client("billing".parse().unwrap())] {
        dir.write(
            &subject,
            &authority.issue(&subject, validity).unwrap(),
            Existing::Keep,
        )
        .unwrap();
    }
    temporary
}

async fn serve(dir: &Path, alpn: &[&[u8]]) -> (TestServer, String) {
    let credentials = Credentials::load(&CredentialFiles::hub(dir), Role::Hub).unwrap();
    let mut tls = credentials.server_config().unwrap();
    tls.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let server = TestServer::start_tls(tls).await;
    let url = format!("https://{}", server.address);
    (server, url)
}

fn trust(dir: &Path, name: Option<&str>) -> Trust {
    Trust::Certs {
        dir: dir.to_owned(),
        name: name.map(|name| name.parse().unwrap()),
    }
}

async fn call(connection: &Connection) -> Result<u64, CallError> {
    let call = Call::new("kitchen.Kitchen/Cook".parse().unwrap());
    call.run(connection, &mut Vec::new())
        .await
        .map(|outcome| outcome.answers)
}

#[tokio::test]
async fn mutual_tls() {
    let dir = certs();
    let (_server, url) = serve(dir.path(), &[b"h2"]).await;
    let connection = Connection::open(&url.parse().unwrap(), &trust(dir.path(), Some("billing")), WITHIN)
        .await
        .unwrap();
    assert_eq!(call(&connection).await.unwrap(), 1);
}

#[tokio::test]
async fn a_certificate_that_is_missed_is_asked_for_by_its_flag() {
    let dir = certs();
    let (_server, url) = serve(dir.path(), &[b"h2"]).await;
    let connection = Connection::open(&url.parse().unwrap(), &trust(dir.path(), None), WITHIN)
        .await
        .unwrap();
    let error = call(&connection).await.unwrap_err();
    assert_eq!(error.failure().unwrap().status().code(), Code::Unavailable);
    assert!(error.to_string().contains("--name NAME"), "{error}");
}

#[tokio::test]
async fn a_server_of_another_ca_is_refused() {
    let (dir, other) = (certs(), certs());
    let (server, url) = serve(dir.path(), &[b"h2"]).await;
    let error = Connection::open(&url.parse().unwrap(), &trust(other.path(), None), WITHIN)
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    let name = format!("https://localhost:{}", server.address.port());
    let error = Connection::open(&name.parse().unwrap(), &trust(dir.path(), None), WITHIN)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn a_server_without_http2_is_told_apart() {
    let dir = certs();
    let (_server, url) = serve(dir.path(), &[]).await;
    let error = Connection::open(&url.parse().unwrap(), &trust(dir.path(), None), WITHIN)
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::NotHttp2 { .. }), "{error:?}");
}

#[tokio::test]
async fn files_are_looked_at_before_the_network_is() {
    let dir = certs();
    for (dir, name) in [
        (dir.path(), Some("stranger")),
        (Path::new("/no/such/folder"), None),
    ] {
        // Nobody listens on port 1; that is not what is complained of.
        let error = Connection::open(&"https://127.0.0.1:1".parse().unwrap(), &trust(dir, name), WITHIN)
            .await
            .unwrap_err();
        assert!(
            matches!(error, ConnectError::Trust(TrustError::Load(_))),
            "{error:?}"
        );
    }
}
