//! `adit completions` and `adit man`: what shells and `man` are told of the arguments, made from the arguments.

use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;

use crate::{Arguments, arguments};

/// Arguments of `adit completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell's
    shell: Completed,
}

/// The shells that are supported.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Completed {
    Bash,
    Zsh,
    Fish,
}

/// Arguments of `adit man`.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Folder to write a page for every command to, made if it is missing [default: print the page adit(1)]
    dir: Option<PathBuf>,
}

/// Prints the completion script of a shell.
pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<()> {
    let shell = match args.shell {
        Completed::Bash => Shell::Bash,
        Completed::Zsh => Shell::Zsh,
        Completed::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut arguments::command::<Arguments>(), "adit", &mut script);
    print(&script)
}

/// Writes the manual pages of all commands, or prints the first one.
pub(crate) fn man(args: &ManArgs) -> anyhow::Result<()> {
    let command = without_help(arguments::command::<Arguments>());
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        return print(&page);
    };
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(command, dir))
        .with_context(|| {
            format!(
                "cannot write manual pages to {}; name a folder that this user may write to",
                dir.display()
            )
        })
}

/// Without the commands `help`, which have no pages.
fn without_help(command: Command) -> Command {
    command
        .disable_help_subcommand(true)
        .mut_subcommands(without_help)
}

fn print(bytes: &[u8]) -> anyhow::Result<()> {
    match std::io::stdout().write_all(bytes) {
        // Whoever read it has enough of it.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}
