//! `adit agents`: who is connected to a hub, and what an operator may do about it.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use adit_certs::AgentId;
use adit_proto::hub::v1::{
    DrainRequest, KickRequest, Link, ResumeRequest, WatchLinksRequest, kick_request::Whom,
};
use anyhow::{Context as _, bail};
use clap::Args as _;
use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use serde::Serialize;

use crate::admin::{self, Admin, AdminArgs, Output};

mod shown;
mod watch;

/// How often a terminal shows that time goes by, whatever else happens.
const CLOCK: Duration = Duration::from_secs(1);

/// Arguments of `adit agents`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "adit agents [ID] [--watch] [OPTIONS]\n       adit agents <drain|resume|kick> ID [OPTIONS]",
    after_help = "\
Every line, and every object of -o json, is a link: one connection of one instance of an agent to the hub. The fields of
-o json are link (its number), agent, instance, slot, generation, state (ready, suspect or draining), carrier,
carrier_reason (why it is not quic, or is again, where the agent had a choice), carrier_moves (how often this slot has changed
the carrier), coding (what calls are compressed with), remote_address, connected_at, round_trip_ms, calls_in_flight,
calls (since it was made), version, labels, exclusive,
services (null: not known), not_serving (which of them take no calls now) and down (none does).

--watch -o json prints one object a line for each change, with at (the time) and event before those fields: present (it
was there at the start), connected, changed or ended.

The exit code is 0, 1 (an ID that is not connected, no hub, or another failure), 2 (usage), or 64 and the gRPC status
where the hub refuses."
)]
pub(crate) struct AgentsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// Only this agent's links
    id: Option<AgentId>,
    /// Go on with what changes: redrawn on a terminal, else a line for each change
    #[arg(long, value_parser = BoolishValueParser::new())]
    watch: bool,
    /// How often --watch looks, 100ms at the least
    #[arg(
        long,
        value_name = "TIME",
        default_value = "1s",
        value_parser = humantime::parse_duration
    )]
    interval: Duration,
    #[command(flatten)]
    admin: AdminArgs,
    /// How to print
    #[arg(short, long, global = true, value_name = "HOW", default_value = "table")]
    output: Output,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Give an agent no new calls; those that run go on, and its links stay
    Drain(Drained),
    /// Give an agent calls again
    Resume(Drained),
    /// Close links at once: their calls fail, and their agents dial again
    Kick(Kicked),
}

/// Whom `drain` and `resume` are for.
#[derive(Debug, clap::Args)]
struct Drained {
    /// The agent
    id: AgentId,
    /// Only this instance: as much of its name as tells it from the agent's others
    #[arg(long)]
    instance: Option<String>,
}

/// Whom `kick` is for.
#[derive(Debug, clap::Args)]
struct Kicked {
    /// All links of this agent
    #[arg(required_unless_present = "link", conflicts_with = "link")]
    id: Option<AgentId>,
    /// The link of this number
    #[arg(long, value_name = "N")]
    link: Option<u64>,
    /// What the agent and the hub's log are told
    #[arg(long, value_name = "TEXT", default_value = "an operator closed the link")]
    reason: String,
}

/// Lists, watches, drains, resumes or kicks.
pub(crate) async fn run(args: AgentsArgs) -> anyhow::Result<ExitCode> {
    // Left to clap, this would forbid flags before the action too.
    if let (Some(_), Some(id)) = (&args.action, &args.id) {
        let problem = format!("an ID goes after what is to be done with it: what is {id} for?");
        AgentsArgs::augment_args(clap::Command::new("adit agents"))
            .error(ErrorKind::ArgumentConflict, problem)
            .exit();
    }
    let mut admin = Admin::open(&args.admin.admin).await?;
    match args.action {
        None if args.watch => watch(&mut admin, args.id.as_ref(), args.interval, args.output).await,
        None => list(&mut admin, args.id.as_ref(), args.output).await,
        Some(Action::Drain(whom)) => drain(&mut admin, &whom, args.output).await,
        Some(Action::Resume(whom)) => resume(&mut admin, &whom, args.output).await,
        Some(Action::Kick(whom)) => kick(&mut admin, whom, args.output).await,
    }
}

async fn list(admin: &mut Admin, id: Option<&AgentId>, output: Output) -> anyhow::Result<ExitCode> {
    let links = admin
        .links(id.map(AgentId::as_str), output == Output::Json)
        .await?;
    admin::print(&match output {
        Output::Table => shown::table(&links).shown() + &shown::reasons(&links),
        Output::Json => admin::document(&links.iter().map(shown::Record::of).collect::<Vec<_>>())?,
    })
    .await?;
    match id {
        Some(id) if links.is_empty() => bail!("{}", admin.not_connected(id).await),
        _ => Ok(ExitCode::SUCCESS),
    }
}

async fn watch(
    admin: &mut Admin,
    id: Option<&AgentId>,
    interval: Duration,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let request = WatchLinksRequest {
        agent: id.map(ToString::to_string).unwrap_or_default(),
        interval: Some(interval.try_into().context("--interval is too long")?),
        names: output == Output::Json,
    };
    let screen = match output {
        Output::Json => watch::Screen::Objects,
        Output::Table if std::io::stdout().is_terminal() => watch::Screen::Terminal {
            title: format!("agents of {}", admin.target()),
        },
        Output::Table => watch::Screen::Lines,
    };
    let changes = admin.hub().watch_links(request).await;
    let mut changes = changes.map_err(|status| admin.failed(status))?.into_inner();
    let mut known = watch::Known::default();
    let mut clock = tokio::time::interval(CLOCK);
    loop {
        let text = tokio::select! {
            response = changes.message() => match response.map_err(|status| admin.failed(status))? {
                Some(response) => known.take(response, &screen)?,
                None => break,
            },
            _ = clock.tick() => known.later(&screen),
        };
        if !text.is_empty() {
            admin::print(&text).await?;
        }
    }
    bail!("the hub at {} ended the list of changes", admin.target())
}

async fn drain(admin: &mut Admin, whom: &Drained, output: Output) -> anyhow::Result<ExitCode> {
    let request = DrainRequest {
        agent: whom.id.to_string(),
        instance: instance(admin, whom).await?,
    };
    let drained = admin.hub().drain(admin::bounded(request)).await;
    let links = drained.map_err(|status| admin.failed(status))?.into_inner().links;
    done(
        links,
        &format!("of {} take no new calls, until `adit agents resume`", whom.id),
        output,
    )
    .await
}

async fn resume(admin: &mut Admin, whom: &Drained, output: Output) -> anyhow::Result<ExitCode> {
    let request = ResumeRequest {
        agent: whom.id.to_string(),
        instance: instance(admin, whom).await?,
    };
    let resumed = admin.hub().resume(admin::bounded(request)).await;
    let links = resumed.map_err(|status| admin.failed(status))?.into_inner().links;
    done(links, &format!("of {} may take calls again", whom.id), output).await
}

async fn kick(admin: &mut Admin, whom: Kicked, output: Output) -> anyhow::Result<ExitCode> {
    let (name, whom_message) = match (whom.id, whom.link) {
        (Some(id), _) => (format!("of {id} closed"), Whom::Agent(id.to_string())),
        (None, Some(link)) => (format!("closed: number {link}"), Whom::Link(link)),
        (None, None) => bail!("no agent and no link: name an ID, or a link with --link N"),
    };
    let request = KickRequest {
        whom: Some(whom_message),
        reason: whom.reason,
    };
    let kicked = admin.hub().kick(admin::bounded(request)).await;
    let links = kicked.map_err(|status| admin.failed(status))?.into_inner().links;
    done(links, &name, output).await
}

/// Says how many links an action was for.
async fn done(links: u32, what: &str, output: Output) -> anyhow::Result<ExitCode> {
    #[derive(Serialize)]
    struct Done {
        links: u32,
    }
    let text = match output {
        Output::Table if links == 1 => format!("1 link {what}\n"),
        Output::Table => format!("{links} links {what}\n"),
        Output::Json => admin::document(&Done { links })?,
    };
    admin::print(&text).await?;
    Ok(ExitCode::SUCCESS)
}

/// The whole name of the instance that `--instance` begins; empty without it.
async fn instance(admin: &mut Admin, whom: &Drained) -> anyhow::Result<String> {
    let Some(begin) = &whom.instance else {
        return Ok(String::new());
    };
    let links = admin.links(Some(whom.id.as_str()), false).await?;
    the_instance(&links, begin)
}

fn the_instance(links: &[Link], begin: &str) -> anyhow::Result<String> {
    if begin.is_empty() {
        bail!("--instance has no name: leave it out for all instances of the agent");
    }
    let mut meant: Vec<&str> = links.iter().map(|link| link.instance.as_str()).collect();
    meant.retain(|instance| instance.starts_with(begin));
    meant.sort_unstable();
    meant.dedup();
    match meant.as_slice() {
        [one] => Ok((*one).to_owned()),
        // It may be drained and gone: the hub knows.
        [] => Ok(begin.to_owned()),
        // A whole name is that instance's, even where another's begins with it.
        [first, ..] if *first == begin => Ok(begin.to_owned()),
        [first, second, ..] => {
            bail!("--instance {begin:?} may be {first:?} or {second:?}: write more of its name")
        }
    }
}

#[cfg(test)]
mod tests {
    use adit_proto::hub::v1::Link;

    use super::the_instance;

    #[test]
    fn an_instance_is_named_by_what_tells_it_from_others() {
        let links = ["ab12", "ab12", "ab34", "ab3"].map(|instance| Link {
            instance: instance.to_owned(),
            ..Link::default()
        });
        for (begin, name) in [("ab1", "ab12"), ("ab3", "ab3"), ("c", "c")] {
            assert_eq!(the_instance(&links, begin).ok().as_deref(), Some(name));
        }
        for (begin, words) in [("ab", "\"ab12\" or \"ab3\""), ("", "leave it out")] {
            let problem = the_instance(&links, begin).err().map(|error| error.to_string());
            assert!(problem.is_some_and(|problem| problem.contains(words)), "{begin}");
        }
    }
}
