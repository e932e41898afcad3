//! What hubs and agents write for those who look into packets: qlog, and the keys of TLS.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::world::process::{self, HubProcess, Process};
use crate::world::raw::{RawClient, to};
use crate::world::tls::TlsClient;
use crate::world::upstream::Server;
use crate::world::{World, soon};

/// A hub as a process on free ports, with environment variables.
async fn hub_with(world: &World, arguments: &[&str], variables: &[(&str, &str)]) -> HubProcess {
    let base = ["hub", "--certs", world.dir(), "--agents", "127.0.0.1:0"];
    let ports = ["--clients", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let all = [&base[..], &ports, arguments].concat();
    HubProcess::listening(Process::start_with(&all, variables)).await
}

/// Its agent, the same way.
fn agent_with(
    world: &World,
    hub: &HubProcess,
    upstream: &Server,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> Process {
    let (hub, upstream) = (hub.agents.to_string(), upstream.url());
    let more = [&["--upstream", &upstream], arguments].concat();
    Process::start_with(&world.agent_arguments("site-a", &hub, &more), variables)
}

/// The files in a folder, the oldest first.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The header of a qlog file, and its events: every record begins with RS and ends with a newline (RFC 7464).
fn read(file: &Path) -> (Value, Vec<Value>) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.ends_with('\n'), "a record is cut: {text}");
    let records = text.strip_prefix('\x1e').unwrap().split('\x1e');
    let mut records = records.map(|record| serde_json::from_str(record).unwrap());
    (records.next().unwrap(), records.collect())
}

fn count(events: &[Value], name: &str) -> usize {
    events.iter().filter(|event| event["name"] == name).count()
}

/// The connection that a file is of, by the id that the other end gave it last.
fn connection(events: &[Value]) -> String {
    events.last().unwrap()["group_id"].as_str().unwrap().to_owned()
}

/// The address in a file's name of one role: TIME-ROLE-ADDRESS_PORT-PROCESS-NUMBER.sqlog.
fn peer(file: &Path, role: &str) -> SocketAddr {
    let name = file.file_name().unwrap().to_str().unwrap();
    let mut parts = name.strip_suffix(".sqlog").unwrap().split('-');
    assert!(parts.next().unwrap().starts_with("20"), "{name}");
    assert_eq!(parts.next(), Some(role), "{name}");
    parts.next().unwrap().replace('_', ":").parse().unwrap()
}

#[tokio::test]
async fn each_end_of_a_quic_link_has_a_file_of_what_happened() {
    let (world, echo) = (World::new(), Server::echo().await);
    let (hubs, agents) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    // All three ways to say it.
    let config = world.certs().join("hub.toml");
    fs::write(&config, format!("qlog = {:?}", hubs.path())).unwrap();
    let mut hub = hub_with(&world, &["--config", config.to_str().unwrap()], &[]).await;
    let folder = agents.path().to_str().unwrap();
    let variable = [("ADIT_AGENT_QLOG", folder)];
    let quic = ["--carrier", "quic"];
    let client = RawClient::connect(hub.clients).await;
    let mut first = agent_with(&world, &hub, &echo, &quic, &variable);
    client.get_at("site-a", "/a.B/C").await.succeeded();
    // It has no time to write anything more.
    first.kill().await;
    let flag = ["--carrier", "quic", "--qlog", folder];
    let mut second = agent_with(&world, &hub, &echo, &flag, &[]);
    hub.process.says_times(&["an agent is connected"], 2).await;
    second.kill().await;
    // A link over another carrier is none of QUIC's.
    let mut third = agent_with(&world, &hub, &echo, &["--carrier", "tls", "--qlog", folder], &[]);
    hub.process.says_times(&["an agent is connected"], 3).await;
    third.kill().await;
    // Nobody writes while the files are read.
    hub.process.kill().await;

    let (of_hub, of_agents) = (files(hubs.path()), files(agents.path()));
    assert_eq!(
        (of_hub.len(), of_agents.len()),
        (2, 2),
        "{of_hub:?} {of_agents:?}"
    );
    let mut connections = BTreeSet::new();
    for (at_hub, at_agent) in of_hub.iter().zip(&of_agents) {
        assert_eq!(peer(at_agent, "agent"), hub.agents);
        let from = peer(at_hub, "hub");
        hub.process
            .says(&["an agent is connected", &format!("peer={from}")])
            .await;
        let (header, there) = read(at_hub);
        assert_eq!(header["qlog_format"], "JSON-SEQ");
        assert_eq!(header["title"], format!("adit hub: link with {from}"));
        let (header, here) = read(at_agent);
        assert_eq!(header["title"], format!("adit agent: link with {}", hub.agents));
        for events in [&here, &there] {
            for name in [
                "transport:packet_sent",
                "transport:packet_received",
                "recovery:metrics_updated",
            ] {
                assert!(count(events, name) > 0, "no {name} in {events:?}");
            }
        }
        connections.extend([connection(&here), connection(&there)]);
    }
    assert_eq!(
        connections.len(),
        4,
        "each link has a file of its own: {connections:?}"
    );
}

/// Lines of a file of keys, which may be written at this moment.
fn keys(file: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The connections that a file has keys of: TLS's client randoms.
fn randoms(keys: &BTreeSet<String>) -> BTreeSet<&str> {
    keys.iter().map(|line| line.split(' ').nth(1).unwrap()).collect()
}

#[tokio::test]
async fn keys_are_written_where_the_environment_says_with_a_warning() {
    let (world, echo) = (World::new(), Server::echo().await);
    let folder = TempDir::new().unwrap();
    let [at_hub, at_agent] = ["hub", "agent"].map(|name| folder.path().join(name));
    let set = |file: &Path| [("SSLKEYLOGFILE", file.to_str().unwrap().to_owned())];
    let variable = set(&at_hub);
    let variable = variable.each_ref().map(|(name, value)| (*name, value.as_str()));
    let hub = hub_with(&world, &["--client-tls", "mutual"], &variable).await;
    let line = hub.process.says(&["WARN", "SSLKEYLOGFILE is set"]).await;
    assert!(line.contains(variable[0].1), "{line}");
    assert_eq!(keys(&at_hub).len(), 0, "nobody has connected");

    let variable = set(&at_agent);
    let variable = variable.each_ref().map(|(name, value)| (*name, value.as_str()));
    for (links, carrier) in (1..).zip(["quic", "tls", "websocket"]) {
        let mut agent = agent_with(&world, &hub, &echo, &["--carrier", carrier], &variable);
        let line = agent.says(&["WARN", "SSLKEYLOGFILE is set"]).await;
        assert!(line.contains(variable[0].1), "{line}");
        hub.process.says_times(&["an agent is connected"], links).await;
        let (here, there) = (keys(&at_agent), keys(&at_hub));
        assert_eq!(randoms(&here).len(), links, "{carrier}");
        assert!(
            here.is_subset(&there),
            "both ends have the same keys: {here:?} {there:?}"
        );
        let handshake = here
            .iter()
            .any(|line| line.starts_with("CLIENT_TRAFFIC_SECRET_0 "));
        assert!(handshake, "{here:?}");
        agent.terminate().await;
        hub.process.says_times(&["an agent's link ended"], links).await;
    }
    let billing = world.client_files("billing");
    let client = TlsClient::new(&billing.ca, Some(&billing))
        .http2(hub.clients)
        .await;
    let agent = agent_with(&world, &hub, &echo, &[], &[]);
    soon(client.get(to("site-a", "/a.B/C"))).await.succeeded();
    assert_eq!(agent.said(&["SSLKEYLOGFILE"]), 0);
    let (here, there) = (keys(&at_agent), keys(&at_hub));
    let more = randoms(&there).len() - randoms(&here).len();
    assert_eq!(
        more, 2,
        "the client's connection, and the link of the agent that writes none"
    );
    for file in [at_hub, at_agent] {
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_written_is_refused_at_the_start() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("missing");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let key_file = missing.join("keys");
    let hub = ["hub", "--certs", world.dir(), "--agents", "127.0.0.1:0"];
    let agent = world.agent_arguments("site-a", "127.0.0.1:1", &["--upstream", "http://127.0.0.1:2"]);
    for command in [&hub[..], &agent] {
        for (bad, check) in [(&missing, true), (&missing, false), (&file, false)] {
            let bad = bad.to_str().unwrap();
            let mut arguments = [command, &["--qlog", bad]].concat();
            arguments.extend(check.then_some("--check-config"));
            let stderr = process::fails(&arguments, 1).await;
            assert!(stderr.contains(bad) && stderr.contains("--qlog"), "{stderr}");
        }
        let bad = key_file.to_str().unwrap();
        let output = process::output_with(command, &[("SSLKEYLOGFILE", bad)]).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains(bad) && stderr.contains("SSLKEYLOGFILE"),
            "{stderr}"
        );
    }
    assert_eq!(files(folder.path()), [file], "nothing is left behind");
}
