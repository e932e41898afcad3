//! Certificates that are not good enough: said at the start where it can be, and else by both ends of the handshake.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use adit_certs::{CredentialFiles, Directory, Existing, Subject, TrustStore, Validity, provider};
use adit_transport::{Dialer, Tuning};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use time::{Duration, OffsetDateTime};

use crate::world::process::{self, HubProcess};
use crate::world::sample::{self, Sample};
use crate::world::{World, a_day, expired, soon};

/// `adit agent` with these files, and an id that they are or are not for.
async fn agent_fails(id: &str, files: &CredentialFiles) -> String {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (ca, cert, key) = (text(&files.ca), text(&files.cert), text(&files.key));
    let arguments = [
        "agent",
        "--id",
        id,
        "--hub",
        "127.0.0.1:1",
        "--upstream",
        "http://127.0.0.1:1",
        "--ca",
        &ca,
        "--cert",
        &cert,
        "--key",
        &key,
    ];
    process::fails(&arguments, 1).await
}

fn has(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
}

#[tokio::test]
async fn an_agent_says_at_its_start_what_is_wrong_with_its_files() {
    let (world, other) = (World::new(), World::new());
    let good = world.agent_files("site-a");
    let foreign = other.agent_files("site-a");

    let said = agent_fails("site-b", &good).await;
    has(&said, &["agent-site-a.pem", "site-b"]);

    let mixed = CredentialFiles {
        ca: foreign.ca.clone(),
        ..good.clone()
    };
    has(&agent_fails("site-a", &mixed).await, &["agent-site-a.pem", "CA"]);

    let swapped = CredentialFiles {
        key: foreign.key,
        ..good.clone()
    };
    let said = agent_fails("site-a", &swapped).await;
    has(&said, &["agent-site-a.key", "does not belong"]);

    let hubs = CredentialFiles {
        ca: good.ca.clone(),
        ..CredentialFiles::hub(world.certs())
    };
    has(
        &agent_fails("site-a", &hubs).await,
        &["hub.pem", "adit certs agent"],
    );

    let name: adit_certs::ClientName = "billing".parse().unwrap();
    world.issue(&Subject::Client(name.clone()), a_day());
    let clients = CredentialFiles::client(world.certs(), &name);
    let said = agent_fails("site-a", &clients).await;
    has(&said, &["client-billing.pem", "spiffe://adit/client/billing"]);

    world.issue(&Subject::Agent("old".parse().unwrap()), expired());
    let old = CredentialFiles::agent(world.certs(), &"old".parse().unwrap());
    has(&agent_fails("old", &old).await, &["agent-old.pem", "expired"]);

    let missing = CredentialFiles {
        key: world.certs().join("nowhere.key"),
        ..good.clone()
    };
    let said = agent_fails("site-a", &missing).await;
    has(&said, &["nowhere.key", "cannot read"]);

    // A directory can be opened by nobody as a file, not even by root.
    let unreadable = CredentialFiles {
        key: world.certs().to_owned(),
        ..good.clone()
    };
    has(
        &agent_fails("site-a", &unreadable).await,
        &["cannot read the private key"],
    );

    let garbage = world.certs().join("garbage.key");
    std::fs::write(&garbage, "no key").unwrap();
    let garbage = CredentialFiles { key: garbage, ..good };
    has(&agent_fails("site-a", &garbage).await, &["garbage.key"]);
}

#[tokio::test]
async fn a_hub_says_at_its_start_what_is_wrong_with_its_files() {
    let world = World::new();
    let agent = world.agent_files("site-a");
    let [ca, cert, key] = [&agent.ca, &agent.cert, &agent.key].map(|path| path.to_str().unwrap());
    let said = process::fails(&["hub", "--ca", ca, "--cert", cert, "--key", key], 1).await;
    has(&said, &["agent-site-a.pem", "adit certs hub"]);

    let said = process::fails(&["hub"], 1).await;
    has(&said, &["--certs", "--ca, --cert and --key"]);

    let said = process::fails(&["hub", "--certs", "/no/such/directory"], 1).await;
    has(&said, &["/no/such/directory", "cannot read"]);

    let said = process::fails(&["hub", "--certs", world.dir(), "--trust-domain", "other"], 1).await;
    has(&said, &["--trust-domain other", "adit"]);
}

/// TLS settings of an agent that checks nothing about itself.
fn careless(ca: &Path, cert: Option<(&Path, &Path)>) -> Dialer {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(Arc::clone(TrustStore::load(ca).unwrap().roots()));
    let config = match cert {
        Some((cert, key)) => {
            let certificates = CertificateDer::pem_file_iter(cert).unwrap();
            let certificates = certificates.collect::<Result<_, _>>().unwrap();
            let key = PrivateKeyDer::from_pem_file(key).unwrap();
            let certified = CertifiedKey::from_der(certificates, key, &provider()).unwrap();
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
        None => builder.with_no_client_auth(),
    };
    Dialer::new(config, Tuning::default()).unwrap()
}

/// What an agent hears whose certificate the hub refuses.
async fn refused(dialer: &Dialer, hub: SocketAddr) -> String {
    match soon(dialer.dial(hub, "127.0.0.1")).await {
        // The hub's half of the handshake comes after the agent's.
        Ok(link) => soon(link.serve(|_| async { panic!("a call came") }))
            .await
            .to_string(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_hub_refuses_certificates_and_says_why() {
    let (world, other) = (World::new(), World::new());
    let hub = HubProcess::start(&world, &[]).await;
    let sample = Sample::start().await;
    let _good = hub.agent(&world, "good", &["--upstream", &sample.url()]);
    hub.has("good").await;
    let ca = world.agent_files("good").ca;

    let foreign = other.agent_files("site-a");
    let name: adit_certs::UpstreamName = "orders".parse().unwrap();
    let server = Subject::Server {
        name: name.clone(),
        sans: vec!["localhost".parse().unwrap()],
    };
    world.issue(&server, a_day());
    let server = CredentialFiles::server(world.certs(), &name);
    world.issue(&Subject::Agent("old".parse().unwrap()), expired());
    let old = CredentialFiles::agent(world.certs(), &"old".parse().unwrap());
    let name: adit_certs::ClientName = "billing".parse().unwrap();
    world.issue(&Subject::Client(name.clone()), a_day());
    let client = CredentialFiles::client(world.certs(), &name);

    let cases = [
        ("another CA's", Some(&foreign), "UnknownIssuer"),
        ("expired", Some(&old), "expired"),
        ("a server's", Some(&server), "key usage"),
        ("none", None, "certificate"),
        ("a client's", Some(&client), "spiffe://adit/client/billing"),
    ];
    for (what, files, reason) in cases {
        let files = files.map(|files| (files.cert.as_path(), files.key.as_path()));
        let heard = refused(&careless(&ca, files), hub.agents).await;
        let log = hub.process.says(&["WARN", "refused a link", reason]).await;
        assert!(
            heard.contains("certificate"),
            "{what}: the agent hears {heard}; the hub logs {log}"
        );
        sample::four_kinds(hub.clients, Some("good")).await;
    }
}

#[tokio::test]
async fn a_certificate_is_found_to_be_over_at_its_next_handshake() {
    // Valid when the agent starts, and over when the hub looks at it.
    let world = World::new();
    let sample = Sample::start().await;
    let hub = HubProcess::start(&world, &[]).await;
    let now = OffsetDateTime::now_utc();
    let short = Validity::between(now - Duration::minutes(1), now + Duration::seconds(3));
    world.issue(&Subject::Agent("short".parse().unwrap()), short);
    let agent = hub.agent(&world, "short", &["--upstream", &sample.url()]);
    hub.has("short").await;
    sample::four_kinds(hub.clients, Some("short")).await;
    let mut first = hub;
    let left = short.not_after() - OffsetDateTime::now_utc() + Duration::seconds(1);
    tokio::time::sleep(left.try_into().unwrap_or_default()).await;
    first.process.kill().await;
    let hub = first.again(&world, &[]).await;
    hub.process.says(&["WARN", "refused a link", "expired"]).await;
    agent.says(&["WARN", "ertificate", "expired"]).await;
}

#[tokio::test]
async fn an_agent_refuses_a_hub_of_another_ca_or_name() {
    let (world, other) = (World::new(), World::new());
    let hub = HubProcess::start(&world, &[]).await;
    let sample = Sample::start().await;
    let _good = hub.agent(&world, "good", &["--upstream", &sample.url()]);
    hub.has("good").await;

    let mut stranger = hub.agent(&other, "site-a", &["--upstream", &sample.url()]);
    stranger
        .says(&["WARN", "cannot reach the hub", "127.0.0.1", "UnknownIssuer"])
        .await;
    hub.process.says(&["WARN", "refused a link", "ertificate"]).await;

    // A hub at an address that its certificate is not for.
    let elsewhere = world
        .hub_with(|hub| hub.agents("127.0.0.2:0".parse().unwrap()))
        .await;
    world.agent_files("site-b");
    let address = elsewhere.agents.to_string();
    let mut wrong_name = process::Process::start(&[
        "agent",
        "--certs",
        world.dir(),
        "--id",
        "site-b",
        "--hub",
        &address,
        "--upstream",
        "http://127.0.0.1:1",
    ]);
    wrong_name
        .says(&["WARN", "cannot reach the hub", &address, "not valid for name"])
        .await;
    for agent in [&mut stranger, &mut wrong_name] {
        assert!(
            agent.runs(),
            "it tries again: the hub may get another certificate"
        );
    }
    sample::four_kinds(hub.clients, Some("good")).await;
}

#[tokio::test]
async fn a_certificate_issued_again_is_taken() {
    let world = World::new();
    let hub = HubProcess::start(&world, &[]).await;
    let sample = Sample::start().await;
    for _ in 0..2 {
        let subject = Subject::Agent("site-a".parse().unwrap());
        let issued = world.authority.issue(&subject, a_day()).unwrap();
        let directory = Directory::new(world.certs());
        directory.write(&subject, &issued, Existing::Replace).unwrap();
        let mut agent = hub.agent(&world, "site-a", &["--upstream", &sample.url()]);
        sample::four_kinds(hub.clients, Some("site-a")).await;
        assert_eq!(agent.terminate().await.code(), Some(0));
    }
}
