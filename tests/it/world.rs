//! A throwaway CA, and hubs and agents in this process that trust it. They end when they are dropped.

pub(crate) mod frames;
pub(crate) mod operator;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod relay;
pub(crate) mod sample;
pub(crate) mod tcp_path;
pub(crate) mod tls;
pub(crate) mod upstream;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::Path;
use std::time::Duration;

use adit_agent::{Upstream, UpstreamAddr, UpstreamTls};
use adit_certs::{
    Authority, CredentialFiles, Credentials, Directory, Existing, Host, Role, Subject, Validity,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// How long a test waits for what should come soon. Far more than it takes, for machines that are busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How long a hub of the tests holds a call for its agent: a call may be made before its agent is connected.
pub(crate) const GRACE: Duration = Duration::from_secs(20);

/// A grace that is over soon, where the agent will not come.
pub(crate) const SHORT_GRACE: Duration = Duration::from_millis(50);

/// Any free port of this machine.
pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Waits for what should come soon.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it takes too long")
}

/// One day.
pub(crate) fn a_day() -> Validity {
    Validity::days(NonZeroU16::MIN)
}

/// A day that is over.
pub(crate) fn expired() -> Validity {
    let now = time::OffsetDateTime::now_utc();
    Validity::between(now - time::Duration::days(2), now - time::Duration::days(1))
}

/// A CA and what it has issued, in a directory that goes with it.
pub(crate) struct World {
    dir: TempDir,
    pub(crate) authority: Authority,
}

/// A hub in this process.
pub(crate) struct Hub {
    pub(crate) agents: SocketAddr,
    pub(crate) clients: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Where it has one.
    tcp: Option<SocketAddr>,
    running: Running,
}

/// An agent in this process.
pub(crate) struct Agent {
    running: Running,
    drain: CancellationToken,
}

struct Running {
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl World {
    pub(crate) fn new() -> Self {
        let world = Self {
            dir: TempDir::new().unwrap(),
            authority: Authority::create(&"adit".parse().unwrap(), a_day()).unwrap(),
        };
        let directory = Directory::new(world.certs());
        directory
            .write_authority(&world.authority, Existing::Keep)
            .unwrap();
        let sans: [Host; 2] = ["127.0.0.1".parse().unwrap(), "localhost".parse().unwrap()];
        world.issue(&Subject::Hub { sans: sans.into() }, a_day());
        world
    }

    /// The directory, as `--certs` takes it.
    pub(crate) fn certs(&self) -> &Path {
        self.dir.path()
    }

    /// The same, as an argument.
    pub(crate) fn dir(&self) -> &str {
        self.certs().to_str().unwrap()
    }

    /// Issues a certificate, in place of an earlier one.
    pub(crate) fn issue(&self, subject: &Subject, validity: Validity) {
        let issued = self.authority.issue(subject, validity).unwrap();
        let directory = Directory::new(self.certs());
        directory.write(subject, &issued, Existing::Replace).unwrap();
    }

    /// The files of the agent `id`, whose certificate is issued now.
    pub(crate) fn agent_files(&self, id: &str) -> CredentialFiles {
        let id = id.parse().unwrap();
        let files = CredentialFiles::agent(self.certs(), &id);
        if !files.cert.exists() {
            self.issue(&Subject::Agent(id), a_day());
        }
        files
    }

    /// Arguments of an agent whose hub is at this address, and whose certificate is there.
    pub(crate) fn agent_arguments<'a>(&'a self, id: &'a str, hub: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        self.agent_files(id);
        let arguments = ["agent", "--certs", self.dir(), "--id", id, "--hub", hub];
        [&arguments, more].concat()
    }

    /// The files of the client `name`, whose certificate is issued now.
    pub(crate) fn client_files(&self, name: &str) -> CredentialFiles {
        let name = name.parse().unwrap();
        let files = CredentialFiles::client(self.certs(), &name);
        if !files.cert.exists() {
            self.issue(&Subject::Client(name), a_day());
        }
        files
    }

    /// The same, loaded.
    pub(crate) fn agent_credentials(&self, id: &str) -> Credentials {
        Credentials::load(&self.agent_files(id), Role::Agent).unwrap()
    }

    pub(crate) fn hub_credentials(&self) -> Credentials {
        Credentials::load(&CredentialFiles::hub(self.certs()), Role::Hub).unwrap()
    }

    /// A hub that waits long for its agents.
    pub(crate) async fn hub(&self) -> Hub {
        self.hub_with(|hub| hub).await
    }

    /// A hub that is like [`hub`](Self::hub), but for what `change` does.
    pub(crate) async fn hub_with(&self, change: impl FnOnce(adit_hub::Builder) -> adit_hub::Builder) -> Hub {
        let hub = adit_hub::Hub::builder(self.hub_credentials())
            .clients(ANY_PORT)
            .admin(ANY_PORT)
            .reconnect_grace(GRACE);
        self.start(change(hub).agents(ANY_PORT.into())).await
    }

    /// Starts a hub.
    pub(crate) async fn start(&self, hub: adit_hub::Builder) -> Hub {
        let hub = hub.bind().await.unwrap();
        Hub {
            agents: hub.agents_addresses().unwrap()[0],
            clients: hub.clients_address().unwrap(),
            admin: hub.admin_address().unwrap().unwrap(),
            tcp: hub.tcp_address().unwrap(),
            running: Running::start(|stop| hub.run(stop, std::future::pending())),
        }
    }

    /// An agent of `hub` in front of `upstream`, an argument of `--upstream`.
    pub(crate) fn agent(&self, hub: &Hub, id: &str, upstream: &str) -> Agent {
        self.agent_with(hub.agents, id, &[upstream], |agent| agent)
    }

    /// The same in front of several, but for what `change` does.
    pub(crate) fn agent_with(
        &self,
        hub: SocketAddr,
        id: &str,
        upstreams: &[&str],
        change: impl FnOnce(adit_agent::Builder) -> adit_agent::Builder,
    ) -> Agent {
        let mut agent = adit_agent::Agent::builder(id.parse().unwrap(), self.agent_credentials(id))
            .hub(hub.to_string().parse().unwrap());
        for upstream in upstreams {
            let UpstreamAddr { prefix, target } = upstream.parse().unwrap();
            agent = agent.upstream(prefix, Upstream::at(target, &UpstreamTls::default()).unwrap());
        }
        let agent = change(agent).build().unwrap();
        let drain = CancellationToken::new();
        let drained = drain.clone().cancelled_owned();
        Agent {
            running: Running::start(|stop| agent.run(drained, stop)),
            drain,
        }
    }
}

impl Hub {
    /// Its port for raw TCP.
    pub(crate) fn tcp(&self) -> SocketAddr {
        self.tcp.expect("it has none")
    }

    /// Tells it to drain.
    pub(crate) fn drain(&self) {
        self.running.stop.cancel();
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(self) {
        soon(self.running.task).await.unwrap();
    }

    /// Stops it in order.
    pub(crate) async fn stop(self) {
        self.running.stop().await;
    }
}

impl Agent {
    /// Stops it in order.
    pub(crate) async fn stop(self) {
        self.running.stop().await;
    }

    /// Lets the calls that run end, and then stops it.
    pub(crate) async fn drain(self) {
        self.drain.cancel();
        soon(self.running.task).await.unwrap();
    }
}

impl Running {
    fn start<F>(run: impl FnOnce(tokio_util::sync::WaitForCancellationFutureOwned) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let task = AbortOnDropHandle::new(tokio::spawn(run(stop.clone().cancelled_owned())));
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        soon(self.task).await.unwrap();
    }
}
