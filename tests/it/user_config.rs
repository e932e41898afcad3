//! The user's configuration file, which the commands that call share.

use std::path::{Path, PathBuf};
use std::process::Output;

use tempfile::TempDir;

use crate::world::operator::{Operator, ready};
use crate::world::process;
use crate::world::sample::Sample;
use crate::world::{Agent, Hub, SHORT_GRACE, World};

const GET_FEATURE: &str = "routeguide.RouteGuide/GetFeature";

/// A user whose settings are this text.
struct User {
    home: TempDir,
}

impl User {
    fn with(text: &str) -> Self {
        let home = TempDir::new().unwrap();
        let user = Self { home };
        std::fs::create_dir(user.home.path().join("adit")).unwrap();
        std::fs::write(user.file(), text).unwrap();
        user
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("adit/config.toml")
    }

    async fn runs(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        runs_in(self.home.path(), arguments, environment).await
    }

    /// What is said of what ends with `code`.
    async fn ends(&self, arguments: &[&str], environment: &[(&str, &str)], code: i32) -> String {
        said(self.runs(arguments, environment).await, code)
    }
}

async fn runs_in(home: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let home = ("XDG_CONFIG_HOME", home.to_str().unwrap());
    process::output_with(arguments, &[&[home], environment].concat()).await
}

fn said(output: Output, code: i32) -> String {
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

/// A hub with two agents, which both serve RouteGuide.
async fn hub(world: &World, sample: &Sample) -> (Hub, [Agent; 2]) {
    let hub = world.hub_with(|hub| hub.reconnect_grace(SHORT_GRACE)).await;
    let agents = ["a", "b"].map(|id| world.agent(&hub, id, &sample.url()));
    Operator::of(&hub).await.sees(ready(2)).await;
    (hub, agents)
}

#[tokio::test]
async fn all_commands_that_call_have_the_hub_and_the_agent_from_it() {
    let world = World::new();
    let sample = Sample::start().await;
    let (hub, _agents) = hub(&world, &sample).await;
    let user = User::with(&format!(
        "hub = 'http://{}'\nadmin = 'http://{}'\nagent = 'a'\n",
        hub.clients, hub.admin
    ));
    user.ends(&["call", GET_FEATURE], &[], 0).await;
    user.ends(&["describe", "routeguide.Point"], &[], 0).await;
    for command in ["list", "agents", "status"] {
        user.ends(&[command], &[], 0).await;
    }
    let drained = user.runs(&["agents", "drain", "b"], &[]).await;
    assert!(String::from_utf8(drained.stdout).unwrap().contains("1 link of b"));
    // Whoever is named otherwise is called in place of the file's agent.
    let said = user
        .ends(
            &["call", GET_FEATURE, "--agent", "nobody", "--no-cache"],
            &[],
            64 + 14,
        )
        .await;
    assert!(!said.contains("agent a "), "{said}");
    let said = user.ends(&["call", GET_FEATURE, "--all"], &[], 64 + 14).await;
    assert!(said.contains("2 agents: 1 OK, 1 UNAVAILABLE (b)"), "{said}");
    let said = user
        .ends(
            &["call", GET_FEATURE, "--select", "region=mars", "--no-cache"],
            &[],
            64 + 14,
        )
        .await;
    assert!(!said.contains("cannot be used with"), "{said}");
    // What stands behind `--` is no flag.
    user.ends(&["call", "--", GET_FEATURE], &[], 0).await;
}

#[tokio::test]
async fn flags_beat_variables_which_beat_the_file() {
    let user = User::with("hub = 'http://127.0.0.1:1'\n");
    let variable = [("ADIT_CALL_HUB", "http://127.0.0.1:2")];
    let call = ["call", GET_FEATURE];
    let flagged = ["call", GET_FEATURE, "--hub", "http://127.0.0.1:3"];
    for (arguments, environment, port) in [
        (&call[..], &[][..], 1),
        (&call, &variable, 2),
        (&flagged, &variable, 3),
    ] {
        let said = user.ends(arguments, environment, 1).await;
        assert!(
            said.contains(&format!("cannot connect to http://127.0.0.1:{port}")),
            "{said}"
        );
    }
}

#[tokio::test]
async fn whoever_the_caller_is_comes_from_one_place() {
    let world = World::new();
    world.client_files("billing");
    let (dir, key) = (world.dir(), world.certs().join("client-billing.key"));
    let cert = world.certs().join("client-billing.pem");
    let user = User::with(&format!(
        "hub = 'https://127.0.0.1:1'\ncerts = '{dir}'\nname = 'billing'\n"
    ));
    // It would contradict the file's name.
    let files = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let said = user
        .ends(&[&["call", GET_FEATURE], &files[..]].concat(), &[], 1)
        .await;
    assert!(said.contains("cannot connect to https://127.0.0.1:1"), "{said}");
    let said = user
        .ends(&["call", GET_FEATURE, "--certs", "/nonexistent"], &[], 1)
        .await;
    assert!(said.contains("/nonexistent/ca.pem"), "{said}");
}

#[tokio::test]
async fn what_is_wrong_in_it_is_named_with_its_line() {
    let user = User::with("hub = 'http://127.0.0.1:1'\nhubb = 'x'\n");
    for command in [&["call", GET_FEATURE][..], &["status"], &["describe"]] {
        let said = user.ends(command, &[], 2).await;
        assert!(said.contains("adit/config.toml is wrong"), "{said}");
        assert!(
            said.contains("line 2: there is no key \"hubb\": did you mean \"hub\"?"),
            "{said}"
        );
    }
    let user = User::with("parallel = '3'\n");
    let said = user.ends(&["call", GET_FEATURE], &[], 2).await;
    assert!(said.contains("the keys are hub, certs, name,"), "{said}");
    let user = User::with("hub = 'nowhere'\n");
    let said = user.ends(&["call", GET_FEATURE], &[], 2).await;
    assert!(
        said.contains("'--hub' comes from the key 'hub', line 1 of"),
        "{said}"
    );
    // The commands that it is not for do not read it.
    user.ends(&["completions", "bash"], &[], 0).await;
}

#[tokio::test]
async fn it_may_be_missing_unless_it_is_named() {
    let nowhere = Path::new(process::NOWHERE);
    let said_of = async |arguments: &[&str], environment: &[(&str, &str)], code| {
        said(runs_in(nowhere, arguments, environment).await, code)
    };
    said_of(&["call", GET_FEATURE, "--hub", "http://127.0.0.1:1"], &[], 1).await;
    let named = ["call", GET_FEATURE, "--config", "/nonexistent/c.toml"];
    let of_agents = ["agents", "kick", "a", "--config", "/nonexistent/c.toml"];
    let variable = [("ADIT_CALL_CONFIG", "/nonexistent/c.toml")];
    for (arguments, environment) in [
        (&named[..], &[][..]),
        (&of_agents, &[]),
        (&["call", GET_FEATURE], &variable),
    ] {
        let said = said_of(arguments, environment, 2).await;
        assert!(
            said.contains("cannot read the configuration file /nonexistent/c.toml"),
            "{said}"
        );
    }
    let user = User::with("hub = 'http://127.0.0.1:7'\n");
    let file = user.file();
    let named = ["call", GET_FEATURE, "--config", file.to_str().unwrap()];
    let said = said_of(&named, &[], 1).await;
    assert!(said.contains("127.0.0.1:7"), "{said}");
}
