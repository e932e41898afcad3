//! What a command is told: by its flags, by the environment, and by its configuration file.
//!
//! A setting is defined once, as a flag. `--reconnect-grace` of `adit hub` is also the variable
//! `ADIT_HUB_RECONNECT_GRACE` and the key `reconnect-grace` of the [configuration file](crate::config). A flag beats the
//! variable, which beats the file.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{BoolishValueParser, StyledStr};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command, Error, Parser};

use crate::config::{CONFIG, Config, Setting};

#[cfg(all(test, feature = "hub", feature = "agent"))]
mod tests;

/// Reads the arguments of this process.
///
/// # Errors
///
/// The command line, the environment or the configuration file is wrong, or help is asked for: what clap prints, with
/// its exit code.
pub(crate) fn parse<A: Parser>() -> Result<A, Error> {
    let mut command = command::<A>();
    let matches = matches(&mut command, std::env::args_os().collect())?;
    A::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// The command with the environment variables of all its flags.
pub(crate) fn command<A: Parser>() -> Command {
    A::command().mut_subcommands(|subcommand| {
        let prefix = format!("adit-{}", subcommand.get_name());
        with_environment(subcommand, &prefix)
    })
}

/// `ADIT_<COMMAND>_<FLAG>` for every flag, those of nested commands too.
fn with_environment(command: Command, prefix: &str) -> Command {
    let command = command.mut_args(|arg| {
        let Some(flag) = arg.get_long() else {
            return arg;
        };
        let name = format!("{prefix}-{flag}").replace('-', "_").to_uppercase();
        let switch = matches!(arg.get_action(), ArgAction::SetTrue);
        // Values may be secrets, and help is no place for any.
        let arg = arg.env(name).hide_env_values(true);
        if switch {
            // A variable can also say no, in several words.
            arg.value_parser(BoolishValueParser::new())
        } else {
            arg
        }
    });
    command.mut_subcommands(|subcommand| with_environment(subcommand, prefix))
}

/// Reads a command line, with what the configuration file adds to it.
fn matches(command: &mut Command, mut line: Vec<OsString>) -> Result<ArgMatches, Error> {
    let config = configured(command, &line)?;
    // To clap, the file's settings are flags like others: it checks values, conflicts and requirements alike.
    line.extend(config.iter().flat_map(Config::flags));
    command
        .try_get_matches_from_mut(line)
        .map_err(|error| match &config {
            Some(config) => blame(error, config),
            None => error,
        })
}

/// The configuration file of the command that this line calls, if it has one, without what flags or the environment
/// have decided.
fn configured(command: &Command, line: &[OsString]) -> Result<Option<Config>, Error> {
    // What is wrong with the line is found when it is read again: here only what is right in it matters.
    let lenient = command.clone().ignore_errors(true);
    let Ok(matches) = lenient.try_get_matches_from(line) else {
        return Ok(None);
    };
    let Some((name, matches)) = matches.subcommand() else {
        return Ok(None);
    };
    let path = matches.try_get_one::<PathBuf>(CONFIG).ok().flatten();
    let (Some(path), Some(command)) = (path, command.find_subcommand(name)) else {
        return Ok(None);
    };
    let mut config =
        Config::read(path, command).map_err(|error| Error::raw(ErrorKind::Io, format!("{error:#}\n")))?;
    config.settings.retain(|setting| {
        let source = matches.value_source(&setting.id);
        !matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    });
    Ok(Some(config))
}

/// Says of the flags in an error where in the file they are.
fn blame(mut error: Error, config: &Config) -> Error {
    let named: Vec<String> = [ContextKind::InvalidArg, ContextKind::PriorArg]
        .into_iter()
        .flat_map(|kind| match error.get(kind) {
            Some(ContextValue::String(flag)) => vec![flag.clone()],
            Some(ContextValue::Strings(flags)) => flags.clone(),
            _ => Vec::new(),
        })
        .collect();
    let is_named = |setting: &&Setting| {
        named
            .iter()
            .any(|flag| flag.split([' ', '=']).next() == Some(&format!("--{}", setting.key)))
    };
    let path = config.path.display();
    let mut tips: Vec<String> = (config.settings.iter().filter(is_named))
        .map(|Setting { key, line, .. }| {
            format!("'--{key}' comes from the key '{key}', line {line} of {path}")
        })
        .collect();
    if tips.is_empty() && error.kind() == ErrorKind::MissingRequiredArgument {
        tips.push(format!("{path} was read, and may set it"));
    }
    if !tips.is_empty() {
        let tips = tips.into_iter().map(StyledStr::from).collect();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error
}
