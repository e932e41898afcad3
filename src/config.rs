//! The configuration file of a command: TOML, whose keys are the names of the command's flags.

use std::any::TypeId;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use clap::{Arg, ArgAction, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The flag that names the file.
pub(crate) const CONFIG: &str = "config";

/// Flags that are no keys: they say what to do with the file.
const NOT_KEYS: [&str; 2] = [CONFIG, "check-config"];

/// The longest configuration file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Characters of a wrong value that an error repeats.
const EXCERPT: usize = 60;

/// How like a key another must be to be meant by it, between 0 and 1.
const ALIKE: f64 = 0.7;

/// A configuration file that was read.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) path: PathBuf,
    pub(crate) settings: Vec<Setting>,
}

/// One key of the file.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The flag in clap's terms.
    pub(crate) id: String,
    /// The flag's name.
    pub(crate) key: String,
    /// Where it is in the file, from 1.
    pub(crate) line: usize,
    value: Value,
}

/// A value as flags express it.
#[derive(Debug)]
enum Value {
    /// A flag that is there or not.
    Switch(bool),
    /// One value, or a flag that is repeated.
    Texts(Vec<String>),
}

/// What a flag takes.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Switch,
    Number,
    Text,
    List,
}

/// What cannot be used, and its line.
#[derive(Debug)]
struct Mistake {
    line: usize,
    message: String,
}

impl Config {
    /// Reads the file of `command`, whose flags decide which keys there are, and of which types.
    pub(crate) fn read(path: &Path, command: &Command) -> anyhow::Result<Self> {
        let shown = path.display();
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
            .with_context(|| format!("cannot read the configuration file {shown}"))?;
        ensure!(
            bytes.len() as u64 <= MAX_FILE,
            "the configuration file {shown} has more than {MAX_FILE} bytes"
        );
        let settings = settings(&bytes, command).map_err(|mistakes| {
            let mistakes: String = mistakes
                .iter()
                .map(|Mistake { line, message }| format!("\n  line {line}: {message}"))
                .collect();
            anyhow!("the configuration file {shown} is wrong{mistakes}")
        })?;
        Ok(Self {
            path: path.to_owned(),
            settings,
        })
    }

    /// The settings as a command line says them.
    pub(crate) fn flags(&self) -> impl Iterator<Item = OsString> {
        self.settings.iter().flat_map(|Setting { key, value, .. }| {
            let flags: Vec<String> = match value {
                Value::Switch(true) => vec![format!("--{key}")],
                Value::Switch(false) => Vec::new(),
                Value::Texts(texts) => texts.iter().map(|text| format!("--{key}={text}")).collect(),
            };
            flags.into_iter().map(OsString::from)
        })
    }
}

/// The settings in a file, or all that is wrong with it.
fn settings(bytes: &[u8], command: &Command) -> Result<Vec<Setting>, Vec<Mistake>> {
    let broken = |at, message: &str| {
        let message = format!("this is not TOML: {message}");
        vec![Mistake {
            line: line(bytes, at),
            message,
        }]
    };
    let text = str::from_utf8(bytes)
        .map_err(|error| broken(error.valid_up_to(), "it holds bytes that are not UTF-8"))?;
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        broken(at, error.message())
    })?;
    let (mut settings, mut mistakes) = (Vec::new(), Vec::new());
    for (key, value) in table.get_ref() {
        let line = line(bytes, key.span().start);
        match setting(text, command, key.get_ref(), value, line) {
            Ok(setting) => settings.push(setting),
            Err(message) => mistakes.push(Mistake { line, message }),
        }
    }
    if mistakes.is_empty() {
        Ok(settings)
    } else {
        mistakes.sort_by_key(|mistake| mistake.line);
        Err(mistakes)
    }
}

fn setting(
    text: &str,
    command: &Command,
    key: &str,
    value: &Spanned<DeValue<'_>>,
    line: usize,
) -> Result<Setting, String> {
    let Some((name, arg)) = keys(command).find(|(name, _)| *name == key) else {
        return Err(unknown(key, command));
    };
    let kind = Kind::of(arg);
    let value = kind.read(value).ok_or_else(|| {
        let found = excerpt(text, value.span());
        format!(
            "{key} = {found}: this is {}, and {key} takes {kind}",
            found_type(value.get_ref())
        )
    })?;
    Ok(Setting {
        id: arg.get_id().to_string(),
        key: name.to_owned(),
        line,
        value,
    })
}

/// The keys of a command's file, and the flags that they stand for.
pub(crate) fn keys(command: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    command
        .get_arguments()
        .filter_map(|arg| arg.get_long().map(|name| (name, arg)))
        .filter(|(name, _)| !NOT_KEYS.contains(name))
}

/// What is said of a key that there isn't.
fn unknown(key: &str, command: &Command) -> String {
    let likeness = |name: &str| strsim::jaro_winkler(&key.to_lowercase(), name);
    let nearest = keys(command)
        .map(|(name, _)| (likeness(name), name))
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let key: String = key.chars().take(EXCERPT).collect();
    match nearest {
        Some((likeness, nearest)) if likeness >= ALIKE => {
            format!("there is no key {key:?}: did you mean {nearest:?}?")
        }
        _ => {
            let known: Vec<&str> = keys(command).map(|(name, _)| name).collect();
            match command.get_name() {
                CONFIG => format!("there is no key {key:?}: the keys are {}", known.join(", ")),
                command => format!(
                    "there is no key {key:?}: keys are the names of the flags that adit {command} --help lists"
                ),
            }
        }
    }
}

impl Kind {
    fn of(arg: &Arg) -> Self {
        let numbers = [TypeId::of::<NonZeroUsize>(), TypeId::of::<u32>()];
        match arg.get_action() {
            ArgAction::SetTrue => Self::Switch,
            ArgAction::Append => Self::List,
            _ if numbers
                .iter()
                .any(|number| arg.get_value_parser().type_id() == *number) =>
            {
                Self::Number
            }
            _ => Self::Text,
        }
    }

    /// The value, if it is of this kind.
    fn read(self, value: &Spanned<DeValue<'_>>) -> Option<Value> {
        match (self, value.get_ref()) {
            (Self::Switch, DeValue::Boolean(on)) => Some(Value::Switch(*on)),
            (Self::Text, DeValue::String(text)) => Some(Value::Texts(vec![text.to_string()])),
            (Self::Number, DeValue::Integer(number)) => {
                let decimal = i64::from_str_radix(number.as_str(), number.radix());
                // A greater one is refused as the flag would refuse it.
                let text = decimal.map_or_else(|_| number.to_string(), |decimal| decimal.to_string());
                Some(Value::Texts(vec![text]))
            }
            (Self::List, DeValue::Array(items)) if !items.is_empty() => {
                let texts = items
                    .iter()
                    .map(|item| item.get_ref().as_str().map(str::to_owned));
                texts.collect::<Option<_>>().map(Value::Texts)
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Switch => "true or false",
            Self::Number => "an integer",
            Self::Text => "a string",
            Self::List => "a list of one or more strings",
        })
    }
}

fn found_type(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(items) if items.is_empty() => "an empty list",
        DeValue::Array(items) if items.iter().all(|item| item.get_ref().is_str()) => "a list",
        DeValue::Array(_) => "a list of other things than strings",
        DeValue::Table(_) => "a table",
    }
}

/// The line of a byte, from 1.
fn line(text: &[u8], at: usize) -> usize {
    let before = text.get(..at).unwrap_or(text);
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}

/// A value as it is written, up to the line's end or [`EXCERPT`].
fn excerpt(text: &str, span: Range<usize>) -> String {
    let written = text.get(span).unwrap_or_default();
    let line = written.lines().next().unwrap_or_default();
    let mut excerpt: String = line.chars().take(EXCERPT).collect();
    if excerpt.len() < written.trim_end().len() {
        excerpt.push('…');
    }
    excerpt
}
