//! What the commands that ask a hub have in common: the connection to its admin port, output, and exit codes.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use adit_certs::AgentId;
use adit_client::connection::{Channel, ConnectError, Connection};
use adit_client::status::{Failure, printable};
use adit_client::suggest;
use adit_client::target::Target;
use adit_client::tls::Trust;
use adit_proto::hub::v1::hub_client::HubClient;
use adit_proto::hub::v1::link::State;
use adit_proto::hub::v1::{Link, ListLinksRequest};
use anyhow::{Context as _, anyhow};
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tonic::{Code, Request, Status};

use crate::colour::{Colours, Tone};

/// Where a hub's admin port is unless `--admin` says otherwise.
pub(crate) const DEFAULT: &str = "http://127.0.0.1:9091";

/// How many names an error lists.
const LISTED: usize = 10;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a call may take that is not to go on until it is stopped.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// What a failed call's exit code is counted from: the gRPC status is added to it.
const EXIT_FAILED_CALL: u8 = 64;

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people
    Table,
    /// For programs: the names of fields stay as they are, and more may be added
    Json,
}

/// Where a hub is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct AdminArgs {
    /// The hub's port for operators: http://HOST:PORT
    #[arg(long, global = true, value_name = "URL", default_value = DEFAULT)]
    pub(crate) admin: Target,
    /// The user's settings, in TOML, of which these commands take admin; flags and environment variables beat it
    /// [default: adit/config.toml in $XDG_CONFIG_HOME, or in ~/.config]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A hub's admin port.
pub(crate) struct Admin {
    target: Target,
    hub: HubClient<Channel>,
    /// Its calls end with it.
    _connection: Connection,
}

impl Admin {
    pub(crate) async fn open(target: &Target) -> anyhow::Result<Self> {
        let connection = Connection::open(target, &Trust::System, CONNECT_TIMEOUT).await;
        let connection = connection.map_err(|error| match error {
            ConnectError::Tcp { target, reason } => anyhow!(
                "cannot connect to {target}: {reason}; is the hub running, and is --admin its admin port?"
            ),
            ConnectError::Timeout { target, within } => anyhow!(
                "no connection to {target} within {within:?}; is the hub running, and is --admin its admin port?"
            ),
            error => anyhow!(error).context("the hub's admin port cannot be asked"),
        })?;
        Ok(Self {
            target: target.clone(),
            hub: HubClient::with_origin(connection.channel(), connection.origin().clone()),
            _connection: connection,
        })
    }

    /// For a call, whose errors are for [`failed`](Self::failed).
    pub(crate) fn hub(&mut self) -> &mut HubClient<Channel> {
        &mut self.hub
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// A call's failure, with what to do where the port is the wrong one.
    pub(crate) fn failed(&self, status: Status) -> anyhow::Error {
        let code = status.code();
        let error = anyhow!(Failure::without_schema(status));
        match code {
            // The clients' port denies such calls, and other gRPC servers know none.
            Code::Unimplemented | Code::PermissionDenied => error.context(format!(
                "{} does not answer as a hub's admin port does; is --admin right?",
                self.target
            )),
            _ => error.context(format!("the hub at {} says", self.target)),
        }
    }

    /// What is said of an agent that has no link: who may have been meant, and who is connected.
    pub(crate) async fn not_connected(&mut self, id: &AgentId) -> String {
        let begin = format!("agent {id} is not connected to the hub at {}", self.target);
        // Without an answer less is said.
        let links = self.links(None, false).await.unwrap_or_default();
        let connected: BTreeSet<&str> = links.iter().map(|link| link.agent.as_str()).collect();
        if connected.is_empty() {
            return format!("{begin}; is it running, and is its id right?");
        }
        let hint = suggest::nearest(id.as_str(), connected.iter().copied());
        let hint = hint.map_or_else(String::new, |name| format!("; did you mean {}?", printable(name)));
        format!("{begin}{hint}; connected: {}", listed(&connected))
    }

    /// The links of all agents or of one, ordered by agent and link.
    pub(crate) async fn links(&mut self, agent: Option<&str>, names: bool) -> anyhow::Result<Vec<Link>> {
        let request = bounded(ListLinksRequest {
            agent: agent.unwrap_or_default().to_owned(),
            names,
        });
        let pages = self.hub.list_links(request).await;
        let mut pages = pages.map_err(|status| self.failed(status))?.into_inner();
        let mut links = Vec::new();
        while let Some(page) = pages.message().await.map_err(|status| self.failed(status))? {
            links.extend(page.links);
        }
        Ok(links)
    }
}

/// Names, as many as an error has room for.
pub(crate) fn listed(names: &BTreeSet<&str>) -> String {
    let more = names.len().saturating_sub(LISTED);
    let names: Vec<String> = names.iter().take(LISTED).map(|name| printable(name)).collect();
    let mut text = names.join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// A request of a call that is over soon.
pub(crate) fn bounded<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

/// The exit code of a command: 64 and the status for a failed call, and success where whoever read the output had
/// enough of it.
pub(crate) fn ended(result: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    let Err(error) = result else {
        return result;
    };
    if let Some(failed) = error.downcast_ref::<io::Error>()
        && failed.kind() == io::ErrorKind::BrokenPipe
    {
        return Ok(ExitCode::SUCCESS);
    }
    let status = error
        .downcast_ref::<Failure>()
        .map(|failure| failure.status().code());
    match status.map(|code| u8::try_from(code as i32)) {
        Some(Ok(status)) => {
            crate::process::complain(&error);
            Ok(ExitCode::from(EXIT_FAILED_CALL.saturating_add(status)))
        }
        _ => Err(error),
    }
}

/// Writes to standard output, now. The connection is served while a slow reader takes it.
pub(crate) async fn print(text: &str) -> anyhow::Result<()> {
    let mut out = tokio::io::stdout();
    out.write_all(text.as_bytes()).await?;
    out.flush().await?;
    Ok(())
}

/// A document for programs that people can read too.
pub(crate) fn document(value: &impl Serialize) -> anyhow::Result<String> {
    let text = serde_json::to_string_pretty(value).context("cannot write JSON")?;
    Ok(plain(text) + "\n")
}

/// A document in one line.
pub(crate) fn line(value: &impl Serialize) -> anyhow::Result<String> {
    let text = serde_json::to_string(value).context("cannot write JSON")?;
    Ok(plain(text) + "\n")
}

/// JSON lets control characters above ASCII through as they are, and a terminal would obey them.
fn plain(json: String) -> String {
    let obeyed = |character: char| character.is_control() && character != '\n';
    if !json.contains(obeyed) {
        return json;
    }
    let mut plain = String::with_capacity(json.len());
    for character in json.chars() {
        if obeyed(character) {
            plain.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            plain.push(character);
        }
    }
    plain
}

/// What stands in a column of a line.
#[derive(Debug)]
pub(crate) struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl Cell {
    /// A text that has a colour where there are any.
    pub(crate) fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            tone: Some(tone),
        }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, tone: None }
    }
}

/// Lines of cells, printed in columns.
#[derive(Debug)]
pub(crate) struct Table(Vec<Vec<Cell>>);

impl Table {
    pub(crate) fn new(heads: &[&str]) -> Self {
        let heads = heads.iter().map(|&head| Cell::toned(Tone::Name, head));
        Self(vec![heads.collect()])
    }

    /// Adds a line. What a terminal would obey is escaped, and a cell that has nothing to show is a dash, so that each
    /// line has as many words as the first.
    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        let shown = cells.map(|Cell { text, tone }| Cell {
            text: match text.is_empty() {
                true => "-".to_owned(),
                false => printable(&text),
            },
            tone,
        });
        self.0.push(shown.into());
    }

    /// The lines, none of them wider than `columns`.
    pub(crate) fn lines(&self, colours: Colours, columns: usize) -> Vec<String> {
        let mut widths = Vec::new();
        for row in &self.0 {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.text.chars().count().max(*width);
            }
        }
        let line = |row: &Vec<Cell>| {
            let (mut line, mut used, mut blank) = (String::new(), 0, 0);
            for (cell, &width) in row.iter().zip(&widths) {
                let text: String = cell
                    .text
                    .chars()
                    .take(columns.saturating_sub(used + blank))
                    .collect();
                if text.is_empty() {
                    break;
                }
                line.push_str(&" ".repeat(blank));
                let length = text.chars().count();
                used += blank + length;
                blank = width + 2 - cell.text.chars().count();
                line.push_str(&match cell.tone {
                    Some(tone) => colours.paint(tone, text),
                    None => text,
                });
            }
            line
        };
        self.0.iter().map(line).collect()
    }

    /// All of it, for standard output.
    pub(crate) fn shown(&self) -> String {
        self.text(Colours::of(&io::stdout()))
    }

    fn text(&self, colours: Colours) -> String {
        let lines = self.lines(colours, usize::MAX);
        lines.into_iter().map(|line| line + "\n").collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(Colours::NONE))
    }
}

/// A link's state as it is printed.
pub(crate) fn state(link: &Link) -> &'static str {
    match link.state() {
        State::Unspecified => "unknown",
        State::Ready => "ready",
        State::Suspect => "suspect",
        State::Draining => "draining",
    }
}

/// The same for a table.
pub(crate) fn state_cell(link: &Link) -> Cell {
    let tone = match link.state() {
        State::Ready => Tone::Good,
        State::Unspecified | State::Suspect | State::Draining => Tone::Odd,
    };
    Cell::toned(tone, state(link))
}

/// How long ago a time of the hub's was. Its clock may be ahead of this one: never less than nothing.
pub(crate) fn age(time: Option<prost_types::Timestamp>) -> Option<Duration> {
    Some(
        SystemTime::now()
            .duration_since(moment(time)?)
            .unwrap_or_default(),
    )
}

/// A time as programs read it (RFC 3339).
pub(crate) fn rfc3339(time: Option<prost_types::Timestamp>) -> Option<String> {
    moment(time).map(|time| humantime::format_rfc3339_millis(time).to_string())
}

fn moment(time: Option<prost_types::Timestamp>) -> Option<SystemTime> {
    // Further on than a calendar with four digits for the year goes is no time.
    let latest = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    SystemTime::try_from(time?)
        .ok()
        .filter(|time| (SystemTime::UNIX_EPOCH..latest).contains(time))
}

/// A duration in its two largest units: `3d4h`, `2h13m`, `45s`.
pub(crate) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, ..) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// A duration in its two largest units, in words: `2 hours 13 minutes`.
pub(crate) fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [
        (seconds / 86_400, "day"),
        (seconds / 3600 % 24, "hour"),
        (seconds / 60 % 60, "minute"),
        (seconds % 60, "second"),
    ];
    let first = units.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let words: Vec<String> = (units.iter().skip(first).take(2))
        .enumerate()
        .filter(|(n, (count, _))| *n == 0 || *count > 0)
        .map(|(_, (count, unit))| format!("{count} {unit}{}", if *count == 1 { "" } else { "s" }))
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Cell, Colours, Table, Tone, in_words, plain, short};

    #[test]
    fn a_table_has_columns_and_nothing_that_a_terminal_obeys() {
        let mut table = Table::new(&["AGENT", "VERSION", "LABELS"]);
        table.row([
            "site-7".to_owned().into(),
            "\u{1b}[31m".to_owned().into(),
            String::new().into(),
        ]);
        assert_eq!(
            table.to_string(),
            "AGENT   VERSION     LABELS\nsite-7  \\u{1b}[31m  -\n"
        );
    }

    #[test]
    fn colours_take_no_room() {
        let mut table = Table::new(&["A", "B"]);
        table.row([Cell::toned(Tone::Bad, "no"), "x".to_owned().into()]);
        let lines = table.lines(Colours::ALL, 80);
        assert_eq!(
            lines,
            [
                "\u{1b}[1mA\u{1b}[0m   \u{1b}[1mB\u{1b}[0m",
                "\u{1b}[31mno\u{1b}[0m  x"
            ]
        );
        assert_eq!(table.lines(Colours::NONE, 80), ["A   B", "no  x"]);
        assert_eq!(table.lines(Colours::NONE, 4), ["A", "no"]);
        assert_eq!(table.lines(Colours::NONE, 1), ["A", "n"]);
    }

    #[test]
    fn json_stays_json_without_control_characters() {
        let text = "a\u{9b}31m\u{7f}";
        let json = plain(serde_json::to_string(text).unwrap_or_default());
        assert_eq!(json, "\"a\\u009b31m\\u007f\"");
        assert_eq!(serde_json::from_str::<String>(&json).ok().as_deref(), Some(text));
    }

    #[test]
    fn ages_have_two_units() {
        let ages = [0, 59, 61, 3600, 8000, 90_000, 31 * 86_400];
        let shown = ages.map(|seconds| short(Duration::from_secs(seconds)));
        assert_eq!(shown, ["0s", "59s", "1m1s", "1h0m", "2h13m", "1d1h", "31d0h"]);
        let words = ages.map(|seconds| in_words(Duration::from_secs(seconds)));
        assert_eq!(
            words,
            [
                "0 seconds",
                "59 seconds",
                "1 minute 1 second",
                "1 hour",
                "2 hours 13 minutes",
                "1 day 1 hour",
                "31 days"
            ]
        );
    }
}
