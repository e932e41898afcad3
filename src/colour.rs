//! Colours, where there is somebody to see them.

use std::fmt;
use std::io::IsTerminal;

use clap::builder::styling::{AnsiColor, Style};

/// What a text is, for somebody who looks at many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// Not wrong, and worth a look.
    Odd,
    /// Wrong.
    Bad,
    /// What the rest belongs to.
    Name,
}

/// Whether there are colours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Colours(bool);

impl Colours {
    /// Colours on a terminal, unless `NO_COLOR` (<https://no-color.org>) or a dumb terminal says otherwise.
    pub(crate) fn of(output: &impl IsTerminal) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self(output.is_terminal() && !refused)
    }

    /// No colours.
    pub(crate) const NONE: Self = Self(false);

    /// Colours wherever it goes.
    #[cfg(test)]
    pub(crate) const ALL: Self = Self(true);

    /// A text in its tone.
    pub(crate) fn paint<T: fmt::Display>(self, tone: Tone, text: T) -> String {
        if !self.0 {
            return text.to_string();
        }
        let style = Style::new();
        let style = match tone {
            Tone::Good => style.fg_color(Some(AnsiColor::Green.into())),
            Tone::Odd => style.fg_color(Some(AnsiColor::Yellow.into())),
            Tone::Bad => style.fg_color(Some(AnsiColor::Red.into())),
            Tone::Name => style.bold(),
        };
        format!("{style}{text}{style:#}")
    }
}

#[cfg(test)]
mod tests {
    use super::{Colours, Tone};

    #[test]
    fn what_is_painted_ends_as_it_began() {
        assert_eq!(Colours(true).paint(Tone::Bad, "no"), "\u{1b}[31mno\u{1b}[0m");
        assert_eq!(Colours::NONE.paint(Tone::Bad, "no"), "no");
    }
}
