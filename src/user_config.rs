//! The user's configuration file: what the commands that call a hub share.

use std::path::{Path, PathBuf};

use clap::Command;

use crate::config::{CONFIG, Config, keys};

/// The commands that have it.
const COMMANDS: [&str; 6] = ["call", "connect", "describe", "list", "agents", "status"];

/// The one of them that has all of the keys.
const MODEL: &str = "call";

/// The keys.
pub(crate) const KEYS: [&str; 8] = ["hub", "admin", "certs", "name", "ca", "cert", "key", "agent"];

/// Those of them that are one thing together: who the caller is, and whom it trusts.
const IDENTITY: [&str; 5] = ["certs", "name", "ca", "cert", "key"];

/// Reads the file for a command, `named` or where it is by default. `None` where the command has none.
///
/// Left out is what is `explicit`, by a flag or a variable, and what would contradict that.
///
/// # Errors
///
/// The file is wrong, or cannot be read; only one that is not named may be missing.
pub(crate) fn read(
    all: &Command,
    called: &Command,
    named: Option<&Path>,
    explicit: impl Fn(&str) -> bool,
) -> anyhow::Result<Option<Config>> {
    let (true, Some(model)) = (COMMANDS.contains(&called.get_name()), all.find_subcommand(MODEL)) else {
        return Ok(None);
    };
    let path = match named {
        Some(path) => path.to_owned(),
        None => match default_path().filter(|path| path.exists()) {
            Some(path) => path,
            None => return Ok(None),
        },
    };
    let known = keys(model).filter(|(key, _)| KEYS.contains(key));
    let known = Command::new(CONFIG).args(known.map(|(_, arg)| arg.clone()));
    let mut config = Config::read(&path, &known)?;
    let has_identity = IDENTITY.iter().any(|key| explicit(key));
    config.settings.retain(|setting| {
        let Some((_, arg)) = keys(called).find(|(key, _)| *key == setting.key) else {
            return false;
        };
        let contradicts = called.get_arguments().any(|other| {
            let of = |one, other| called.get_arg_conflicts_with(one).contains(&other);
            explicit(other.get_id().as_str()) && (of(arg, other) || of(other, arg))
        });
        let is_identity = has_identity && IDENTITY.contains(&setting.key.as_str());
        !explicit(&setting.id) && !contradicts && !is_identity
    });
    Ok(Some(config))
}

/// `config.toml` in the folder `adit` where this user's settings are: `$XDG_CONFIG_HOME`, or `~/.config`.
#[cfg(feature = "client")]
fn default_path() -> Option<PathBuf> {
    use etcetera::BaseStrategy as _;

    let folders = etcetera::choose_base_strategy().ok()?;
    Some(folders.config_dir().join("adit").join("config.toml"))
}

#[cfg(not(feature = "client"))]
fn default_path() -> Option<PathBuf> {
    None
}
