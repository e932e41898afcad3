//! What is printed of the calls: for people a line begins with its agent, for programs it is an object.

use std::io;

use adit_certs::AgentId;
use adit_client::status::{Failure, name};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncWriteExt as _, Stdout};
use tonic::Code;

use super::Ending;
use super::progress::Progress;
use crate::admin;
use crate::colour::{Colours, Tone};

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Lines that begin with the agent's id.
    Lines {
        /// What writes an answer.
        codec: &'static str,
    },
    /// An object a line.
    Objects,
}

impl Form {
    /// The name of the codec that writes an answer.
    pub(super) fn codec(self) -> &'static str {
        match self {
            Self::Lines { codec } => codec,
            Self::Objects => "ndjson",
        }
    }
}

/// Standard output, and what of standard error is about the calls.
pub(super) struct Out {
    form: Form,
    stdout: Stdout,
    colours: Colours,
    progress: Progress,
}

/// An answer of many, as an object. The names are a contract: they stay, and others may come.
#[derive(Serialize)]
struct Answer<'a> {
    agent: &'a str,
    message: &'a RawValue,
}

/// How a call ended, as an object.
#[derive(Serialize)]
struct Result<'a> {
    agent: &'a str,
    /// The gRPC status by name and number; null where there was no call.
    status: Option<&'static str>,
    code: Option<i32>,
    duration_ms: f64,
    /// How many there were.
    answers: u64,
    /// The answers, unless they have come one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<&'a RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem<'a>>,
}

/// Why a call failed.
#[derive(Serialize)]
struct Problem<'a> {
    message: String,
    /// The hub's or the agent's word for it, where it is their failure.
    reason: Option<&'a str>,
    delivered: Option<&'a str>,
    details: Vec<String>,
}

impl Out {
    pub(super) fn new(form: Form, agents: usize, verbose: bool) -> Self {
        Self {
            form,
            stdout: tokio::io::stdout(),
            colours: Colours::of(&io::stdout()),
            progress: match verbose {
                true => Progress::none(),
                false => Progress::of(agents),
            },
        }
    }

    /// True if the one answer of a method is printed with how the call ended.
    pub(super) fn holds(&self) -> bool {
        self.form == Form::Objects
    }

    /// Prints an answer of an agent.
    pub(super) async fn answer(&mut self, agent: &AgentId, answer: &[u8]) -> io::Result<()> {
        let text = match self.form {
            Form::Objects => line(&Answer {
                agent: agent.as_str(),
                message: raw(answer)?,
            })?,
            Form::Lines { .. } => prefixed(&self.colours.paint(Tone::Name, agent), answer),
        };
        self.print(&text).await
    }

    /// Prints how a call ended.
    pub(super) async fn ended(&mut self, ending: &Ending, answers: Option<&Vec<Vec<u8>>>) -> io::Result<()> {
        self.progress.ended(ending.called.is_ok());
        match self.form {
            Form::Objects => {
                let text = line(&result(ending, answers)?)?;
                self.print(&text).await
            }
            Form::Lines { .. } => {
                if let Err(error) = &ending.called {
                    self.progress.clear();
                    let colours = Colours::of(&io::stderr());
                    let problem = anyhow::anyhow!("{}: {error}", colours.paint(Tone::Bad, &ending.agent));
                    crate::process::complain(&problem);
                }
                self.progress.draw();
                Ok(())
            }
        }
    }

    /// Nothing further is printed.
    pub(super) fn clear(mut self) {
        self.progress.clear();
    }

    /// Writes whole lines, and flushes them.
    async fn print(&mut self, text: &[u8]) -> io::Result<()> {
        self.progress.clear();
        self.stdout.write_all(text).await?;
        self.stdout.flush().await?;
        self.progress.draw();
        Ok(())
    }
}

fn result<'a>(ending: &'a Ending, answers: Option<&'a Vec<Vec<u8>>>) -> io::Result<Result<'a>> {
    let failure = ending.called.as_ref().err().and_then(|error| error.failure());
    let code = match &ending.called {
        Ok(_) => Some(Code::Ok),
        Err(_) => failure.map(|failure| failure.status().code()),
    };
    let messages = answers.map(|answers| answers.iter().map(|answer| raw(answer)).collect());
    Ok(Result {
        agent: ending.agent.as_str(),
        status: code.map(name),
        code: code.map(|code| code as i32),
        // Whole microseconds: the digits beyond say nothing.
        duration_ms: (ending.took.as_secs_f64() * 1e6).round() / 1e3,
        answers: ending.called.as_ref().map_or(0, |outcome| outcome.answers),
        messages: messages.transpose()?,
        error: ending.called.as_ref().err().map(|error| Problem {
            message: failure.map_or_else(
                || error.to_string(),
                |failure| failure.status().message().to_owned(),
            ),
            reason: failure.and_then(Failure::tunnel_reason),
            delivered: failure.and_then(Failure::delivered),
            details: failure.map(Failure::details).unwrap_or_default(),
        }),
    })
}

/// An answer that is JSON as it is.
fn raw(answer: &[u8]) -> io::Result<&RawValue> {
    Ok(serde_json::from_slice(answer)?)
}

fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    admin::line(value)
        .map(String::into_bytes)
        .map_err(io::Error::other)
}

/// The text with its agent before each line.
fn prefixed(agent: &str, text: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(text.len() + agent.len() + 2);
    // An empty message may be no text at all.
    let text = if text.is_empty() { b"\n" } else { text };
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        lines.extend_from_slice(agent.as_bytes());
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(line);
    }
    if !lines.ends_with(b"\n") {
        lines.push(b'\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::prefixed;

    #[test]
    fn every_line_names_its_agent() {
        assert_eq!(prefixed("a", b"x: 1\ny: 2\n"), b"a: x: 1\na: y: 2\n");
        assert_eq!(prefixed("a", b"x"), b"a: x\n");
        assert_eq!(prefixed("a", b""), b"a: \n");
    }
}
