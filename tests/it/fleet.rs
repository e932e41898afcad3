//! `adit call --all`: one call to many agents.

use std::collections::BTreeMap;
use std::process::Output;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};

use crate::world::operator::{Operator, ready};
use crate::world::process::{self, Process};
use crate::world::sample::Sample;
use crate::world::upstream::{self, Server};
use crate::world::{Agent, Hub, World};

const GET_FEATURE: &str = "routeguide.RouteGuide/GetFeature";
const PLACE: &str = r#"{"latitude": 409146138, "longitude": -746188906}"#;
const AREA: &str = r#"{"lo": {"latitude": 409000000, "longitude": -747000000}, "hi": {"latitude": 410000000, "longitude": -746000000}}"#;

/// The arguments of a call to all agents of a hub.
fn arguments(hub: &[String; 2], more: &[&str]) -> Vec<String> {
    let [clients, admin] = hub;
    let first = ["call", "--all", "--hub", clients, "--admin", admin];
    first
        .iter()
        .chain(more)
        .map(|&argument| argument.to_owned())
        .collect()
}

fn ports(hub: &Hub) -> [String; 2] {
    [hub.clients, hub.admin].map(|address| format!("http://{address}"))
}

async fn all(hub: &Hub, more: &[&str]) -> Output {
    let arguments = arguments(&ports(hub), more);
    process::output(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// What a call of all prints, and what is said of it, if it ends with `code`.
async fn ends(hub: &Hub, more: &[&str], code: i32) -> (String, String) {
    let output = all(hub, more).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    (String::from_utf8(output.stdout).unwrap(), said)
}

/// Lines by the agent that they begin with.
fn by_agent(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut lines: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in text.lines() {
        let (agent, line) = line.split_once(": ").unwrap();
        lines.entry(agent).or_default().push(line);
    }
    lines
}

/// Three agents in front of the sample service, two of them in the region eu.
async fn three_agents(world: &World, hub: &Hub, sample: &Sample) -> [Agent; 3] {
    let agent = |id: &str, region: &str| {
        let label = format!("region={region}").parse().unwrap();
        world.agent_with(hub.agents, id, &[&sample.url()], |agent| agent.label(label))
    };
    let agents = [agent("a", "eu"), agent("b", "eu"), agent("c", "us")];
    Operator::of(hub).await.sees(ready(3)).await;
    agents
}

#[tokio::test]
async fn every_agent_that_serves_it_is_called_and_named() {
    let world = World::new();
    let (hub, sample) = (world.hub().await, Sample::start().await);
    let _agents = three_agents(&world, &hub, &sample).await;

    let (out, said) = ends(&hub, &[GET_FEATURE, "-d", PLACE], 0).await;
    let lines = by_agent(&out);
    assert_eq!(lines.keys().copied().collect::<Vec<_>>(), ["a", "b", "c"]);
    for line in lines.values() {
        let [line] = line[..] else { panic!("{out}") };
        let feature: Value = serde_json::from_str(line).unwrap();
        assert_eq!(feature["location"]["latitude"], 409_146_138);
    }
    assert!(said.starts_with("adit: 3 agents: 3 OK, in "), "{said}");

    let (out, said) = ends(
        &hub,
        &[GET_FEATURE, "--select", "region=eu", "-o", "yaml", "-d", PLACE],
        0,
    )
    .await;
    let lines = by_agent(&out);
    assert_eq!(lines.keys().copied().collect::<Vec<_>>(), ["a", "b"]);
    assert!(lines["a"].contains(&"  latitude: 409146138"), "{out}");
    assert!(said.starts_with("adit: 2 agents: 2 OK"), "{said}");

    let (out, _) = ends(&hub, &["routeguide.RouteGuide/ListFeatures", "-d", AREA], 0).await;
    let lines = by_agent(&out);
    assert!(lines["a"].len() > 1, "{out}");
    assert_eq!(lines["a"], lines["c"]);
}

#[tokio::test]
async fn programs_get_an_object_for_each_result() {
    let world = World::new();
    let (hub, sample) = (world.hub().await, Sample::start().await);
    let _agents = three_agents(&world, &hub, &sample).await;
    let objects = |out: &str| -> Vec<Value> {
        let lines = out.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    };

    let (out, _) = ends(&hub, &[GET_FEATURE, "-o", "ndjson", "-d", PLACE], 0).await;
    let results = objects(&out);
    assert_eq!(results.len(), 3);
    for result in &results {
        assert_eq!((&result["status"], &result["code"]), (&"OK".into(), &0.into()));
        assert_eq!(result["messages"][0]["location"]["longitude"], -746_188_906);
        assert!(result["duration_ms"].as_f64().unwrap() > 0.0, "{result}");
        assert!(result.get("error").is_none(), "{result}");
    }

    let (out, _) = ends(
        &hub,
        &["routeguide.RouteGuide/ListFeatures", "-o", "ndjson", "-d", AREA],
        0,
    )
    .await;
    let of_a: Vec<Value> = objects(&out)
        .into_iter()
        .filter(|object| object["agent"] == "a")
        .collect();
    let (end, answers) = of_a.split_last().unwrap();
    assert!(
        answers
            .iter()
            .all(|answer| answer["message"]["location"].is_object())
    );
    assert_eq!(end["answers"], answers.len());
    assert!(end.get("messages").is_none(), "{end}");

    let (out, _) = ends(&hub, &[GET_FEATURE, "-o", "ndjson", "-d", r#"{"lat": 1}"#], 1).await;
    for result in objects(&out) {
        assert_eq!(result["status"], Value::Null);
        let message = result["error"]["message"].as_str().unwrap();
        assert!(
            message.contains("routeguide.Point has no field 'lat'"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn what_fails_is_named_and_the_rest_is_there() {
    let world = World::new();
    let (hub, sample) = (world.hub().await, Sample::start().await);
    let _agents = three_agents(&world, &hub, &sample).await;
    // It says that it has the service, and nobody listens where it is to be.
    let _dead = world.agent_with(hub.agents, "dead", &["http://127.0.0.1:1"], |agent| {
        agent.advertise("routeguide.RouteGuide")
    });
    Operator::of(&hub).await.sees(|links| links.len() == 4).await;

    let (out, said) = ends(&hub, &[GET_FEATURE, "-d", PLACE], 64 + 14).await;
    assert_eq!(by_agent(&out).len(), 3);
    assert!(said.contains("adit: dead: UNAVAILABLE (14)"), "{said}");
    assert!(
        said.contains("4 agents: 3 OK, 1 UNAVAILABLE (dead), in "),
        "{said}"
    );

    let (out, _) = ends(&hub, &[GET_FEATURE, "-o", "ndjson", "-d", PLACE], 64 + 14).await;
    let dead = out.lines().find(|line| line.contains("\"dead\"")).unwrap();
    let dead: Value = serde_json::from_str(dead).unwrap();
    assert_eq!(
        (&dead["code"], &dead["status"]),
        (&14.into(), &"UNAVAILABLE".into())
    );
    assert_eq!(dead["error"]["delivered"], "no");
}

#[tokio::test]
async fn standard_input_is_read_once_and_sent_to_each() {
    let world = World::new();
    let (hub, sample) = (world.hub().await, Sample::start().await);
    let _agents = three_agents(&world, &hub, &sample).await;
    let route = format!("{PLACE}\n{PLACE}\n{PLACE}\n");
    let with_input = async |more: &[&str]| {
        let call = ["routeguide.RouteGuide/RecordRoute", "-d", "@-"];
        let arguments = arguments(&ports(&hub), &[&call, more].concat());
        process::output_of_input(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &route).await
    };
    let output = with_input(&[]).await;
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(out.matches("\"pointCount\":3").count(), 3, "{out}");

    let output = with_input(&["--max-message-size", "100B"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("standard input has more than 100 bytes"), "{said}");
}

/// A service that answers a call when it is let, and how many calls it has and has had.
struct Held {
    server: Server,
    let_go: Arc<Semaphore>,
    /// Those that run now, and those that have been begun.
    calls: watch::Receiver<(usize, usize)>,
}

impl Held {
    async fn start() -> Self {
        let let_go = Arc::new(Semaphore::new(0));
        let (sender, calls) = watch::channel((0, 0));
        let (held, sender) = (Arc::clone(&let_go), Arc::new(sender));
        let server = Server::start(move |exchange| {
            let (held, sender) = (Arc::clone(&held), Arc::clone(&sender));
            async move {
                sender.send_modify(|(running, begun)| (*running, *begun) = (*running + 1, *begun + 1));
                held.acquire().await.unwrap().forget();
                sender.send_modify(|(running, _)| *running -= 1);
                // An empty message.
                upstream::answer(exchange, Bytes::from_static(&[0; 5])).await;
            }
        })
        .await;
        Self {
            server,
            let_go,
            calls,
        }
    }

    async fn begun(&self, count: usize) {
        let mut calls = self.calls.clone();
        let wanted = calls.wait_for(|(_, begun)| *begun >= count);
        drop(crate::world::soon(wanted).await.unwrap());
    }

    fn agents(&self, world: &World, hub: &Hub, count: usize) -> Vec<Agent> {
        let agent = |n| {
            world.agent_with(hub.agents, &format!("a{n}"), &[&self.server.url()], |agent| {
                agent.advertise("routeguide.RouteGuide")
            })
        };
        (0..count).map(agent).collect()
    }
}

/// So that nobody asks the agents' services what they are.
const PROTO: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/examples/route_guide/proto/route_guide.proto"
);

fn started(hub: &Hub, more: &[&str]) -> Process {
    let arguments = arguments(&ports(hub), &[GET_FEATURE, "--proto", PROTO]);
    let arguments: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect();
    Process::start(&arguments)
}

#[tokio::test]
async fn no_more_are_called_at_a_time_than_is_said() {
    let world = World::new();
    let hub = world.hub().await;
    let held = Held::start().await;
    let _agents = held.agents(&world, &hub, 5);
    Operator::of(&hub).await.sees(ready(5)).await;
    let mut call = started(&hub, &["--parallel", "2"]);
    for begun in 2..=5 {
        held.begun(begun).await;
        let (running, begun_by_now) = *held.calls.borrow();
        assert!(
            running <= 2 && begun_by_now == begun,
            "{running} of {begun_by_now}"
        );
        held.let_go.add_permits(1);
    }
    held.let_go.add_permits(1);
    call.says(&["adit: 5 agents: 5 OK"]).await;
    assert_eq!(call.ended().await.code(), Some(0));
}

#[tokio::test]
async fn an_interrupt_ends_all_with_a_summary() {
    let world = World::new();
    let hub = world.hub().await;
    let held = Held::start().await;
    let _agents = held.agents(&world, &hub, 4);
    Operator::of(&hub).await.sees(ready(4)).await;
    let mut call = started(&hub, &["--parallel", "2"]);
    held.begun(2).await;
    held.let_go.add_permits(1);
    held.begun(3).await;
    call.says(&["{}"]).await;
    call.signal("INT").await;
    call.says(&["adit: interrupted: 4 agents: 1 OK, 2 stopped, 1 not called, in "])
        .await;
    assert_eq!(call.ended().await.code(), Some(130));
}

#[tokio::test]
async fn where_nobody_is_meant_it_is_said_who_there_is() {
    let world = World::new();
    let (hub, sample) = (world.hub().await, Sample::start().await);
    let (_, said) = ends(&hub, &[GET_FEATURE], 1).await;
    assert_eq!(said, "adit: no agent is connected to the hub\n");

    let _agents = three_agents(&world, &hub, &sample).await;
    let (_, said) = ends(&hub, &["routeguide.RuoteGuide/GetFeature"], 1).await;
    assert!(said.contains("did you mean routeguide.RouteGuide?"), "{said}");
    let (_, said) = ends(&hub, &[GET_FEATURE, "--select", "region=asia"], 1).await;
    assert!(said.contains("connected: a, b, c"), "{said}");
    let (_, said) = ends(&hub, &[GET_FEATURE, "-o", "binary"], 1).await;
    assert!(said.contains("cannot be told apart"), "{said}");
    ends(&hub, &[GET_FEATURE, "--agent", "a"], 2).await;
}
