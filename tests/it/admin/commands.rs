//! `adit agents`, `adit list` and `adit status`.

use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::links::Chat;
use super::{Operator, ROUTE_GUIDE, ready};
use crate::world::process::{self, HubProcess, Process};
use crate::world::sample::Sample;
use crate::world::{Agent, Hub, SHORT_GRACE, World, soon};

/// What a command prints that succeeds.
async fn said(hub: &Hub, arguments: &[&str]) -> String {
    let admin = format!("http://{}", hub.admin);
    let output = process::output(&[arguments, &["--admin", &admin]].concat()).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// The same as JSON.
async fn json(hub: &Hub, arguments: &[&str]) -> Value {
    let text = said(hub, &[arguments, &["-o", "json"]].concat()).await;
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// What a command says that fails with `code`.
async fn failed(hub: &Hub, arguments: &[&str], code: i32) -> String {
    let admin = format!("http://{}", hub.admin);
    process::fails(&[arguments, &["--admin", &admin]].concat(), code).await
}

/// A hub, and two agents of it in front of the sample service.
async fn two_agents(world: &World) -> (Hub, Sample, [Agent; 2], Operator) {
    let hub = world.hub_with(|hub| hub.drain_timeout(SHORT_GRACE)).await;
    let sample = Sample::start().await;
    let agents = ["site-1", "site-2"].map(|id| world.agent(&hub, id, &sample.url()));
    let mut operator = Operator::of(&hub).await;
    operator.sees(ready(2)).await;
    (hub, sample, agents, operator)
}

#[tokio::test]
async fn agents_are_listed_for_people_and_programs() {
    let world = World::new();
    let (hub, _sample, _agents, operator) = two_agents(&world).await;

    let table = said(&hub, &["agents"]).await;
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert_eq!(lines[0][..5], ["AGENT", "LINK", "INSTANCE", "SLOT", "STATE"]);
    assert_eq!((lines[1][0], lines[1][4]), ("site-1", "ready"));
    assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{table}");

    let all = json(&hub, &["agents"]).await;
    assert_eq!(all.as_array().unwrap().len(), 2);
    let one = &json(&hub, &["agents", "site-2"]).await[0];
    let link = operator
        .links
        .values()
        .find(|link| link.agent == "site-2")
        .unwrap();
    assert_eq!(one["agent"], "site-2");
    assert_eq!(one["link"], link.id);
    assert_eq!(one["instance"], link.instance);
    assert_eq!(
        (&one["slot"], &one["exclusive"], &one["down"]),
        (&0.into(), &false.into(), &false.into())
    );
    assert_eq!(one["generation"], link.generation);
    assert_eq!(
        (&one["state"], &one["carrier"]),
        (&"ready".into(), &"quic".into())
    );
    assert_eq!(one["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(one["remote_address"], link.remote_address);
    assert!(one["round_trip_ms"].as_f64().unwrap() > 0.0);
    assert!(one["connected_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!((&one["calls"], &one["calls_in_flight"]), (&0.into(), &0.into()));
    assert!(one["services"].as_array().unwrap().contains(&ROUTE_GUIDE.into()));
    assert!(one["labels"].is_object() && one["not_serving"].is_array());

    let problem = failed(&hub, &["agents", "nobody"], 1).await;
    assert!(problem.contains("nobody is not connected"), "{problem}");
    assert!(problem.contains("; connected: site-1, site-2"), "{problem}");
    let problem = failed(&hub, &["list", "siet-1"], 1).await;
    assert!(problem.contains("; did you mean site-1?"), "{problem}");
}

#[tokio::test]
async fn agents_are_drained_resumed_and_kicked() {
    let world = World::new();
    let (hub, _sample, _agents, mut operator) = two_agents(&world).await;
    let of_1 = operator
        .links
        .values()
        .find(|link| link.agent == "site-1")
        .unwrap()
        .clone();

    let text = said(&hub, &["agents", "drain", "site-1"]).await;
    assert!(text.starts_with("1 link of site-1 "), "{text}");
    assert_eq!(json(&hub, &["agents", "site-1"]).await[0]["state"], "draining");
    assert_eq!(
        json(&hub, &["list", "site-1"]).await[0]["agents"][0]["serving"],
        false
    );
    assert_eq!(json(&hub, &["agents", "resume", "site-1"]).await["links"], 1);
    assert_eq!(json(&hub, &["agents", "site-1"]).await[0]["state"], "ready");

    let begin = &of_1.instance[..8];
    assert_eq!(
        json(&hub, &["agents", "drain", "site-1", "--instance", begin]).await["links"],
        1
    );
    assert_eq!(
        json(&hub, &["agents", "resume", "site-1", "--instance", begin]).await["links"],
        1
    );
    let problem = failed(&hub, &["agents", "drain", "site-1", "--instance", "zz"], 64 + 5).await;
    assert!(problem.contains("no instance \"zz\""), "{problem}");

    let link = of_1.id.to_string();
    assert_eq!(
        json(
            &hub,
            &["agents", "kick", "--link", &link, "--reason", "new cable"]
        )
        .await["links"],
        1
    );
    operator
        .sees(|links| ready(2)(links) && links[0].id != of_1.id)
        .await;
    let problem = failed(&hub, &["agents", "kick", "--link", &link], 64 + 5).await;
    assert!(
        problem.contains("NOT_FOUND") && problem.contains(&link),
        "{problem}"
    );
    failed(&hub, &["agents", "drain", "nobody"], 64 + 5).await;
    for usage in [
        &["agents", "kick"][..],
        &["agents", "site-1", "drain", "site-2"],
        &["agents", "Site 1"],
    ] {
        failed(&hub, usage, 2).await;
    }
}

#[tokio::test]
async fn a_kicked_agent_and_the_hubs_log_are_told_why() {
    let world = World::new();
    let hub = HubProcess::start(&world, &[]).await;
    let sample = Sample::start().await;
    let agent = hub.agent(&world, "site-1", &["--upstream", &sample.url()]);
    hub.has("site-1").await;
    let admin = format!("http://{}", hub.admin);
    let kick = [
        "agents",
        "kick",
        "site-1",
        "--reason",
        "a new cable",
        "--admin",
        &admin,
    ];
    assert_eq!(process::output(&kick).await.status.code(), Some(0));
    let line = hub
        .process
        .says(&[
            "an operator kicks an agent",
            "agent=site-1 ",
            "operator=\"127.0.0.1:",
        ])
        .await;
    assert!(line.contains("reason=\"a new cable\""), "{line}");
    agent.says(&["closed by the hub's operator: a new cable"]).await;
    agent.says_times(&["connected"], 2).await;
}

#[tokio::test]
async fn changes_are_watched() {
    let world = World::new();
    let (hub, sample, agents, mut operator) = two_agents(&world).await;
    let admin = format!("http://{}", hub.admin);
    let watch = ["agents", "--watch", "--interval", "100ms", "--admin", &admin];
    let lines = Process::start(&watch);
    let objects = Process::start(&[&watch[..], &["-o", "json"]].concat());
    for id in ["site-1", "site-2"] {
        lines
            .says(&[" present ", &format!("agent={id} "), "state=ready"])
            .await;
        objects
            .says(&["\"event\":\"present\"", &format!("\"agent\":\"{id}\"")])
            .await;
    }

    operator.drain("site-1", "").await.unwrap();
    lines
        .says(&[" changed ", "agent=site-1 ", "state=draining"])
        .await;
    let object = objects.says(&["\"event\":\"changed\"", "\"draining\""]).await;
    let object: Value = serde_json::from_str(&object).unwrap();
    assert_eq!(
        (&object["agent"], &object["state"]),
        (&"site-1".into(), &"draining".into())
    );
    assert!(object["at"].as_str().unwrap().ends_with('Z'));

    let [one, _two] = agents;
    one.stop().await;
    lines.says(&[" ended ", "agent=site-1 "]).await;
    objects
        .says(&["\"event\":\"ended\"", "\"agent\":\"site-1\""])
        .await;
    let _back = world.agent(&hub, "site-3", &sample.url());
    lines.says(&[" connected ", "agent=site-3 "]).await;
    objects
        .says(&["\"event\":\"connected\"", "\"agent\":\"site-3\""])
        .await;

    hub.stop().await;
    for mut process in [lines, objects] {
        assert_eq!(process.ended().await.code(), Some(64 + 14));
        process.says(&["UNAVAILABLE"]).await;
    }
}

#[tokio::test]
async fn services_are_listed() {
    let world = World::new();
    let (hub, _sample, _agents, _operator) = two_agents(&world).await;
    let table = said(&hub, &["list"]).await;
    for id in ["site-1", "site-2"] {
        let words = [ROUTE_GUIDE, id, "yes"];
        assert!(
            table.lines().any(|line| line.split_whitespace().eq(words)),
            "{table}"
        );
    }
    let services = json(&hub, &["list"]).await;
    let mut services = services.as_array().unwrap().iter();
    let service = services
        .find(|service| service["service"] == ROUTE_GUIDE)
        .unwrap();
    assert_eq!(
        service["agents"],
        serde_json::json!([
            {"agent": "site-1", "serving": true},
            {"agent": "site-2", "serving": true},
        ])
    );
    let one = said(&hub, &["list", "site-1"]).await;
    assert!(one.contains(ROUTE_GUIDE) && !one.contains("site-2"), "{one}");
    failed(&hub, &["list", "nobody"], 1).await;
}

#[tokio::test]
async fn the_status_is_printed() {
    let world = World::new();
    let (hub, _sample, _agents, _operator) = two_agents(&world).await;
    let text = said(&hub, &["status"]).await;
    assert!(text.starts_with("state         serving\n"), "{text}");
    let status = json(&hub, &["status"]).await;
    assert_eq!(
        (&status["state"], &status["trust_domain"]),
        (&"serving".into(), &"adit".into())
    );
    assert_eq!(
        (&status["agents"], &status["links"], &status["clients"]),
        (&2.into(), &2.into(), &0.into())
    );
    assert!(status["uptime_seconds"].is_u64() && status["started_at"].is_string());
    assert_eq!(
        (&status["calls_in_flight"], &status["calls_waiting"]),
        (&0.into(), &0.into())
    );
}

#[tokio::test]
async fn a_draining_hub_says_so() {
    let world = World::new();
    let hub = world.hub().await;
    let sample = Sample::start().await;
    let _agent = world.agent(&hub, "site-1", &sample.url());
    let mut operator = Operator::of(&hub).await;
    operator.sees(ready(1)).await;
    let admin = format!("http://{}", hub.admin);
    let mut health = HealthClient::new(super::channel(hub.admin));
    let mut health = soon(health.watch(HealthCheckRequest::default()))
        .await
        .unwrap()
        .into_inner();
    let mut told = async || soon(health.message()).await.unwrap().unwrap().status();
    assert_eq!(told().await, ServingStatus::Serving);

    let mut chat = Chat::start(&hub, "site-1").await;
    let stopped = AbortOnDropHandle::new(tokio::spawn(hub.stop()));
    assert_eq!(told().await, ServingStatus::NotServing);
    let output = process::output(&["status", "-o", "json", "--admin", &admin]).await;
    assert_eq!(output.status.code(), Some(1));
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&status["state"], &status["calls_in_flight"]),
        (&"draining".into(), &1.into())
    );
    // Operators see what the hub still waits for.
    operator
        .sees(|links| links.len() == 1 && links[0].calls_in_flight == 1)
        .await;
    chat.says("still here").await;
    drop(stopped);
}

#[tokio::test]
async fn a_port_that_is_no_admin_port_is_named() {
    let world = World::new();
    let hub = world.hub_with(|hub| hub.drain_timeout(SHORT_GRACE)).await;
    let clients = format!("http://{}", hub.clients);
    for command in ["agents", "list", "status"] {
        let problem = process::fails(&[command, "--admin", &clients], 64 + 7).await;
        assert!(
            problem.contains("is --admin right?") && problem.contains(&clients),
            "{problem}"
        );
    }
    let admin = format!("http://{}", hub.admin);
    hub.stop().await;
    for command in ["agents", "list", "status"] {
        let problem = process::fails(&[command, "--admin", &admin], 1).await;
        assert!(
            problem.contains("is the hub running") && problem.contains(&admin),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn a_reader_that_has_enough_is_no_failure() {
    let world = World::new();
    let (hub, _sample, _agents, _operator) = two_agents(&world).await;
    let ended = process::without_reader(&["agents", "--admin", &format!("http://{}", hub.admin)]).await;
    assert_eq!(
        (ended.status.code(), ended.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}
