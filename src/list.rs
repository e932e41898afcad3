//! `adit list`: what can be called through a hub.

use std::collections::BTreeMap;
use std::process::ExitCode;

use adit_certs::AgentId;
use adit_proto::hub::v1::Link;
use adit_proto::hub::v1::link::State;
use anyhow::bail;
use serde::Serialize;

use crate::admin::{self, Admin, AdminArgs, Cell, Output, Table};
use crate::colour::Tone;

/// Arguments of `adit list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An agent serves a service when one of its links takes calls and the service's upstream does. What it serves may be
unknown: an agent says it where it is told --service, or where its upstream has server reflection.

-o json prints an array of objects with service (null: agents that did not say what they have) and agents: objects with
agent and serving.

The exit code is 0, 1 (an AGENT that is not connected, no hub, or another failure), 2 (usage), or 64 and the gRPC status
where the hub refuses.")]
pub(crate) struct ListArgs {
    /// Only what this agent has
    agent: Option<AgentId>,
    #[command(flatten)]
    admin: AdminArgs,
    /// How to print
    #[arg(short, long, value_name = "HOW", default_value = "table")]
    output: Output,
}

/// Agents by service, and whether each serves it. Without a name: the agents that did not say what they have.
type Services<'a> = BTreeMap<Option<&'a str>, BTreeMap<&'a str, bool>>;

#[derive(Serialize)]
struct Service<'a> {
    service: Option<&'a str>,
    agents: Vec<Serving<'a>>,
}

#[derive(Serialize)]
struct Serving<'a> {
    agent: &'a str,
    serving: bool,
}

/// Prints the services, each with the agents that have it.
pub(crate) async fn run(args: ListArgs) -> anyhow::Result<ExitCode> {
    let mut admin = Admin::open(&args.admin.admin).await?;
    let links = admin
        .links(args.agent.as_ref().map(AgentId::as_str), true)
        .await?;
    let services = services(&links);
    admin::print(&match args.output {
        Output::Table => table(&services).shown(),
        Output::Json => {
            let objects = services.iter().map(|(&service, agents)| Service {
                service,
                agents: agents
                    .iter()
                    .map(|(&agent, &serving)| Serving { agent, serving })
                    .collect(),
            });
            admin::document(&objects.collect::<Vec<_>>())?
        }
    })
    .await?;
    match &args.agent {
        Some(id) if links.is_empty() => bail!("{}", admin.not_connected(id).await),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn services(links: &[Link]) -> Services<'_> {
    let mut services = Services::new();
    for link in links {
        // A suspect link is called when there is no other.
        let open = matches!(link.state(), State::Ready | State::Suspect) && !link.down;
        let mut add = |service, serving| {
            let agents = services.entry(service).or_default();
            *agents.entry(link.agent.as_str()).or_default() |= serving;
        };
        if !link.services_known {
            add(None, open);
        }
        for service in &link.services {
            add(
                Some(service.as_str()),
                open && !link.not_serving.contains(service),
            );
        }
    }
    services
}

fn table(services: &Services<'_>) -> Table {
    let mut table = Table::new(&["SERVICE", "AGENT", "SERVING"]);
    for (service, agents) in services {
        for (&agent, &serving) in agents {
            table.row([
                service.unwrap_or("?").to_owned().into(),
                agent.to_owned().into(),
                match serving {
                    true => Cell::toned(Tone::Good, "yes"),
                    false => Cell::toned(Tone::Bad, "no"),
                },
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use adit_proto::hub::v1::Link;
    use adit_proto::hub::v1::link::State;

    use super::{services, table};

    fn link(agent: &str, state: State, names: &[&str], not_serving: &[&str]) -> Link {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Link {
            agent: agent.to_owned(),
            state: state.into(),
            services_known: !names.is_empty(),
            services: owned(names),
            not_serving: owned(not_serving),
            ..Link::default()
        }
    }

    #[test]
    fn a_service_is_served_where_any_link_can_take_its_calls() {
        let links = [
            link("a", State::Draining, &["p.One", "p.Two"], &[]),
            link("a", State::Ready, &["p.One", "p.Two"], &["p.Two"]),
            link("b", State::Suspect, &["p.One"], &[]),
            link("c", State::Ready, &[], &[]),
        ];
        assert_eq!(
            table(&services(&links)).to_string(),
            "\
SERVICE  AGENT  SERVING
?        c      yes
p.One    a      yes
p.One    b      yes
p.Two    a      no
"
        );
    }
}
