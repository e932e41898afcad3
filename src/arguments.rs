//! What a command is told: by its flags, by the environment, and by its configuration file.
//!
//! A setting is defined once, as a flag. `--reconnect-grace` of `adit hub` is also the variable
//! `ADIT_HUB_RECONNECT_GRACE` and the key `reconnect-grace` of the [configuration file](crate::config). A flag beats the
//! variable, which beats the file. The commands that call share a file, the [user's](crate::user_config).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{BoolishValueParser, StyledStr};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command, Error, Parser};

use crate::config::{CONFIG, Config, Setting};
use crate::user_config;

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
    if let Some((config, name)) = &config {
        // To clap, the file's settings are flags like others: it checks values, conflicts and requirements alike. After
        // the command's name, because what stands behind a `--` is no flag.
        let at = line.iter().position(|word| word == name.as_str());
        let at = at.map_or(line.len(), |at| at + 1);
        line.splice(at..at, config.flags());
    }
    command
        .try_get_matches_from_mut(line)
        .map_err(|error| match &config {
            Some((config, _)) => blame(error, config),
            None => error,
        })
}

/// The configuration file of the command that this line calls, if it has one, without what flags or the environment
/// have decided; and the command's name.
fn configured(command: &Command, line: &[OsString]) -> Result<Option<(Config, String)>, Error> {
    // What is wrong with the line is found when it is read again: here only what is right in it matters.
    let lenient = command.clone().ignore_errors(true);
    let Ok(matches) = lenient.try_get_matches_from(line) else {
        return Ok(None);
    };
    let (Some((name, mut matches)), Some(first)) = (matches.subcommand(), matches.subcommand_name()) else {
        return Ok(None);
    };
    let Some(called) = command.find_subcommand(first) else {
        return Ok(None);
    };
    // What is said after a command's command holds for it too.
    while let Some((_, nested)) = matches.subcommand() {
        matches = nested;
    }
    let named = matches.try_get_one::<PathBuf>(CONFIG).ok().flatten().cloned();
    let explicit = |id: &str| {
        let source = matches
            .try_contains_id(id)
            .is_ok()
            .then(|| matches.value_source(id));
        matches!(
            source.flatten(),
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        )
    };
    let wrong = |error: anyhow::Error| Error::raw(ErrorKind::Io, format!("{error:#}\n"));
    if let Some(config) = user_config::read(command, called, named.as_deref(), explicit).map_err(wrong)? {
        return Ok(Some((config, name.to_owned())));
    }
    let Some(path) = named else {
        return Ok(None);
    };
    let mut config = Config::read(&path, called).map_err(wrong)?;
    config.settings.retain(|setting| !explicit(&setting.id));
    Ok(Some((config, name.to_owned())))
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
