//! The hub: takes calls from clients and carries each to an agent.
//!
//! Agents dial the hub and keep a link to it; clients call the hub's port, and the hub makes each call on the link of the
//! agent that is meant. `adit hub` is this crate with a command line. A program that calls services in many places may have
//! the hub in itself.
//!
//! # A hub in a program
//!
//! ```
//! use std::error::Error;
//! use std::path::Path;
//!
//! use adit_certs::{CredentialFiles, Credentials, Role};
//! use adit_hub::Hub;
//! use tonic::transport::Channel;
//! use tonic_health::pb::health_client::HealthClient;
//! use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn Error>> {
//!     let certs = Path::new("adit-certs");
//! #     let folder = example_certificates()?;
//! #     let certs = folder.path();
//!     let credentials = Credentials::load(&CredentialFiles::hub(certs), Role::Hub)?;
//!     let hub = Hub::builder(credentials)
//!         .agents("127.0.0.1:0".parse()?)
//!         .clients("127.0.0.1:0".parse()?)
//!         .bind()
//!         .await?;
//!     let target = format!("http://{}", hub.clients_address()?);
//!
//!     // The hub serves until the first future is ready, and then drains. Nothing here ends it at once.
//!     let calls = async { ask(target).await.unwrap_or_else(|error| panic!("{error}")) };
//!     hub.run(calls, std::future::pending()).await;
//!     Ok(())
//! }
//!
//! /// Any gRPC client will do; a call names its agent in the metadata `adit-agent`. This one names none, and so asks whether
//! /// the hub itself takes calls.
//! async fn ask(target: String) -> Result<(), Box<dyn Error>> {
//!     let mut health = HealthClient::new(Channel::from_shared(target)?.connect().await?);
//!     let answer = health.check(HealthCheckRequest::default()).await?.into_inner();
//!     assert_eq!(answer.status(), ServingStatus::Serving);
//!     Ok(())
//! }
//! #
//! # use adit_certs::{Authority, Directory, Existing, Subject, Validity};
//! #
//! # /// The certificate of a hub, by a CA that is forgotten with this process.
//! # fn example_certificates() -> Result<tempfile::TempDir, Box<dyn Error>> {
//! #     let folder = tempfile::tempdir()?;
//! #     let validity = Validity::days(std::num::NonZeroU16::MIN);
//! #     let authority = Authority::create(&"adit".parse()?, validity)?;
//! #     let directory = Directory::new(folder.path());
//! #     directory.write_authority(&authority, Existing::Keep)?;
//! #     let subject = Subject::Hub { sans: vec!["127.0.0.1".parse()?] };
//! #     directory.write(&subject, &authority.issue(&subject, validity)?, Existing::Keep)?;
//! #     Ok(folder)
//! # }
//! ```
//!
//! The certificates are those that `adit certs init` and `adit certs hub --san HOST` write. A program with a hub and calls to
//! the agents of it is among the examples, `embedded-hub`.
//!
//! # Who may connect
//!
//! Agents prove who they are by a certificate of the hub's CA, and nothing else. Of clients the hub asks nothing on a loopback
//! address, and a certificate elsewhere: [`Builder::client_tls`]. Operators have a port of their own, on loopback only:
//! [`Builder::admin`]. Raw TCP through agents has one as well, where the same is asked of clients: [`Builder::tcp`].
//!
//! # Which agent a call goes to
//!
//! Metadata says it (`adit-agent` an id, `adit-select` labels), or the authority that the client dialled
//! ([`Builder::agent_domain`]), or the service, when exactly one agent has it. Where several agents are equal,
//! [`Builder::pool`] has them share the calls; links of one agent always do.
//!
//! # Its end
//!
//! [`Hub::run`] takes two futures. Once the first is ready the hub *drains*: clients and agents are told to go elsewhere, and
//! the running calls get the [drain timeout](Builder::drain_timeout). The second ends everything at once. To drop the future
//! of `run` does so, too, and tells nobody a reason.
//!
//! # Bounds
//!
//! What a client or an agent can make a hub hold is bounded by the constants of this crate and of
//! [`Tuning`](adit_transport::Tuning), and by [`Limits`].
//!
//! # How it is made
//!
//! In the order in which a call meets them:
//!
//! * `ingress`: the clients' port, TLS, HTTP/2 and their limits, and the `principal` that a connection is of;
//! * `call`: the story of one call, from the request's head to the response's;
//! * `router`, with `domain` and `pools`: which link a call is for, as a function of the request and what is connected;
//! * `registry`: the live links, each a `member`, indexed in `directory`, and the choice among equal ones, `balance`;
//! * `replay`: the request's body, kept while the call may have to be made again on another link;
//! * `response`: the response on its way to the client, ended well or ended by the hub;
//! * `status`: what a client is told of a failure, all of it in one place;
//! * `deadline`: `grpc-timeout`, and the timer that the hub keeps for it;
//! * `health`: what the hub answers for itself;
//! * `raw`: a raw TCP connection, which is a call like others to all of the above.
//!
//! Beside them `attach` brings a link from its handshake into the registry, with what its agent has to `offer`; `follow`
//! hears and probes it on its `control` call until it ends; and `admin` is the operator's port.
//!
//! A hub decodes no message of a service: bodies are bytes to it, passed on as they come.

mod address;
mod admin;
mod attach;
mod balance;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod builder;
mod call;
mod control;
mod deadline;
mod departed;
mod directory;
mod domain;
mod follow;
mod health;
mod hub;
mod ingress;
mod member;
mod offer;
mod pools;
mod principal;
mod raw;
mod registry;
mod replay;
mod response;
mod router;
mod status;

pub use address::{AgentsAddress, InvalidAgentsAddress};
pub use admin::{MAX_OPERATORS, MAX_REASON, MAX_WATCHES};
pub use attach::{HELLO_TIMEOUT, HOLDER_TIMEOUT, MAX_NAME};
pub use builder::{Builder, DRAIN_TIMEOUT, RECONNECT_GRACE, StartError};
pub use call::{MAX_ATTEMPTS, MAX_HEADER_SECTION, MAX_HELD_CALLS};
pub use control::MAX_EVENT;
pub use domain::{AgentDomain, InvalidAgentDomain};
pub use follow::{EVENTS_PER, HEARTBEAT, MAX_EVENTS};
pub use hub::Hub;
pub use ingress::{
    ClientTls, ExposedClients, InvalidClientTls, Limits, MAX_CALLS_PER_CLIENT, MAX_CLIENT_HANDSHAKES,
    MAX_CONNECTIONS, MAX_CONNECTIONS_PER_CLIENT, MAX_STREAMS, RAPID, RAPID_RESETS, RAPID_RESETS_PER_SECOND,
    RAW_ANSWER_TIMEOUT,
};
pub use offer::{MAX_SERVICE_NAME, MAX_SERVICES};
pub use pools::{InvalidPool, Pool};
pub use registry::{MAX_LINKS, MAX_PAUSED};
pub use replay::MAX_REPLAY;
