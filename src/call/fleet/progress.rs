//! How far the calls are, in the last line of a terminal.

use std::io::{IsTerminal as _, Write as _};

/// The line; nothing at all where standard error is no terminal.
pub(super) struct Progress {
    agents: usize,
    done: usize,
    failed: usize,
    shown: bool,
    drawn: bool,
}

impl Progress {
    pub(super) fn of(agents: usize) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let mut progress = Self {
            agents,
            done: 0,
            failed: 0,
            shown: std::io::stderr().is_terminal() && !dumb,
            drawn: false,
        };
        progress.draw();
        progress
    }

    pub(super) fn none() -> Self {
        Self {
            agents: 0,
            done: 0,
            failed: 0,
            shown: false,
            drawn: false,
        }
    }

    pub(super) fn ended(&mut self, well: bool) {
        self.done += 1;
        self.failed += usize::from(!well);
    }

    /// Takes the line away, before something else is printed.
    pub(super) fn clear(&mut self) {
        if self.drawn {
            // Who has closed standard error sees nothing.
            let _ = write!(std::io::stderr(), "\r\x1b[K");
            self.drawn = false;
        }
    }

    pub(super) fn draw(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r{}\x1b[K", self.text());
            self.drawn = true;
        }
    }

    fn text(&self) -> String {
        let failed = match self.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        format!("{} of {} agents{failed}", self.done, self.agents)
    }
}
