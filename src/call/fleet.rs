//! `adit call --all`: the same call to many agents at once.

mod agents;
mod out;
mod progress;
mod tally;

use std::cell::Cell;
use std::process::ExitCode;
use std::time::Duration;

use adit_certs::AgentId;
use adit_client::call::{Answers, Call, CallError, Event, Outcome};
use adit_client::codec::Codecs;
use adit_client::connection::Connection;
use adit_client::metadata::Route;
use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, stream};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::report::Report;
use super::{CallArgs, call, connect, is_enough, named};
use crate::admin::Admin;
use out::{Form, Out};
use tally::Tally;

/// What a process ends with that Ctrl-C has ended (128 and SIGINT), as shells have it.
const EXIT_INTERRUPTED: u8 = 130;

/// How a call of one agent ended.
struct Ending {
    agent: AgentId,
    called: Result<Outcome, CallError>,
    took: Duration,
}

/// Calls every agent that is meant, and prints each one's answers as they come.
pub(super) async fn run(args: &CallArgs) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let form = form(args)?;
    let mut call = Call {
        output_codec: named(&Codecs::standard(), form.codec())?,
        ..call(args)?
    };
    let mut admin = Admin::open(&args.admin)
        .await
        .context("--all asks for the hub's agents")?;
    let links = admin.links(None, true).await?;
    let labels = args.route.select.as_ref().map(ToString::to_string);
    let agents = agents::meant(&links, &args.method.service, labels.as_deref())?;
    drop((admin, links));
    if let Some(input) = call.input.take() {
        call.input = Some(input.hold(call.max_message_size).await?);
    }
    let connection = connect(args).await?;

    let out = Mutex::new(Out::new(form, agents.len(), args.verbose));
    let mut tally = Tally::of(&agents);
    let begun = Cell::new(0_usize);
    let mut calls = stream::iter(&agents)
        .map(|agent| {
            begun.set(begun.get() + 1);
            one(&call, args, agent, &connection, &out)
        })
        .buffer_unordered(args.parallel.get());
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let stopped = loop {
        tokio::select! {
            biased;
            signal = &mut interrupted => {
                signal.context("cannot wait for signals")?;
                break true;
            }
            ended = calls.next() => match ended {
                None => break false,
                Some(ending) => {
                    if let Err(error @ CallError::Output(_)) = ending.called {
                        return if is_enough(&error) { Ok(ExitCode::FAILURE) } else { Err(error.into()) };
                    }
                    tally.add(&ending);
                }
            },
        }
    };
    // Those that run are reset.
    drop(calls);
    out.into_inner().clear();
    let summary = tally.summary(begun.get(), stopped, started.elapsed());
    // That nobody reads it changes nothing.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), summary.as_bytes());
    Ok(match stopped {
        true => ExitCode::from(EXIT_INTERRUPTED),
        false => ExitCode::from(tally.exit_code()),
    })
}

/// How answers are printed: `ndjson` is for programs, and every other form for people.
fn form(args: &CallArgs) -> anyhow::Result<Form> {
    let name = args
        .output
        .as_deref()
        .or(args.format.as_deref())
        .unwrap_or("json");
    Ok(match name {
        "ndjson" => Form::Objects,
        // A line is easier to look through than many.
        "json" => Form::Lines { codec: "ndjson" },
        "binary" => {
            bail!("answers of several agents as binary cannot be told apart; choose another --output")
        }
        name => Form::Lines {
            codec: Codecs::standard()
                .names()
                .find(|known| *known == name)
                .with_context(|| format!("there is no format {name:?}"))?,
        },
    })
}

/// Calls one agent, and prints how it ended. Nothing is printed elsewhere: who waits for `out` has to be one of those
/// that are driven together.
async fn one(
    call: &Call,
    args: &CallArgs,
    agent: &AgentId,
    connection: &Connection,
    out: &Mutex<Out>,
) -> Ending {
    let started = Instant::now();
    let call = Call {
        deadline: args.timeout.and_then(|timeout| started.checked_add(timeout)),
        metadata: args.route.with(Some(&Route::Agent(agent.clone()))),
        ..call.clone()
    };
    let report = Report::new(args.verbose, Some(agent.clone()), &call.metadata);
    let is_stream = Cell::new(false);
    let mut answers = OneAgent {
        agent,
        out,
        is_stream: &is_stream,
        held: Vec::new(),
    };
    let called = call
        .run_observed(connection, &mut answers, |event| {
            if let Event::Described { method, .. } = &event {
                is_stream.set(method.is_server_streaming());
            }
            report.event(&event);
        })
        .await;
    let took = started.elapsed();
    report.ended(&called, took);
    let held = answers.held;
    let mut ending = Ending {
        agent: agent.clone(),
        called,
        took,
    };
    let printed = out
        .lock()
        .await
        .ended(&ending, (!is_stream.get()).then_some(&held))
        .await;
    if let Err(error) = printed {
        ending.called = Err(CallError::Output(error));
    }
    ending
}

/// The answers of one of the agents.
struct OneAgent<'a> {
    agent: &'a AgentId,
    out: &'a Mutex<Out>,
    /// The method gives any number of answers, which are printed as they come.
    is_stream: &'a Cell<bool>,
    /// The answer that is printed with how the call ended.
    held: Vec<Vec<u8>>,
}

impl Answers for OneAgent<'_> {
    async fn take(&mut self, answer: &[u8]) -> std::io::Result<()> {
        let mut out = self.out.lock().await;
        if out.holds() && !self.is_stream.get() {
            self.held.push(answer.to_vec());
            return Ok(());
        }
        out.answer(self.agent, answer).await
    }
}
