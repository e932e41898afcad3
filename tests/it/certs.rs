//! `adit certs`, as a script uses it.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say why they skip"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use adit_certs::{CredentialFiles, Credentials, Role};
use tempfile::TempDir;

/// `adit certs` with `arguments`, in `dir` and without variables that would change what it does.
fn certs(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    command.arg("certs").args(arguments).current_dir(dir);
    for name in ["DIR", "DAYS", "FORCE", "SAN", "TRUST_DOMAIN"] {
        command.env_remove(format!("ADIT_CERTS_{name}"));
    }
    command
}

fn succeeds(dir: &Path, arguments: &[&str]) -> String {
    let output = certs(dir, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// What is printed about a failure with `code`.
fn fails(dir: &Path, arguments: &[&str], code: i32) -> String {
    let output = certs(dir, arguments).output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{arguments:?}: {}",
        stderr(&output)
    );
    stderr(&output)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A CA and one certificate of each kind in `adit-certs`.
fn everything(dir: &Path) {
    succeeds(dir, &["init", "--trust-domain", "prod.example"]);
    succeeds(dir, &["hub", "--san", "hub.example", "--san", "192.0.2.7,::1"]);
    succeeds(dir, &["agent", "site-7"]);
    succeeds(dir, &["client", "billing"]);
    succeeds(dir, &["server", "orders", "--san", "localhost"]);
}

#[test]
fn a_ca_and_its_certificates_get_the_names_that_everything_else_reads() {
    let temporary = TempDir::new().unwrap();
    everything(temporary.path());
    let dir = temporary.path().join("adit-certs");
    let mut names: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = ["agent-site-7", "ca", "client-billing", "hub", "server-orders"];
    let expected: Vec<_> = expected
        .iter()
        .flat_map(|stem| [format!("{stem}.key"), format!("{stem}.pem")])
        .collect();
    assert_eq!(names, expected);

    let site_7 = "site-7".parse().unwrap();
    let agent = Credentials::load(&CredentialFiles::agent(&dir, &site_7), Role::Agent).unwrap();
    assert_eq!(
        agent.identity().unwrap().to_string(),
        "spiffe://prod.example/agent/site-7"
    );
    Credentials::load(&CredentialFiles::hub(&dir), Role::Hub).unwrap();
    Credentials::load(
        &CredentialFiles::client(&dir, &"billing".parse().unwrap()),
        Role::Client,
    )
    .unwrap();
    Credentials::load(
        &CredentialFiles::server(&dir, &"orders".parse().unwrap()),
        Role::Server,
    )
    .unwrap();
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_keys() {
    use std::os::unix::fs::PermissionsExt;
    let temporary = TempDir::new().unwrap();
    everything(temporary.path());
    for entry in fs::read_dir(temporary.path().join("adit-certs")).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        let is_key = entry.path().extension().unwrap() == "key";
        assert!(
            if is_key { mode == 0o600 } else { mode & 0o133 == 0 },
            "{:?} has mode {mode:o}",
            entry.path()
        );
    }
}

#[test]
fn nothing_is_overwritten_without_force() {
    let temporary = TempDir::new().unwrap();
    everything(temporary.path());
    let dir = temporary.path().join("adit-certs");
    for (arguments, stem) in [
        (&["init"][..], "ca"),
        (&["hub", "--san", "other.example"], "hub"),
        (&["agent", "site-7"], "agent-site-7"),
        (&["client", "billing"], "client-billing"),
        (&["server", "orders", "--san", "localhost"], "server-orders"),
    ] {
        for kept in ["pem", "key"] {
            let path = dir.join(format!("{stem}.{kept}"));
            let other = dir.join(format!("{stem}.{}", if kept == "pem" { "key" } else { "pem" }));
            let hidden = dir.join("hidden");
            let before = fs::read(&path).unwrap();
            // The CA must stay whole to issue; of the others, one file alone is enough to stop.
            if stem != "ca" {
                fs::rename(&other, &hidden).unwrap();
            }
            let error = fails(temporary.path(), arguments, 1);
            assert!(error.contains(stem) && error.contains("--force"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), before);
            if stem != "ca" {
                assert!(!other.exists(), "{other:?} was written");
                fs::rename(&hidden, &other).unwrap();
            }
        }
    }
    let before = fs::read(dir.join("agent-site-7.pem")).unwrap();
    succeeds(temporary.path(), &["agent", "site-7", "--force"]);
    assert_ne!(fs::read(dir.join("agent-site-7.pem")).unwrap(), before);
    let output = succeeds(temporary.path(), &["init", "--force"]);
    assert!(output.contains("issue them again"), "{output}");
}

#[test]
fn show_tells_what_is_in_a_file_and_keeps_keys_to_itself() {
    let temporary = TempDir::new().unwrap();
    everything(temporary.path());
    let hub = succeeds(
        temporary.path(),
        &["show", "adit-certs/hub.pem", "adit-certs/hub.key"],
    );
    for line in [
        "adit-certs/hub.pem",
        "subject      CN=adit hub",
        "names        URI spiffe://prod.example/hub, DNS hub.example, IP 192.0.2.7, IP ::1",
        "issuer       CN=adit CA ",
        "(89 days left)",
        "usages       digitalSignature, serverAuth",
        "key          EC P-256",
        "SHA-256      ",
        "adit-certs/hub.key\nprivate key (EC P-256)\n",
    ] {
        assert!(hub.contains(line), "{line:?} is missing in:\n{hub}");
    }
    let key = fs::read_to_string(temporary.path().join("adit-certs/hub.key")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    assert!(!hub.contains(&secret[..16]), "the key was printed");
    let ca = succeeds(temporary.path(), &["show", "adit-certs/ca.pem"]);
    for line in [
        "URI spiffe://prod.example\n",
        "(3649 days left)",
        "keyCertSign, cRLSign",
        "yes, path length 0",
    ] {
        assert!(ca.contains(line), "{line:?} is missing in:\n{ca}");
    }
}

#[test]
fn show_goes_on_after_a_file_that_it_cannot_show() {
    let temporary = TempDir::new().unwrap();
    succeeds(temporary.path(), &["init"]);
    fs::write(temporary.path().join("text"), "hello").unwrap();
    let output = certs(
        temporary.path(),
        &["show", "text", "none.pem", "adit-certs/ca.pem"],
    )
    .output()
    .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("CN=adit CA"));
    let error = stderr(&output);
    assert!(
        error.contains("\"text\" holds no certificate") && error.contains("cannot read \"none.pem\""),
        "{error}"
    );
}

#[test]
fn validity_is_what_was_asked_for_but_never_longer_than_the_cas() {
    let temporary = TempDir::new().unwrap();
    succeeds(temporary.path(), &["init", "--days", "30"]);
    let output = succeeds(temporary.path(), &["agent", "a", "--days", "7"]);
    assert!(!output.contains("ends with its CA"), "{output}");
    assert!(succeeds(temporary.path(), &["show", "adit-certs/agent-a.pem"]).contains("(6 days left)"));
    let output = succeeds(temporary.path(), &["agent", "b"]);
    assert!(
        output.contains("ends with its CA, sooner than the 90 days"),
        "{output}"
    );
    assert!(succeeds(temporary.path(), &["show", "adit-certs/agent-b.pem"]).contains("(29 days left)"));
    fails(temporary.path(), &["agent", "c", "--days", "0"], 2);
}

#[test]
fn environment_variables_stand_for_flags_and_flags_beat_them() {
    let temporary = TempDir::new().unwrap();
    let run = |arguments: &[&str], variables: &[(&str, &str)]| {
        let output = certs(temporary.path(), arguments)
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    };
    let dir = ("ADIT_CERTS_DIR", "elsewhere");
    run(
        &["init"],
        &[
            dir,
            ("ADIT_CERTS_TRUST_DOMAIN", "env.example"),
            ("ADIT_CERTS_DAYS", "20"),
        ],
    );
    run(&["hub"], &[dir, ("ADIT_CERTS_SAN", "one.example,two.example")]);
    run(
        &["hub"],
        &[
            dir,
            ("ADIT_CERTS_SAN", "one.example,two.example"),
            ("ADIT_CERTS_FORCE", "1"),
        ],
    );
    run(&["agent", "a", "--days", "3"], &[dir, ("ADIT_CERTS_DAYS", "20")]);
    let shown = succeeds(
        temporary.path(),
        &[
            "show",
            "elsewhere/ca.pem",
            "elsewhere/hub.pem",
            "elsewhere/agent-a.pem",
        ],
    );
    for part in [
        "spiffe://env.example\n",
        "(19 days left)",
        "DNS one.example, DNS two.example",
        "(2 days left)",
    ] {
        assert!(shown.contains(part), "{part:?} is missing in:\n{shown}");
    }
}

#[test]
fn wrong_arguments_are_usage_errors_that_say_the_rule() {
    let temporary = TempDir::new().unwrap();
    let dir = temporary.path();
    for (arguments, rule) in [
        (&["agent", "Site_7"][..], "must be a DNS label"),
        (&["client", "a/b"], "is no client name"),
        (
            &["server", "../hub", "--san", "localhost"],
            "cannot name a server's certificate",
        ),
        (&["hub", "--san", "https://hub.example"], "without a port"),
        (&["hub", "--san", "hub.example:4433"], "without a port"),
        (&["hub"], "--san <HOST>"),
        (&["server", "orders"], "--san <HOST>"),
        (&["init", "--trust-domain", "Prod"], "is no trust domain"),
        (&["show"], "<FILE>"),
    ] {
        let error = fails(dir, arguments, 2);
        assert!(error.contains(rule), "{error}");
    }
    assert!(!dir.join("adit-certs").exists());
}

#[test]
fn issuing_without_a_ca_says_how_to_make_one() {
    let temporary = TempDir::new().unwrap();
    let error = fails(temporary.path(), &["agent", "site-7"], 1);
    assert!(
        error.contains("ca.pem") && error.contains("adit certs init --dir ./adit-certs"),
        "{error}"
    );
    // The certificate alone, as on the other machines, issues nothing.
    succeeds(temporary.path(), &["init"]);
    fs::remove_file(temporary.path().join("adit-certs/ca.key")).unwrap();
    let error = fails(temporary.path(), &["agent", "site-7"], 1);
    assert!(error.contains("ca.key"), "{error}");
}

/// What another implementation makes of the certificates.
#[test]
fn openssl_agrees() {
    let temporary = TempDir::new().unwrap();
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: openssl is not on the PATH");
        return;
    }
    everything(temporary.path());
    let openssl = |arguments: &[&str]| {
        let dir = temporary.path().join("adit-certs");
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(dir)
            .output()
            .unwrap();
        (
            output.status.success(),
            format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output)),
        )
    };
    for (file, purpose, other) in [
        ("hub.pem", "sslserver", "sslclient"),
        ("server-orders.pem", "sslserver", "sslclient"),
        ("agent-site-7.pem", "sslclient", "sslserver"),
        ("client-billing.pem", "sslclient", "sslserver"),
    ] {
        let verify = |purpose| {
            openssl(&[
                "verify",
                "-x509_strict",
                "-CAfile",
                "ca.pem",
                "-purpose",
                purpose,
                file,
            ])
        };
        let (good, text) = verify(purpose);
        assert!(good, "{file}: {text}");
        assert!(!verify(other).0, "{file} is good for {other}");
    }
    let (good, text) = openssl(&[
        "verify",
        "-x509_strict",
        "-CAfile",
        "ca.pem",
        "-verify_ip",
        "192.0.2.7",
        "hub.pem",
    ]);
    assert!(good, "{text}");
    let (_, text) = openssl(&[
        "x509",
        "-in",
        "agent-site-7.pem",
        "-noout",
        "-text",
        "-fingerprint",
        "-sha256",
    ]);
    for part in [
        "URI:spiffe://prod.example/agent/site-7",
        "TLS Web Client Authentication",
        "X509v3 Key Usage: critical\n                Digital Signature",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
        "CA:FALSE",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    let fingerprint = text
        .lines()
        .find_map(|line| line.split_once("Fingerprint="))
        .unwrap()
        .1
        .to_owned();
    assert!(succeeds(temporary.path(), &["show", "adit-certs/agent-site-7.pem"]).contains(&fingerprint));
    let (good, text) = openssl(&["pkey", "-in", "agent-site-7.key", "-check", "-noout"]);
    assert!(good, "{text}");
}
