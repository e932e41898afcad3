//! What changes among the links, told as it happens.

use std::collections::BTreeMap;
use std::time::SystemTime;

use adit_client::status::printable;
use adit_proto::hub::v1::{Link, WatchLinksResponse};
use serde::Serialize;

use crate::admin::{self, state};
use crate::colour::Colours;

use super::shown::{Record, services, short_instance, table};

/// Columns and rows of a terminal that doesn't say how large it is.
const SIZE: (usize, usize) = (80, 24);

/// How changes are told.
#[derive(Debug)]
pub(super) enum Screen {
    /// A terminal, on which everything is drawn again.
    Terminal {
        /// The line above the table.
        title: String,
    },
    /// A line for each change that people care about.
    Lines,
    /// An object for each change, counts of calls included.
    Objects,
}

/// The links as far as they have been told.
#[derive(Debug, Default)]
pub(super) struct Known {
    links: BTreeMap<u64, Link>,
    /// All links of the start are there.
    started: bool,
    /// Something has been drawn.
    drawn: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    /// It was there at the start.
    Present,
    Connected,
    Changed,
    Ended,
}

/// An object of `--watch -o json`.
#[derive(Serialize)]
struct Told<'a> {
    at: String,
    event: Event,
    #[serde(flatten)]
    link: Record<'a>,
}

impl Known {
    /// Takes what the hub says, and gives what is to be printed of it.
    pub(super) fn take(&mut self, response: WatchLinksResponse, screen: &Screen) -> anyhow::Result<String> {
        let mut text = String::new();
        for id in response.ended {
            if let Some(link) = self.links.remove(&id) {
                text.push_str(&told(screen, Event::Ended, None, &link)?);
            }
        }
        for link in response.changed {
            let before = self.links.insert(link.id, link.clone());
            let event = match (&before, self.started) {
                (Some(_), _) => Event::Changed,
                (None, true) => Event::Connected,
                (None, false) => Event::Present,
            };
            text.push_str(&told(screen, event, before.as_ref(), &link)?);
        }
        if !response.more {
            self.started = true;
            text.push_str(&self.later(screen));
        }
        Ok(text)
    }

    /// What is to be printed because time has gone by.
    pub(super) fn later(&mut self, screen: &Screen) -> String {
        match screen {
            Screen::Terminal { title } if self.started => self.draw(title),
            _ => String::new(),
        }
    }

    fn draw(&mut self, title: &str) -> String {
        let (columns, rows) =
            terminal_size::terminal_size().map_or(SIZE, |(columns, rows)| (columns.0.into(), rows.0.into()));
        let mut links: Vec<&Link> = self.links.values().collect();
        links.sort_by_key(|link| (&link.agent, &link.instance, link.slot, link.id));
        let lines = table(links).lines(Colours::of(&std::io::stdout()), columns);
        let now = humantime::format_rfc3339_seconds(SystemTime::now());
        let title = format!("{title}, {} links, {now}", self.links.len());
        let screen = page(&title, &lines, columns, rows);
        // What was on the terminal goes the first time; later it is written over, which does not flicker.
        let begin = if self.drawn { "\x1b[H" } else { "\x1b[2J\x1b[H" };
        self.drawn = true;
        format!("{begin}{}\x1b[J", screen.replace('\n', "\x1b[K\n"))
    }
}

/// As much of a table as fits. Its lines do.
fn page(title: &str, lines: &[String], columns: usize, rows: usize) -> String {
    let cut = |line: &str| line.chars().take(columns).collect::<String>() + "\n";
    // The title, and the line that the cursor stands on.
    let room = rows.saturating_sub(2).max(2);
    let mut page = cut(title);
    if lines.len() <= room {
        page.extend(lines.iter().map(|line| format!("{line}\n")));
    } else {
        page.extend(lines.iter().take(room - 1).map(|line| format!("{line}\n")));
        page.push_str(&cut(&format!("and {} more", lines.len() + 1 - room)));
    }
    page
}

fn told(screen: &Screen, event: Event, before: Option<&Link>, link: &Link) -> anyhow::Result<String> {
    match screen {
        Screen::Terminal { .. } => Ok(String::new()),
        Screen::Objects => admin::line(&Told {
            at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            event,
            link: Record::of(link),
        }),
        Screen::Lines if before.is_some_and(|before| standing(before) == standing(link)) => Ok(String::new()),
        Screen::Lines => {
            let event = match event {
                Event::Present => "present",
                Event::Connected => "connected",
                Event::Changed => "changed",
                Event::Ended => "ended",
            };
            let now = humantime::format_rfc3339_seconds(SystemTime::now());
            let instance = short_instance(link);
            let line = format!(
                "{now} {event:9} agent={} link={} instance={} slot={} state={} services={} carrier={} remote={} version={}",
                link.agent,
                link.id,
                if instance.is_empty() { "-" } else { &instance },
                link.slot,
                state(link),
                services(link),
                link.carrier,
                link.remote_address,
                if link.version.is_empty() {
                    "-"
                } else {
                    &link.version
                },
            );
            Ok(printable(&line) + "\n")
        }
    }
}

/// What people care about when it changes.
fn standing(link: &Link) -> (&'static str, String) {
    (state(link), services(link))
}

#[cfg(test)]
mod tests {
    use adit_proto::hub::v1::link::State;
    use adit_proto::hub::v1::{Link, WatchLinksResponse};

    use super::{Known, Screen, page};

    fn link(id: u64, state: State, calls: u64) -> Link {
        Link {
            id,
            agent: "site-7".to_owned(),
            calls,
            state: state.into(),
            ..Link::default()
        }
    }

    fn response(changed: Vec<Link>, ended: Vec<u64>) -> WatchLinksResponse {
        WatchLinksResponse {
            changed,
            ended,
            more: false,
        }
    }

    /// The second words of the lines.
    fn events(known: &mut Known, screen: &Screen, response: WatchLinksResponse) -> Vec<String> {
        let text = known.take(response, screen).unwrap_or_default();
        let words = |line: &str| line.split_whitespace().nth(1).unwrap_or_default().to_owned();
        text.lines().map(words).collect()
    }

    #[test]
    fn lines_tell_what_people_care_about() {
        let (mut known, screen) = (Known::default(), Screen::Lines);
        let mut first = response(vec![link(1, State::Ready, 0)], vec![]);
        first.more = true;
        assert_eq!(events(&mut known, &screen, first), ["present"]);
        let rest = response(vec![link(2, State::Ready, 0)], vec![]);
        assert_eq!(events(&mut known, &screen, rest), ["present"]);
        let busy = response(vec![link(1, State::Ready, 9)], vec![]);
        assert_eq!(events(&mut known, &screen, busy), [""; 0]);
        let drained = response(
            vec![link(1, State::Draining, 9), link(3, State::Ready, 0)],
            vec![2, 7],
        );
        assert_eq!(
            events(&mut known, &screen, drained),
            ["ended", "changed", "connected"]
        );
    }

    #[test]
    fn objects_tell_everything() {
        let (mut known, screen) = (Known::default(), Screen::Objects);
        for (calls, event) in [(0, "present"), (1, "changed")] {
            let text = known.take(response(vec![link(1, State::Ready, calls)], vec![]), &screen);
            let object: serde_json::Value =
                serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default();
            assert_eq!(
                (object["event"].as_str(), object["calls"].as_u64()),
                (Some(event), Some(calls))
            );
        }
    }

    #[test]
    fn a_page_fits_the_terminal() {
        let lines = ["head", "1", "2", "3", "4"].map(str::to_owned);
        assert_eq!(page("title", &lines, 80, 24), "title\nhead\n1\n2\n3\n4\n");
        assert_eq!(page("title", &lines, 3, 5), "tit\nhead\n1\nand\n");
        assert_eq!(page("title", &lines, 80, 5), "title\nhead\n1\nand 3 more\n");
    }
}
