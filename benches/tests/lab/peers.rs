//! Other tunnels in the lab: those that are not there, do not start or end early are told, and nothing of them is left.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Signal, kill_process};

use crate::left::{cannot_be, command, nothing_of, of, output, pid, wait_for};

/// The kernel has this one always, and allows it to everybody.
const VARIANT: &str = "haproxy/reno";

#[test]
fn one_that_is_not_there_is_named_with_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let programs = tempfile::tempdir().unwrap();
    program(programs.path(), "frps", "exit 1");
    for subcommand in ["lab", "compare"] {
        for (variant, missing) in [("frp-quic", "frpc"), (VARIANT, "haproxy")] {
            let args = [subcommand, "--variants", variant];
            let mut command = command(folder.path(), &args);
            let output = command.env("PATH", programs.path()).current_dir(folder.path());
            let output = output.output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(
                !output.status.success()
                    && stderr.contains(&format!(
                        "{variant} cannot be measured without the command {missing},"
                    ))
                    && stderr.contains("install "),
                "{stderr}"
            );
            assert_eq!(nothing_of(folder.path()), Ok(()));
        }
    }
}

#[test]
fn one_that_does_not_start_is_told_with_the_end_of_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let programs = tempfile::tempdir().unwrap();
    program(programs.path(), "haproxy", "echo no such luck >&2; exit 7");
    let mut command = command(
        folder.path(),
        // Without the other tunnel it could be measured.
        &["lab", "--variants", &format!("quic,{VARIANT}"), "--time", "1s"],
    );
    command.env("PATH", before_path(programs.path()));
    let Some((output, stderr)) = output(command) else {
        return;
    };
    assert!(!output.status.success(), "{stderr}");
    for said in [VARIANT, "ended (exit status: 7)", "no such luck"] {
        assert!(stderr.contains(said), "{said}: {stderr}");
    }
    assert_eq!(nothing_of(folder.path()), Ok(()));
}

/// Through each whose programs are there.
#[test]
fn calls_cross_the_link_through_other_tunnels() {
    let all: [(&str, &[&str]); 4] = [
        ("frp-quic", &["frps", "frpc"]),
        ("wstunnel/reno", &["wstunnel"]),
        (VARIANT, &["haproxy"]),
        ("rathole/reno", &["rathole", "openssl"]),
    ];
    let there = all
        .iter()
        .filter(|(_, programs)| programs.iter().all(|program| is_there(program)));
    let variants: Vec<&str> = there.map(|(variant, _)| *variant).collect();
    if variants.is_empty() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let args = [
        "lab",
        "--loss",
        "0",
        "--rtt",
        "40ms",
        "--time",
        "1s",
        "--loads",
        "open:50",
        "--variants",
        &variants.join(","),
    ];
    let Some((output, stderr)) = output(command(folder.path(), &args)) else {
        return;
    };
    assert!(output.status.success(), "{stderr}");
    let report = String::from_utf8(output.stdout).unwrap();
    let versions = report.lines().find(|line| line.starts_with("- other tunnels: "));
    let versions = versions.expect(&report).to_lowercase();
    for variant in variants {
        let program = &variant[..3];
        assert!(
            versions.contains(program) && versions.contains('.'),
            "{program}: {report}"
        );
        let row = report
            .lines()
            .find(|line| line.starts_with(&format!("| 0 % | {variant} |")));
        let cells: Vec<&str> = row.expect(&report).split('|').map(str::trim).collect();
        let p50: f64 = cells[3].replace(',', "").parse().expect(&report);
        assert!(p50 >= 40.0, "no call is faster than the link\n{report}");
        assert_eq!(cells[cells.len() - 2], "0", "calls failed\n{report}");
    }
    assert_eq!(nothing_of(folder.path()), Ok(()));
}

#[test]
fn one_that_ends_early_ends_the_measurement() {
    if !is_there("haproxy") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path(), &["lab", "--variants", VARIANT, "--time", "90s"]);
    let mut lab = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let victim = wait_for(|| {
        if let Some(status) = lab.try_wait().unwrap() {
            return Some(Err(status));
        }
        let processes = of(folder.path());
        let is = |process: &u32, what: &str| arguments(*process).iter().any(|argument| argument == what);
        // Before there is load, it is tried out.
        let measured = processes.iter().any(|process| is(process, "workload"));
        let haproxy = processes.iter().find(|process| is(process, "haproxy-agent.cfg"));
        measured.then_some(())?;
        Some(Ok(*haproxy?))
    });
    if let Ok(victim) = victim {
        kill_process(pid(victim), Signal::KILL).unwrap();
        wait_for(|| lab.try_wait().unwrap());
    }
    let output = lab.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    if cannot_be(&stderr) {
        eprintln!("skipped: {stderr}");
        return;
    }
    assert!(victim.is_ok() && !output.status.success(), "{stderr}");
    assert!(
        stderr.contains("\"haproxy at the agent's end\" ended (signal: 9"),
        "{stderr}"
    );
    assert_eq!(nothing_of(folder.path()), Ok(()));
}

fn is_there(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap();
    let there = std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    if !there {
        eprintln!("skipped: there is no {name} on the PATH");
    }
    there
}

fn program(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn before_path(folder: &Path) -> OsString {
    let path = std::env::var_os("PATH").unwrap();
    let folders = std::iter::once(PathBuf::from(folder)).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).unwrap()
}

fn arguments(process: u32) -> Vec<String> {
    let arguments = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let arguments = arguments.split(|byte| *byte == 0);
    arguments
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}
