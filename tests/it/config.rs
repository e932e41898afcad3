//! Settings of hubs and agents: flags, environment variables and the configuration file, and the check of them.

use std::fs;
use std::path::PathBuf;

use crate::world::World;
use crate::world::process::{self, HubProcess, Process};
use crate::world::sample::{self, Sample};

/// The line that a good configuration is told with.
const GOOD: &str = "configuration is good: ";

/// A configuration file in the directory of the world's certificates.
fn file(world: &World, text: &str) -> PathBuf {
    let path = world.certs().join("adit.toml");
    fs::write(&path, text).unwrap();
    path
}

/// What `--check-config` of the file says, with more flags and variables.
async fn check(
    world: &World,
    command: &str,
    text: &str,
    flags: &[&str],
    variables: &[(&str, &str)],
) -> Result<String, (i32, String)> {
    let file = file(world, text);
    let base = [
        command,
        "--check-config",
        "--config",
        file.to_str().unwrap(),
        "--certs",
        world.dir(),
    ];
    let output = process::output_with(&[&base[..], flags].concat(), variables).await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    match output.status.code().unwrap() {
        0 => {
            assert_eq!(stderr, "", "{command} {text}");
            let stdout = String::from_utf8(output.stdout).unwrap();
            let told = stdout.strip_prefix(GOOD).and_then(|told| told.strip_suffix('\n'));
            Ok(told.unwrap_or_else(|| panic!("{stdout}")).to_owned())
        }
        code => {
            assert!(output.stdout.is_empty(), "{:?}", output.stdout);
            Err((code, stderr))
        }
    }
}

const AGENT: &str = "id = 'site-a'\nhub = ['127.0.0.1:1']\nupstream = ['http://127.0.0.1:2']\n";

#[tokio::test]
async fn flags_beat_variables_which_beat_the_file_which_beats_defaults() {
    let world = World::new();
    let variable = ("ADIT_HUB_CLIENTS", "127.0.0.1:2");
    let text = "clients = '127.0.0.1:1'";
    // In order of their rank: the first that is there decides.
    for there in 0..8_u8 {
        let [flag, env, config] = [1, 2, 4].map(|bit| there & bit != 0);
        let flags: &[&str] = if flag { &["--clients", "127.0.0.1:3"] } else { &[] };
        let variables: &[_] = if env { &[variable] } else { &[] };
        let text = if config { text } else { "" };
        let told = check(&world, "hub", text, flags, variables).await.unwrap();
        let expected = match (flag, env, config) {
            (true, ..) => "127.0.0.1:3",
            (_, true, _) => "127.0.0.1:2",
            (.., true) => "127.0.0.1:1",
            _ => "127.0.0.1:9090",
        };
        let expected = format!(" clients to {expected},");
        assert!(told.contains(&expected), "no {expected:?} in {told}");
    }
}

#[tokio::test]
async fn a_list_is_taken_whole_from_the_first_that_has_it() {
    let world = World::new();
    let text = "agents = ['127.0.0.1:1', '127.0.0.1:2']";
    let variable = [("ADIT_HUB_AGENTS", "127.0.0.1:3,127.0.0.1:4")];
    let flags = ["--agents", "127.0.0.1:5", "--agents", "127.0.0.1:6"];
    for (text, flags, variables, expected) in [
        (text, &flags[..], &variable[..], "127.0.0.1:5 and 127.0.0.1:6,"),
        (text, &[], &variable, "127.0.0.1:3 and 127.0.0.1:4,"),
        (text, &flags, &[], "127.0.0.1:5 and 127.0.0.1:6,"),
        (text, &[], &[], "127.0.0.1:1 and 127.0.0.1:2,"),
        ("", &flags, &variable, "127.0.0.1:5 and 127.0.0.1:6,"),
        ("", &[], &[], "agents connect to 0.0.0.0:4433,"),
    ] {
        let told = check(&world, "hub", text, flags, variables).await.unwrap();
        assert!(told.contains(expected), "no {expected:?} in {told}");
    }
}

#[tokio::test]
async fn a_variable_can_take_back_what_the_file_switches_on() {
    let world = World::new();
    world.agent_files("site-a");
    let on = format!("{AGENT}exclusive = true");
    let off = format!("{AGENT}exclusive = false");
    for (text, flags, variable, exclusive) in [
        (AGENT, &[][..], None, false),
        (&on, &[], None, true),
        (&off, &[], None, false),
        (&on, &[], Some("false"), false),
        (&on, &[], Some("0"), false),
        (&off, &[], Some("yes"), true),
        (AGENT, &[], Some("1"), true),
        (&off, &["--exclusive"], Some("off"), true),
    ] {
        let variables: Vec<_> = variable
            .map(|value| ("ADIT_AGENT_EXCLUSIVE", value))
            .into_iter()
            .collect();
        let told = check(&world, "agent", text, flags, &variables).await.unwrap();
        assert_eq!(
            told.starts_with("exclusive agent"),
            exclusive,
            "{text} {variable:?}: {told}"
        );
    }
    let (code, error) = check(&world, "agent", AGENT, &[], &[("ADIT_AGENT_EXCLUSIVE", "maybe")])
        .await
        .unwrap_err();
    assert_eq!(code, 2);
    assert!(
        error.contains("--exclusive") && error.contains("maybe"),
        "{error}"
    );
}

#[tokio::test]
async fn the_file_may_be_named_by_a_variable() {
    let world = World::new();
    let path = file(&world, "clients = '127.0.0.1:1'");
    let variables = [
        ("ADIT_HUB_CONFIG", path.to_str().unwrap()),
        ("ADIT_HUB_CERTS", world.dir()),
        ("ADIT_HUB_CHECK_CONFIG", "true"),
    ];
    let output = process::output_with(&["hub"], &variables).await;
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains("clients to 127.0.0.1:1,"), "{stdout}");
    // A flag beats it, for this too.
    let stderr = process::output_with(&["hub", "--config", "/nonexistent/hub.toml"], &variables)
        .await
        .stderr;
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(
        stderr.contains("/nonexistent/hub.toml") && !stderr.contains("adit.toml"),
        "{stderr}"
    );
}

#[tokio::test]
async fn hub_and_agent_work_with_nothing_but_a_file() {
    let world = World::new();
    let sample = Sample::start().await;
    let certs = world.dir();
    let start = |command: &str, name: &str, text: &str| {
        let path = world.certs().join(name);
        fs::write(&path, text).unwrap();
        Process::start(&[command, "--config", path.to_str().unwrap()])
    };
    let hub = format!(
        "certs = '{certs}'\nagents = ['127.0.0.1:0']\nclients = '127.0.0.1:0'\nadmin = '127.0.0.1:0'\n\
         reconnect-grace = '20s'\nworkers = 2\ncongestion = 'cubic'\n"
    );
    let hub = HubProcess::listening(start("hub", "hub.toml", &hub)).await;
    hub.process.says(&["the hub listens", "congestion=cubic"]).await;
    world.agent_files("site-a");
    let agent = format!(
        "certs = '{certs}'\nid = 'site-a'\nhub = ['{}']\nupstream = ['{}']\nlabel = ['region=eu']\n",
        hub.agents,
        sample.url()
    );
    let _agent = start("agent", "agent.toml", &agent);
    sample::four_kinds(hub.clients, Some("site-a")).await;
}

#[tokio::test]
async fn a_wrong_file_is_a_usage_error_that_says_where_and_what() {
    let world = World::new();
    let long = format!("id = '{}'", "a".repeat(64));
    for (command, text, words) in [
        (
            "hub",
            "\nagnets = ['127.0.0.1:1']",
            &["adit.toml", "line 2", "\"agnets\"", "\"agents\""][..],
        ),
        (
            "hub",
            "workers = 'two'",
            &["adit.toml", "line 1", "'two'", "a string", "an integer"],
        ),
        (
            "hub",
            "\n\nclients = '9090'",
            &["'9090'", "--clients", "line 3", "adit.toml"],
        ),
        ("hub", "clients = [", &["adit.toml", "line 1", "not TOML"]),
        (
            "hub",
            "client-tls = 'maybe'",
            &["maybe", "line 1", "off, on", "mutual"],
        ),
        ("agent", "id = 'Site-A'", &["\"Site-A\"", "DNS label", "line 1"]),
        ("agent", "id = 'site.a'", &["\"site.a\"", "DNS label", "line 1"]),
        ("agent", &long, &["aaaa", "1 to 63", "line 1"]),
        (
            "agent",
            "label = ['region']",
            &["\"region\"", "KEY=VALUE", "line 1"],
        ),
        ("agent", "hub = ['hub']", &["\"hub\"", "HOST:PORT", "line 1"]),
        (
            "agent",
            "id = 'a'",
            &["--hub", "--upstream", "adit.toml was read"],
        ),
    ] {
        let (code, error) = check(&world, command, text, &[], &[]).await.unwrap_err();
        assert_eq!(code, 2, "{error}");
        for word in words {
            assert!(error.contains(word), "{text}: no {word:?} in {error}");
        }
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_are_refused() {
    let world = World::new();
    let path = world.certs().join("binary.toml");
    fs::write(&path, b"workers = 1\n# \xff\xfe\n").unwrap();
    let error = process::fails(&["hub", "--config", path.to_str().unwrap()], 2).await;
    assert!(error.contains("line 2") && error.contains("UTF-8"), "{error}");
    let error = process::fails(&["hub", "--config", "/nonexistent/hub.toml"], 2).await;
    assert!(
        error.contains("cannot read the configuration file /nonexistent/hub.toml"),
        "{error}"
    );
    let error = process::fails(&["hub", "--config", "/dev/zero"], 2).await;
    assert!(error.contains("/dev/zero has more than"), "{error}");
}

#[tokio::test]
async fn a_check_finds_what_a_start_would() {
    let world = World::new();
    world.agent_files("site-a");
    world.agent_files("site-b");
    let dir = world.dir();
    let other_key = format!("key = '{dir}/agent-site-b.key'");
    for (command, text, words) in [
        (
            "hub",
            "clients = '192.0.2.1:9090'\nclient-tls = 'off'".to_owned(),
            &[
                "--clients 192.0.2.1:9090",
                "--client-tls off",
                "--insecure-clients",
            ][..],
        ),
        (
            "hub",
            "admin = '0.0.0.0:9091'".to_owned(),
            &["--admin", "0.0.0.0:9091"],
        ),
        (
            "hub",
            "trust-domain = 'other'".to_owned(),
            &["--trust-domain", "other", "adit"],
        ),
        (
            "hub",
            format!("cert = '{dir}/agent-site-a.pem'\nkey = '{dir}/agent-site-a.key'"),
            &["agent"],
        ),
        ("hub", other_key.clone(), &["agent-site-b.key"]),
        (
            "hub",
            "ca = '/nonexistent/ca.pem'".to_owned(),
            &["/nonexistent/ca.pem"],
        ),
        ("hub", "link-memory = '1KiB'".to_owned(), &["--link-memory"]),
        ("agent", format!("{AGENT}{other_key}"), &["agent-site-b.key"]),
        (
            "agent",
            format!("{AGENT}cert = '{dir}/agent-site-b.pem'\n{other_key}"),
            &["site-a", "site-b"],
        ),
        ("agent", AGENT.replace("site-a", "site-c"), &["agent-site-c.pem"]),
        (
            "agent",
            format!(
                "{}upstream-ca = '/nonexistent/u.pem'",
                AGENT.replace("http:", "https:")
            ),
            &["/nonexistent/u.pem"],
        ),
        (
            "agent",
            format!("{AGENT}label = ['a=1', 'a=2']"),
            &["--label", "twice"],
        ),
    ] {
        let (code, error) = check(&world, command, &text, &[], &[]).await.unwrap_err();
        assert_eq!(code, 1, "{text}: {error}");
        assert!(error.starts_with("adit: "), "{error}");
        for word in words {
            assert!(error.contains(word), "{text}: no {word:?} in {error}");
        }
    }
}

#[tokio::test]
async fn a_check_opens_no_port_and_dials_nobody() {
    let world = World::new();
    // The hub that runs has the ports; a check of its successor's settings goes well.
    let hub = HubProcess::start(&world, &[]).await;
    let text = format!(
        "agents = ['{}']\nclients = '{}'\nadmin = '{}'",
        hub.agents, hub.clients, hub.admin
    );
    let told = check(&world, "hub", &text, &[], &[]).await.unwrap();
    assert!(told.contains(&hub.agents.to_string()), "{told}");
    world.agent_files("site-a");
    let agent = AGENT.replace("127.0.0.1:1", &hub.agents.to_string());
    let told = check(
        &world,
        "agent",
        &format!("{agent}label = ['region=eu']"),
        &[],
        &[],
    )
    .await
    .unwrap();
    for part in [
        "agent site-a",
        "region=eu",
        &hub.agents.to_string(),
        "http://127.0.0.1:2",
    ] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    assert_eq!(hub.process.said(&["link"]), 0);
}

#[tokio::test]
async fn the_example_files_are_good_as_they_are() {
    let world = World::new();
    world.agent_files("site-7");
    for command in ["hub", "agent"] {
        let path = format!("{}/examples/config/{command}.toml", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(path).unwrap();
        check(&world, command, &text, &[], &[]).await.unwrap();
    }
}

#[tokio::test]
async fn a_signal_drains_and_is_told_of() {
    let world = World::new();
    let mut hub = HubProcess::start(&world, &["--drain-timeout", "7s"]).await;
    assert_eq!(hub.process.terminate().await.code(), Some(0));
    hub.process
        .says(&[
            "draining",
            "SIGTERM",
            "drain_timeout=7s",
            "a second signal stops at once",
        ])
        .await;
}
