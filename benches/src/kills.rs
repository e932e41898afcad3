//! `adit-bench kills`: replicas that are killed under load, and whether what clients were told of their calls is true.
//!
//! Two replicas of one agent, each a process before an upstream of its own, share calls that begin at fixed times. One
//! after the other is killed (SIGKILL) and started again. The upstreams live on and note every call that they see, which
//! is compared in the end with what each call's client was told.

mod report;

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use adit_bench::agreement::{Ending, reconcile};
use adit_bench::certificates::{self, AGENT};
use adit_bench::echo::pb::Payload;
use adit_bench::echo::pb::echo_client::EchoClient;
use adit_bench::load::{PAYLOAD, connect};
use adit_bench::machine::Machine;
use adit_bench::open_loop::{self, Tick};
use adit_proto::hub::v1::Link;
use adit_proto::hub::v1::link::State;
use adit_transport::Congestion;
use anyhow::{Context as _, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use crate::node::{CALL_ID, HubPorts};
use crate::operator::Operator;
use crate::processes::Process;

const REPLICAS: usize = 2;

/// The label by which a replica is known, whichever process it is now.
const LABEL: &str = "replica";

/// How often the hub is asked for its links after a kill.
const POLL: Duration = Duration::from_millis(10);

/// How long the hub may take to give up a dead link, and a replica to be back.
const KILL_PATIENCE: Duration = Duration::from_secs(60);

/// A call that has not ended this long after the last one began never does.
const CALL_PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(crate) struct KillsArgs {
    /// Calls a second
    #[arg(long, default_value = "500")]
    rate: NonZeroU32,
    /// How often a replica is killed, one and the other in turns
    #[arg(long, default_value_t = 10)]
    kills: usize,
    /// How long both replicas have taken calls again when the next one is killed
    #[arg(long, value_parser = humantime::parse_duration, default_value = "2s")]
    pause: Duration,
    /// How long a call takes at the upstream: the longer, the more of them a kill hits
    #[arg(long, value_parser = humantime::parse_duration, default_value = "20ms")]
    work: Duration,
    /// A call is given up by its client after this time [default: never]
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    deadline: Option<Duration>,
    /// Congestion controller of the links' two ends: bounded, bbr, cubic or newreno
    #[arg(long, default_value_t)]
    congestion: Congestion,
}

/// One call.
#[derive(Debug)]
struct Call {
    id: u64,
    /// When it was meant to begin,
    at: Instant,
    /// did,
    begun: Instant,
    /// and ended.
    ended: Instant,
    ending: Ending,
}

/// The death of a replica. Times are from there.
#[derive(Clone, Copy, Debug)]
struct Kill {
    at: Instant,
    /// Until the replica that followed took calls.
    back: Duration,
    /// Until the hub preferred the other replica, if it ever did,
    suspect: Option<Duration>,
    /// and until it gave the link up.
    given_up: Duration,
}

/// Measures and reports, on standard output; progress goes to standard error.
///
/// # Errors
/// What a client was told of a call is not true.
pub(crate) fn run(args: &KillsArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let machine = Machine::describe();
    let (calls, kills, seen) = runtime.block_on(measure(args))?;
    let agreement = reconcile(calls.iter().map(|call| (call.id, call.ending.clone())), seen);
    let mut out = std::io::stdout().lock();
    report::write(&mut out, &machine, args, &calls, &kills, &agreement)?;
    let wrong = agreement.disagreements.len();
    ensure!(
        wrong == 0,
        "of {wrong} calls it is not true what their clients were told"
    );
    Ok(())
}

/// The calls, the kills, and the numbers of the calls that upstreams have seen.
async fn measure(args: &KillsArgs) -> anyhow::Result<(Vec<Call>, Vec<Kill>, Vec<u64>)> {
    let files = tempfile::tempdir().context("cannot make a temporary directory")?;
    certificates::make(files.path())?;
    let mut system = System::start(args, files.path()).await?;
    let enough = CancellationToken::new();
    let client = Client {
        echo: EchoClient::new(connect(system.clients).await?),
        agent: AGENT.parse()?,
        deadline: args.deadline.unwrap_or(Duration::MAX),
    };
    let call = move |tick| client.clone().call(tick);
    let until = enough.clone().cancelled_owned();
    let calls = tokio::spawn(open_loop::run(args.rate, until, CALL_PATIENCE, call));
    let mut kills = Vec::new();
    for number in 0..args.kills {
        tokio::time::sleep(args.pause).await;
        let kill = system.kill(number % REPLICAS).await?;
        let _ = writeln!(
            std::io::stderr(),
            "kill {} of {}: back after {:.0?}, given up after {:.2?}",
            number + 1,
            args.kills,
            kill.back,
            kill.given_up
        );
        kills.push(kill);
    }
    tokio::time::sleep(args.pause).await;
    enough.cancel();
    let ended = calls.await??;
    let now = Instant::now();
    let mut calls = ended.outcomes;
    calls.sort_by_key(|call| call.id);
    let unended =
        (0..u64::from(ended.begun)).filter(|id| calls.binary_search_by_key(id, |call| call.id).is_err());
    let unended: Vec<Call> = unended
        .map(|id| Call {
            id,
            at: now,
            begun: now,
            ended: now,
            ending: Ending::Unended,
        })
        .collect();
    calls.extend(unended);
    Ok((calls, kills, system.end().await?))
}

/// The processes.
struct System {
    // Ended, where the run fails, in this order.
    replicas: Vec<Replica>,
    upstreams: Vec<(Process, PathBuf)>,
    _hub: Process,
    operator: Operator,
    clients: SocketAddr,
}

struct Replica {
    /// What its process is started with.
    args: Vec<OsString>,
    log: PathBuf,
    process: Process,
}

impl Replica {
    fn start(args: Vec<OsString>, log: PathBuf) -> anyhow::Result<Self> {
        let process = Process::start_logging(args.clone(), &[], &log)?;
        Ok(Self { args, log, process })
    }
}

impl System {
    async fn start(args: &KillsArgs, files: &Path) -> anyhow::Result<Self> {
        let node = |role: &str, more: &[OsString]| {
            let first = ["--workers", "1", role].map(OsString::from);
            [&first[..], more].concat()
        };
        let link: [OsString; 4] = [
            "--congestion".into(),
            args.congestion.to_string().into(),
            "--certs".into(),
            files.into(),
        ];
        let mut hub = Process::start_logging(node("hub", &link), &[], &files.join("hub.log"))?;
        let HubPorts {
            agents,
            clients,
            admin,
        } = hub.hear(Duration::ZERO).await?;
        let work = humantime::format_duration(args.work).to_string();
        let (mut replicas, mut upstreams) = (Vec::new(), Vec::new());
        for number in 0..REPLICAS {
            let log = files.join(format!("upstream-{number}.log"));
            let noting = [
                "--work".into(),
                work.clone().into(),
                "--log".into(),
                log.clone().into(),
            ];
            let mut upstream = Process::start(node("upstream", &noting))?;
            let address: SocketAddr = upstream.hear(Duration::ZERO).await?;
            upstreams.push((upstream, log));
            let between = [
                format!("--hub={agents}"),
                format!("--upstream=http://{address}"),
                format!("--label={LABEL}={number}"),
            ];
            let args = node("agent", &[&link[..], &between.map(OsString::from)].concat());
            replicas.push(Replica::start(args, files.join(format!("replica-{number}.log")))?);
        }
        let mut operator = Operator::connect(admin).await?;
        all_ready(&mut operator).await.with_context(|| {
            let say = replicas
                .iter()
                .map(|replica: &Replica| replica.process.last_lines());
            format!(
                "a replica says {}",
                say.collect::<Vec<_>>().join("\nanother one ")
            )
        })?;
        Ok(Self {
            replicas,
            upstreams,
            _hub: hub,
            operator,
            clients,
        })
    }

    /// Kills a replica, starts it again at once, and waits until both take calls and the hub has given up the dead link.
    async fn kill(&mut self, number: usize) -> anyhow::Result<Kill> {
        let links = self.operator.links().await?;
        let of_replica = |link: &&Link| link.labels.get(LABEL) == Some(&number.to_string());
        let dead = links.iter().find(of_replica).map(|link| link.id);
        let dead = dead.with_context(|| format!("replica {number} is gone before it was killed"))?;

        let replica = self
            .replicas
            .get_mut(number)
            .context("there is no such replica")?;
        let at = Instant::now();
        replica.process.kill().await?;
        *replica = Replica::start(replica.args.clone(), replica.log.clone())?;

        let (mut back, mut suspect, mut given_up) = (None, None, None);
        loop {
            let links = self.operator.links().await?;
            let elapsed = at.elapsed();
            let ready = |link: &Link| link.state() == State::Ready;
            if links
                .iter()
                .filter(of_replica)
                .any(|link| link.id != dead && ready(link))
            {
                back.get_or_insert(elapsed);
            }
            match links.iter().find(|link| link.id == dead) {
                Some(link) if link.state() == State::Suspect => {
                    suspect.get_or_insert(elapsed);
                }
                Some(_) => {}
                None => {
                    given_up.get_or_insert(elapsed);
                }
            }
            if let (Some(back), Some(given_up)) = (back, given_up) {
                return Ok(Kill {
                    at,
                    back,
                    suspect,
                    given_up,
                });
            }
            ensure!(
                elapsed < KILL_PATIENCE,
                "{elapsed:.0?} after replica {number} was killed, it is back: {}; its dead link is given up: {}",
                back.is_some(),
                given_up.is_some()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ends the processes, and says which calls the upstreams have seen.
    async fn end(self) -> anyhow::Result<Vec<u64>> {
        drop(self.replicas);
        let mut seen = Vec::new();
        for (upstream, log) in self.upstreams {
            upstream.end(Duration::ZERO).await?;
            let text = fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))?;
            for line in text.lines() {
                let id = line.parse();
                seen.push(id.with_context(|| format!("{}: {line:?} is no call's number", log.display()))?);
            }
        }
        Ok(seen)
    }
}

/// Waits until every replica takes calls.
async fn all_ready(operator: &mut Operator) -> anyhow::Result<()> {
    let since = Instant::now();
    loop {
        let links = operator.links().await?;
        let ready = links.iter().filter(|link| link.state() == State::Ready).count();
        if ready == REPLICAS {
            return Ok(());
        }
        if since.elapsed() > KILL_PATIENCE {
            bail!("{ready} of {REPLICAS} replicas took calls after {KILL_PATIENCE:?}");
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Who makes the calls.
#[derive(Clone)]
struct Client {
    echo: EchoClient<Channel>,
    agent: MetadataValue<Ascii>,
    deadline: Duration,
}

impl Client {
    async fn call(mut self, tick: Tick) -> Call {
        let id = u64::from(tick.number);
        let data = payload(id);
        let mut request = Request::new(Payload { data: data.clone() });
        request.metadata_mut().insert("adit-agent", self.agent);
        request.metadata_mut().insert(CALL_ID, id.into());
        let begun = Instant::now();
        let ending = match timeout(self.deadline, self.echo.unary(request)).await {
            Ok(Ok(answer)) if answer.get_ref().data == data => Ending::Answered,
            Ok(Ok(_)) => Ending::Garbled,
            Ok(Err(status)) => Ending::failed(&status),
            Err(_) => Ending::GivenUp,
        };
        Call {
            id,
            at: tick.at,
            begun,
            ended: Instant::now(),
            ending,
        }
    }
}

/// No two calls have the same.
fn payload(id: u64) -> Bytes {
    let mut data = BytesMut::zeroed(PAYLOAD - size_of::<u64>());
    data.put_u64(id);
    data.freeze()
}
