//! `adit certs`: a CA and the certificates that it issues, as files.

use std::io::{self, Write};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::SystemTime;

use adit_certs::{
    AgentId, Authority, ClientName, Directory, Existing, Host, Subject, TrustDomain, UpstreamName, Validity,
    Written, show,
};
use anyhow::anyhow;

/// Arguments of `adit certs`.
#[derive(Debug, clap::Args)]
pub(crate) struct CertsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a CA: ca.pem, to be copied to every machine, and ca.key, to be kept where certificates
    /// are issued
    Init {
        /// Name that sets the identities of this CA apart from those of others
        #[arg(long, value_name = "NAME", default_value = "adit")]
        trust_domain: TrustDomain,
        /// Days that the CA is valid for
        #[arg(long, default_value = "3650")]
        days: NonZeroU16,
        #[command(flatten)]
        target: Target,
    },
    /// Issue the hub's certificate: hub.pem and hub.key
    Hub {
        #[command(flatten)]
        hosts: Hosts,
        #[command(flatten)]
        leaf: Leaf,
    },
    /// Issue an agent's certificate: agent-ID.pem and agent-ID.key
    Agent {
        /// Id of the agent: a DNS label such as site-7
        id: AgentId,
        #[command(flatten)]
        leaf: Leaf,
    },
    /// Issue a client's certificate: client-NAME.pem and client-NAME.key
    Client {
        /// Name of the client
        name: ClientName,
        #[command(flatten)]
        leaf: Leaf,
    },
    /// Issue an upstream server's own certificate: server-NAME.pem and server-NAME.key
    Server {
        /// What its files are called by
        name: UpstreamName,
        #[command(flatten)]
        hosts: Hosts,
        #[command(flatten)]
        leaf: Leaf,
    },
    /// Tell what is in PEM files: certificates, keys (their kind only) and revocation lists
    Show {
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// Where files go.
#[derive(Debug, clap::Args)]
struct Target {
    /// Folder of the CA and the certificates
    #[arg(long, default_value = "./adit-certs")]
    dir: PathBuf,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

/// What all issued certificates have.
#[derive(Debug, clap::Args)]
struct Leaf {
    /// Days that the certificate is valid for; it never outlives its CA
    #[arg(long, default_value = "90")]
    days: NonZeroU16,
    #[command(flatten)]
    target: Target,
}

/// What a server is dialed by.
#[derive(Debug, clap::Args)]
struct Hosts {
    /// DNS name (*.example.com too) or IP address that the server is dialed by; may be repeated or separated by commas
    #[arg(long = "san", value_name = "HOST", required = true, value_delimiter = ',')]
    sans: Vec<Host>,
}

/// Runs `adit certs`.
pub(crate) fn run(args: CertsArgs) -> anyhow::Result<()> {
    match args.command {
        Command::Init {
            trust_domain,
            days,
            target,
        } => init(&trust_domain, days, target),
        Command::Hub { hosts, leaf } => issue(&Subject::Hub { sans: hosts.sans }, leaf),
        Command::Agent { id, leaf } => issue(&Subject::Agent(id), leaf),
        Command::Client { name, leaf } => issue(&Subject::Client(name), leaf),
        Command::Server { name, hosts, leaf } => issue(
            &Subject::Server {
                name,
                sans: hosts.sans,
            },
            leaf,
        ),
        Command::Show { files } => show_files(&files),
    }
}

fn init(trust_domain: &TrustDomain, days: NonZeroU16, target: Target) -> anyhow::Result<()> {
    let authority = Authority::create(trust_domain, Validity::days(days))?;
    let existing = target.existing();
    let written = Directory::new(target.dir).write_authority(&authority, existing)?;
    let mut out = io::stdout().lock();
    tell(&mut out, &written)?;
    writeln!(
        out,
        "a CA of the trust domain {trust_domain}, valid from {}",
        authority.validity()
    )?;
    writeln!(
        out,
        "Copy ca.pem to every machine. Keep ca.key here: whoever has it can issue certificates."
    )?;
    if existing == Existing::Replace {
        writeln!(
            out,
            "Certificates of a CA that was replaced are good for nothing now: issue them again."
        )?;
    }
    Ok(())
}

fn issue(subject: &Subject, leaf: Leaf) -> anyhow::Result<()> {
    let existing = leaf.target.existing();
    let directory = Directory::new(leaf.target.dir);
    let authority = directory.read_authority()?;
    let asked = Validity::days(leaf.days);
    let issued = authority.issue(subject, asked)?;
    let written = directory.write(subject, &issued, existing)?;
    let mut out = io::stdout().lock();
    tell(&mut out, &written)?;
    writeln!(out, "valid from {}", issued.validity)?;
    if issued.validity.not_after() < asked.not_after() {
        writeln!(
            out,
            "It ends with its CA, sooner than the {} days that were asked for.",
            leaf.days
        )?;
    }
    Ok(())
}

fn tell(out: &mut impl Write, written: &Written) -> io::Result<()> {
    writeln!(out, "wrote {}", written.certificate.display())?;
    writeln!(out, "wrote {} (private)", written.key.display())
}

/// Shows every file that can be shown, and fails if one cannot.
fn show_files(files: &[PathBuf]) -> anyhow::Result<()> {
    let now = SystemTime::now().into();
    let mut failures = Vec::new();
    let mut out = io::stdout().lock();
    for file in files {
        match show(file, now) {
            Ok(sections) => {
                writeln!(out, "{}", file.display())?;
                for section in sections {
                    writeln!(out, "{section}")?;
                }
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(anyhow!(failures.join("\n")))
    }
}

impl Target {
    fn existing(&self) -> Existing {
        if self.force {
            Existing::Replace
        } else {
            Existing::Keep
        }
    }
}
