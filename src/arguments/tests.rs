#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::config::keys;

type Arguments = crate::Arguments;

/// Reads a command line whose configuration file has this text. Tests change no variables: all share them.
fn read(name: &str, text: &str, flags: &[&str]) -> Result<ArgMatches, Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let mut line: Vec<OsString> = ["adit", name, "--config"].map(OsString::from).into();
    line.push(file.path().into());
    line.extend(flags.iter().map(OsString::from));
    let mut matches = matches(&mut command::<Arguments>(), line)?;
    let (_, matches) = matches.remove_subcommand().unwrap();
    Ok(matches)
}

fn refused(name: &str, text: &str, flags: &[&str]) -> String {
    match read(name, text, flags) {
        Ok(matches) => panic!("{text:?} is taken: {matches:?}"),
        Err(error) => {
            assert_eq!(error.exit_code(), 2, "{error}");
            error.to_string()
        }
    }
}

/// The example file of a command, as it is and with all its keys.
fn example(name: &str) -> (String, String) {
    let path = format!("{}/examples/config/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(Path::new(&path)).unwrap();
    let is_key = |line: &str| {
        let key = line.split_once(" = ").map_or("", |(key, _)| key);
        !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '-')
    };
    let lines = text.lines().map(|line| match line.strip_prefix("# ") {
        Some(commented) if is_key(commented) => commented,
        _ => line,
    });
    let full: Vec<&str> = lines.collect();
    let full = full.join("\n");
    (text, full)
}

#[test]
fn clap_finds_no_fault_with_the_commands() {
    command::<Arguments>().debug_assert();
}

#[test]
fn every_flag_has_its_variable() {
    fn check(command: &Command, prefix: &str) -> usize {
        let mut count = 0;
        for arg in command.get_arguments() {
            let expected =
                (arg.get_long()).map(|flag| format!("{prefix}_{}", flag.to_uppercase().replace('-', "_")));
            assert_eq!(
                arg.get_env().and_then(|name| name.to_str()),
                expected.as_deref(),
                "{arg}"
            );
            assert!(arg.get_env().is_none() || arg.is_hide_env_values_set(), "{arg}");
            count += usize::from(expected.is_some());
        }
        command
            .get_subcommands()
            .map(|nested| check(nested, prefix))
            .sum::<usize>()
            + count
    }
    let command = command::<Arguments>();
    for subcommand in command.get_subcommands() {
        let name = subcommand.get_name();
        let prefix = format!("ADIT_{}", name.to_uppercase());
        let has_flags = check(subcommand, &prefix) > 0;
        assert_eq!(has_flags, !["completions", "man"].contains(&name), "{prefix}");
    }
}

#[test]
fn the_example_files_have_every_key_and_no_other() {
    for name in ["hub", "agent"] {
        let (text, full) = example(name);
        read(name, &text, &[]).unwrap_or_else(|error| panic!("{error}"));
        let matches = read(name, &full, &[]).unwrap_or_else(|error| panic!("{error}"));

        let command = command::<Arguments>();
        let command = command.find_subcommand(name).unwrap();
        let flags: BTreeSet<_> = keys(command).map(|(key, _)| key.to_owned()).collect();
        let table = toml::de::DeTable::parse(&full).unwrap();
        let shown: BTreeSet<_> = table
            .get_ref()
            .keys()
            .map(|key| key.get_ref().to_string())
            .collect();
        assert_eq!(shown, flags, "{name}");

        // What a comment calls the default is it.
        for (_, arg) in keys(command) {
            let [default] = arg.get_default_values() else {
                continue;
            };
            let shown = matches.get_raw(arg.get_id().as_str()).unwrap();
            assert_eq!(shown.collect::<Vec<_>>(), [default.as_os_str()], "{arg}");
        }
    }
}

#[test]
fn every_flag_of_the_examples_is_explained() {
    for name in ["hub", "agent"] {
        let (_, full) = example(name);
        let mut explained = false;
        for line in full.lines() {
            let is_key = !line.starts_with('#') && !line.is_empty();
            assert!(!is_key || explained, "{name}: {line} has no comment above it");
            explained = !line.is_empty();
        }
    }
}

#[test]
fn values_of_each_type_reach_their_flags() {
    let text = "agents = ['127.0.0.1:1', '127.0.0.1:2']\nworkers = 0x10\ninsecure-clients = true\nclients = '127.0.0.1:3'";
    let matches = read("hub", text, &[]).unwrap();
    let strings = |id: &str| -> Vec<_> {
        matches
            .get_raw(id)
            .unwrap()
            .map(|value| value.to_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(strings("agents"), ["127.0.0.1:1", "127.0.0.1:2"]);
    assert_eq!(strings("workers"), ["16"]);
    assert_eq!(strings("clients"), ["127.0.0.1:3"]);
    assert!(matches.get_flag("insecure_clients"));
    let matches = read("hub", "insecure-clients = false", &[]).unwrap();
    assert!(!matches.get_flag("insecure_clients"));
}

#[test]
fn wrong_keys_and_types_are_all_named_with_their_lines() {
    let text = "\
agnets = ['127.0.0.1:1']
reconnect_grace = '3s'
workers = '2'
agents = '127.0.0.1:1'

clients = ['127.0.0.1:1']
insecure-clients = 1
pool = [
  'a.B', 2]
admin = 1.5
zzz = 1979-05-27
agent-domain = {}
congestion = []
config = 'other.toml'
check-config = true
[labels]
region = 'eu'
";
    let error = refused("hub", text, &[]);
    for line in [
        "  line 1: there is no key \"agnets\": did you mean \"agents\"?\n",
        "  line 2: there is no key \"reconnect_grace\": did you mean \"reconnect-grace\"?\n",
        "  line 3: workers = '2': this is a string, and workers takes an integer\n",
        "  line 4: agents = '127.0.0.1:1': this is a string, and agents takes a list of one or more strings\n",
        "  line 6: clients = ['127.0.0.1:1']: this is a list, and clients takes a string\n",
        "  line 7: insecure-clients = 1: this is an integer, and insecure-clients takes true or false\n",
        "  line 8: pool = […: this is a list of other things than strings, and pool takes a list of one or more strings\n",
        "  line 10: admin = 1.5: this is a float, and admin takes a string\n",
        "  line 11: there is no key \"zzz\": keys are the names of the flags that adit hub --help lists\n",
        "  line 12: agent-domain = {}: this is a table, and agent-domain takes a string\n",
        "  line 13: congestion = []: this is an empty list, and congestion takes a string\n",
        "  line 14: there is no key \"config\"",
        "  line 15: there is no key \"check-config\"",
        "  line 16: there is no key \"labels\"",
    ] {
        assert!(error.contains(line), "no {line:?} in {error}");
    }
    assert_eq!(error.lines().count(), 15, "{error}");
}

#[test]
fn what_is_not_toml_is_refused_with_its_line() {
    for (text, words) in [
        ("a = 1\nb = [", "line 2: this is not TOML"),
        (
            "workers = 1\nworkers = 2",
            "line 2: this is not TOML: duplicate key",
        ),
        ("\n\nagents", "line 3: this is not TOML"),
    ] {
        let error = refused("hub", text, &[]);
        assert!(error.contains(words), "{text:?}: {error}");
    }
    // Bounded, however deep.
    refused("hub", &format!("pool = {}", "[".repeat(100_000)), &[]);
}

#[test]
fn values_that_a_flag_refuses_are_traced_to_their_line() {
    for (text, words) in [
        (
            "\nclients = '9090'",
            &["'9090'", "--clients", "key 'clients', line 2 of"][..],
        ),
        ("workers = 0", &["--workers", "line 1 of"]),
        ("workers = -1", &["-1", "--workers", "line 1 of"]),
        (
            "workers = 99999999999999999999",
            &["99999999999999999999", "--workers"],
        ),
        (
            "reconnect-grace = '3'",
            &["--reconnect-grace", "time unit", "line 1 of"],
        ),
        ("certs = ''", &["--certs", "line 1 of"]),
        ("agents = ['127.0.0.1:1', 'x']", &["'x'", "--agents", "line 1 of"]),
        (
            "congestion = 'vegas'",
            &["vegas", "bbr, cubic or newreno", "line 1 of"],
        ),
    ] {
        let error = refused("hub", text, &[]);
        for word in words {
            assert!(error.contains(word), "{text:?}: no {word:?} in {error}");
        }
    }
    let error = refused("hub", "workers = 2", &["--clients", "9090"]);
    assert!(
        error.contains("--clients") && !error.contains("comes from"),
        "{error}"
    );
}

const AGENT: &str = "id = 'a'\nhub = ['h:1']\nupstream = ['http://a:1']\n";

#[test]
fn what_flags_require_of_each_other_holds_in_the_file() {
    read("agent", AGENT, &[]).unwrap();
    let error = refused("agent", &format!("{AGENT}upstream-cert = 'c'"), &[]);
    assert!(error.contains("--upstream-key"), "{error}");
    read(
        "agent",
        &format!("{AGENT}upstream-cert = 'c'"),
        &["--upstream-key", "k"],
    )
    .unwrap();
    let error = refused("agent", "id = 'a'", &[]);
    assert!(
        error.contains("--hub") && error.contains("--upstream") && error.contains("was read, and may set it"),
        "{error}"
    );
    assert!(!error.contains("--id <ID>\n"), "{error}");
}

#[test]
fn a_flag_replaces_the_whole_list_of_the_file() {
    let matches = read("agent", AGENT, &["--hub", "other:2"]).unwrap();
    let hubs: Vec<_> = matches.get_raw("hub").unwrap().collect();
    assert_eq!(hubs, ["other:2"]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let line = ["adit", "hub", "--config", "/nonexistent/hub.toml"].map(OsString::from);
    let error = matches(&mut command::<Arguments>(), line.into()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("cannot read the configuration file /nonexistent/hub.toml: ")
    );
    let long = "#".repeat(1 << 21);
    assert!(refused("hub", &long, &[]).contains("has more than 1048576 bytes"));
}

#[test]
fn a_wrong_command_line_is_told_before_what_the_file_lacks() {
    let error = refused("agent", "id = 'a'", &["--nonsense"]);
    assert!(error.contains("--nonsense"), "{error}");
    let error = refused("agent", AGENT, &["--label"]);
    assert!(error.contains("--label <KEY=VALUE>"), "{error}");
    let error = read("agent", "id = [", &["--help"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DisplayHelp);
    // A command that has no file.
    let line = ["adit", "certs", "init", "--days", "3"].map(OsString::from);
    matches(&mut command::<Arguments>(), line.into()).unwrap();
}
