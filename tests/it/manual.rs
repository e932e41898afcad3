//! `adit completions` and `adit man`, which are made from the arguments: they know every command.

use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::world::process::{self, output_with};
use crate::world::soon;

/// What a command prints, where the environment has what may be a secret.
async fn printed(arguments: &[&str]) -> String {
    let output = output_with(arguments, &[("ADIT_CALL_HEADER", "authorization: s3cret")]).await;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("s3cret"), "{text}");
    text
}

/// The names of the commands of `adit` or of one of its commands, as help lists them.
async fn commands(of: &[&str]) -> Vec<String> {
    let help = printed(&[of, &["--help"]].concat()).await;
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let list = list.take_while(|line| !line.is_empty());
    let names = list.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: Vec<String> = names
        .filter(|name| !name.is_empty() && *name != "help")
        .map(str::to_owned)
        .collect();
    assert!(names.len() > 2, "{help}");
    names
}

#[tokio::test]
async fn completions_know_every_command() {
    let commands = commands(&[]).await;
    assert!(commands.iter().any(|name| name == "connect"), "{commands:?}");
    for (shell, begins) in [
        ("bash", "_adit() {"),
        ("zsh", "#compdef adit"),
        ("fish", "# Print an optspec"),
    ] {
        let script = printed(&["completions", shell]).await;
        assert!(script.starts_with(begins), "{script}");
        for name in &commands {
            assert!(script.contains(name.as_str()), "{shell} does not know {name}");
        }
        assert!(script.contains("descriptor-set"), "{shell}");
    }
    let said = process::fails(&["completions", "tcsh"], 2).await;
    assert!(said.contains("bash, zsh, fish"), "{said}");
}

#[tokio::test]
async fn bash_completes_commands_and_flags() {
    let mut script = printed(&["completions", "bash"]).await;
    script.push_str(
        "\nfor words in 'adit con' 'adit connect --li' 'adit completions f'; do
            COMP_WORDS=($words) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
            _adit adit \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"
            echo \"${COMPREPLY[@]}\"
        done\n",
    );
    let mut bash = Command::new("bash")
        .args(["--noprofile", "--norc"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = bash.stdin.take().unwrap();
    input.write_all(script.as_bytes()).await.unwrap();
    drop(input);
    let output = soon(bash.wait_with_output()).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "connect\n--listen\nfish\n"
    );
}

#[tokio::test]
async fn there_is_a_manual_page_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("man").join("man1");
    assert_eq!(printed(&["man", dir.to_str().unwrap()]).await, "");
    let page = |name: &str| std::fs::read_to_string(dir.join(format!("{name}.1"))).unwrap();
    let all = page("adit");
    assert_eq!(printed(&["man"]).await, all);
    // No page is named that there is not.
    for entry in std::fs::read_dir(&dir).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let named = text.lines().filter_map(|line| line.strip_suffix("(1)"));
        for name in named.filter(|line| line.starts_with("adit")) {
            page(&name.replace('\\', ""));
        }
    }
    for name in commands(&[]).await {
        assert!(all.contains(&format!("adit\\-{name}(1)")), "{name}: {all}");
        assert!(page(&format!("adit-{name}")).starts_with(".ie"), "{name}");
    }
    for name in commands(&["certs"]).await {
        page(&format!("adit-certs-{name}"));
    }
    let connect = page("adit-connect");
    for text in ["\\-\\-listen", "ADIT_CONNECT_LISTEN", "any free one"] {
        assert!(connect.contains(text), "{text}: {connect}");
    }

    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let said = process::fails(&["man", file.to_str().unwrap()], 1).await;
    assert!(said.contains("cannot write manual pages to"), "{said}");
}
