//! `--verbose`: what happens in a call, on standard error.

use std::io::Write as _;
use std::time::Duration;

use adit_certs::AgentId;
use adit_client::call::{CallError, Event, Outcome};
use adit_client::schema::Origin;
use adit_client::status::{name, printable};
use adit_client::target::Target;
use tonic::Code;
use tonic::metadata::{KeyAndValueRef, MetadataMap};

/// Metadata whose values are secrets.
const SECRETS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// Tells what happens, or nothing.
pub(super) struct Report {
    verbose: bool,
    /// Of several agents, the one that is told of.
    agent: Option<AgentId>,
}

impl Report {
    pub(super) fn new(verbose: bool, agent: Option<AgentId>, sent: &MetadataMap) -> Self {
        let report = Self { verbose, agent };
        report.metadata("sent", '>', sent);
        report
    }

    pub(super) fn connected(&self, target: &Target, took: Duration) {
        self.line(&format!("connected to {target} in {}", shown(took)));
    }

    pub(super) fn event(&self, event: &Event<'_>) {
        match event {
            Event::Described { origin, took, .. } => {
                let origin = match origin {
                    Origin::Files => "files",
                    Origin::Cache => "the cache",
                    Origin::Reflection => "reflection",
                };
                self.line(&format!("method known from {origin} in {}", shown(*took)));
            }
            Event::Headers { metadata, after } => {
                self.line(&format!("server answers after {}", shown(*after)));
                self.metadata("headers", '<', metadata);
            }
            Event::Answer { after } => self.line(&format!("first message after {}", shown(*after))),
            Event::Retry { failure, wait } => {
                self.line(&format!("{failure}"));
                self.line(&format!("trying again in {}", shown(*wait)));
            }
        }
    }

    pub(super) fn ended(&self, called: &Result<Outcome, CallError>, took: Duration) {
        let how = match called {
            Ok(outcome) => {
                self.metadata("trailers", '<', &outcome.trailers);
                let messages = match outcome.answers {
                    1 => "1 message".to_owned(),
                    answers => format!("{answers} messages"),
                };
                format!("{}, {messages}", name(Code::Ok))
            }
            Err(error) => match error.failure() {
                Some(failure) => {
                    self.metadata("trailers", '<', failure.status().metadata());
                    name(failure.status().code()).to_owned()
                }
                None => "failed".to_owned(),
            },
        };
        self.line(&format!("{how}, {} in all", shown(took)));
    }

    fn metadata(&self, what: &str, direction: char, metadata: &MetadataMap) {
        if metadata.is_empty() {
            return;
        }
        self.line(&format!("{what}:"));
        for entry in metadata.iter() {
            let (key, value) = match &entry {
                KeyAndValueRef::Ascii(key, value) => (key.as_str(), value.as_encoded_bytes()),
                KeyAndValueRef::Binary(key, value) => (key.as_str(), value.as_encoded_bytes()),
            };
            let value = match SECRETS.contains(&key) {
                true => "(not shown)".to_owned(),
                false => printable(&String::from_utf8_lossy(value)),
            };
            self.line(&format!("{direction} {key}: {value}"));
        }
    }

    fn line(&self, text: &str) {
        if self.verbose {
            // That nobody reads it is no reason to stop.
            let begin = match &self.agent {
                Some(agent) => format!("* {agent}: "),
                None => "* ".to_owned(),
            };
            let text = text.replace('\n', &format!("\n{begin}"));
            let _ = writeln!(std::io::stderr(), "{begin}{text}");
        }
    }
}

fn shown(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1000.0)
}
