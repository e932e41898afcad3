//! Which peers are on this machine, and which versions of them.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::ensure;
use tokio::process::Command;

use super::Peer;
use crate::inside::on_path;
use crate::lab::Variant;

/// So many are measured beside the carriers when nobody says which.
const BY_DEFAULT: usize = 2;

/// How long a program may take to say which version it is.
const UNTIL_VERSION: Duration = Duration::from_secs(10);

/// Whether the programs of all peers among them are there: before anything is begun.
pub(crate) fn ensure_installed(variants: &[Variant]) -> anyhow::Result<()> {
    let path = std::env::var_os("PATH");
    for peer in variants.iter().filter_map(Variant::peer) {
        let missing = missing(peer, path.as_deref());
        ensure!(
            missing.is_empty(),
            "{peer} cannot be measured without the command {}, and there is none on the PATH: install {}",
            missing.join(" and the command "),
            peer.source()
        );
    }
    Ok(())
}

/// The first few that are on the PATH, and what to tell of those that are not.
pub(crate) fn installed_peers() -> (Vec<Variant>, Vec<String>) {
    found_on(std::env::var_os("PATH").as_deref())
}

fn found_on(path: Option<&OsStr>) -> (Vec<Variant>, Vec<String>) {
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    for peer in Peer::all() {
        if found.len() == BY_DEFAULT {
            break;
        }
        let missing = missing(&peer, path);
        if missing.is_empty() {
            found.push(Variant::Peer(peer));
        } else {
            left_out.push(format!(
                "{peer} is left out: there is no {} on the PATH; to have it measured, install {}",
                missing.join(" and no "),
                peer.source()
            ));
        }
    }
    (found, left_out)
}

fn missing(peer: &Peer, path: Option<&OsStr>) -> Vec<&'static str> {
    let programs = peer.programs().iter().copied();
    programs
        .filter(|program| on_path(path, program).is_none())
        .collect()
}

/// Of the peers among them, as an item of a Markdown list; nothing where there is none.
pub(crate) async fn peer_versions(variants: &[Variant]) -> String {
    let mut versions: Vec<String> = Vec::new();
    for peer in variants.iter().filter_map(Variant::peer) {
        let version = version(peer).await;
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    if versions.is_empty() {
        return String::new();
    }
    format!("- other tunnels: {}\n", versions.join("; "))
}

/// What it says that it is. One that does not say it may still be measured.
async fn version(peer: &Peer) -> String {
    let (program, argument) = peer.tells_version();
    let said = Command::new(program)
        .arg(argument)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let said = tokio::time::timeout(UNTIL_VERSION, said).await;
    let text = match said {
        Ok(Ok(said)) if said.status.success() => String::from_utf8_lossy(&said.stdout).into_owned(),
        _ => String::new(),
    };
    match text.lines().map(str::trim).find(|line| !line.is_empty()) {
        // Not everybody says its name.
        Some(line) if line.starts_with(|first: char| first.is_ascii_digit()) => format!("{program} {line}"),
        Some(line) => line.to_owned(),
        None => format!("{program} (it does not say its version)"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use std::fs;

    use super::*;

    #[test]
    fn peers_that_are_not_there_are_left_out_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = Some(folder.path().as_os_str());
        let add = |program: &str| fs::write(folder.path().join(program), "").unwrap();
        let found = || {
            let (found, left_out) = found_on(path);
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            (found, left_out)
        };
        let (none, left_out) = found();
        assert!(none.is_empty() && left_out.len() == 4, "{none:?} {left_out:?}");
        assert!(
            left_out[0].starts_with("frp-quic is left out: there is no frps and no frpc on the PATH"),
            "{left_out:?}"
        );

        // Half of it is not enough.
        add("frps");
        add("haproxy");
        let (one, left_out) = found();
        assert_eq!(one, ["haproxy/bbr"]);
        assert!(left_out[0].contains("no frpc"), "{left_out:?}");

        add("frpc");
        add("wstunnel");
        assert_eq!(
            found(),
            (vec!["frp-quic".to_owned(), "wstunnel/bbr".to_owned()], vec![])
        );
        assert_eq!(found_on(None).0, []);
    }
}
