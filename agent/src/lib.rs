//! The agent: connects gRPC services to a hub that clients can call, from where nobody can dial in.
//!
//! An agent dials *out* to its hubs and keeps a link to each. Calls come back on these links, and the agent hands them to
//! its upstreams: gRPC servers that it reaches, or services of its own process. `adit agent` is this crate with a command
//! line. A program that has tonic services needs neither that command nor a port: it serves them through an agent of its own.
//!
//! # A service that listens on no port
//!
//! ```
//! use std::error::Error;
//! use std::path::Path;
//!
//! use adit_agent::Agent;
//! use adit_certs::{AgentId, CredentialFiles, Credentials, Role};
//! use tonic::service::Routes;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn Error>> {
//!     let (certs, hub) = (Path::new("adit-certs"), "hub.example.com:4433");
//! #     let (certs, listener, hub) = example_hub()?;
//! #     let (certs, hub) = (certs.path(), hub.as_str());
//!     // Any service of tonic's, or several in one `Routes`.
//!     let (_, service) = tonic_health::server::health_reporter();
//!
//!     let id: AgentId = "site-7".parse()?;
//!     let credentials = Credentials::load(&CredentialFiles::agent(certs, &id), Role::Agent)?;
//!     let agent = Agent::builder(id, credentials)
//!         .hub(hub.parse()?)
//!         .serve(Routes::new(service))
//!         .advertise("grpc.health.v1.Health")
//!         .build()?;
//!
//!     let interrupted = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
//! #     let interrupted = async { example_call(listener).await.unwrap() };
//!     // Ctrl-C has the running calls end first. Nothing here ends them at once.
//!     agent.run(interrupted, std::future::pending()).await;
//!     Ok(())
//! }
//! #
//! # use adit_certs::{Authority, Directory, Existing, Subject, Validity};
//! # use adit_transport::{Body, Listener, Tuning};
//! # use http_body_util::{BodyExt as _, Full};
//! #
//! # /// The port of a hub, and the certificates of a CA that is forgotten with this process.
//! # fn example_hub() -> Result<(tempfile::TempDir, Listener, String), Box<dyn Error>> {
//! #     let folder = tempfile::tempdir()?;
//! #     let validity = Validity::days(std::num::NonZeroU16::MIN);
//! #     let authority = Authority::create(&"adit".parse()?, validity)?;
//! #     let directory = Directory::new(folder.path());
//! #     directory.write_authority(&authority, Existing::Keep)?;
//! #     for subject in [Subject::Hub { sans: vec!["127.0.0.1".parse()?] }, Subject::Agent("site-7".parse()?)] {
//! #         directory.write(&subject, &authority.issue(&subject, validity)?, Existing::Keep)?;
//! #     }
//! #     let credentials = Credentials::load(&CredentialFiles::hub(folder.path()), Role::Hub)?;
//! #     let tls = credentials.server_config()?;
//! #     let listener = Listener::bind("127.0.0.1:0".parse()?, tls, credentials.private_key_der(), Tuning::default())?;
//! #     let address = listener.local_addr()?.to_string();
//! #     Ok((folder, listener, address))
//! # }
//! #
//! # /// Asks the agent's service whether it is well, as a hub would for a client. It is.
//! # async fn example_call(listener: Listener) -> Result<(), Box<dyn Error>> {
//! #     let link = listener.accept().await.ok_or("no agent")?.establish().await?;
//! #     let request = http::Request::post("https://hub/grpc.health.v1.Health/Check")
//! #         .header("content-type", "application/grpc")
//! #         .header("te", "trailers");
//! #     let (head, ()) = request.body(())?.into_parts();
//! #     let empty_message = Full::from(vec![0; 5]).map_err(|never| match never {});
//! #     let answer = link.call(&head, Body::new(empty_message)).await?.into_body().collect().await?;
//! #     let status = answer.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
//! #     assert_eq!(status.ok_or("no status")?, "0");
//! #     assert_eq!(answer.to_bytes(), [0, 0, 0, 0, 2, 8, 1][..], "one message, whose field 1 says SERVING");
//! #     Ok(())
//! # }
//! ```
//!
//! The certificates are those that `adit certs init` and `adit certs agent site-7` write. At the hub, clients call the
//! services as those of the agent `site-7`, or by their names alone where no other agent has them.
//!
//! # What an agent says of itself
//!
//! [`Builder`] has all settings. Beside its id, an agent has [labels](Builder::label) that callers select agents by, and the
//! services that it [advertises](Builder::advertise); without a list of them it asks its upstreams by server reflection, and
//! watches their health. Several instances of one id are replicas and share its calls, unless the id is
//! [exclusive](Builder::exclusive).
//!
//! # Several hubs, and several links to one
//!
//! [`Builder::hub`] may be repeated. Each hub has a link of its own, or [several](Builder::links), made and kept regardless of
//! the others: a hub that is out of reach delays nobody. A link that is lost is dialled again, at once after one that had held for [`STABLE`], and otherwise
//! after random waits that grow from [`FIRST_BACKOFF`] to [`LONGEST_BACKOFF`]. A link on which a hub doesn't answer is given up
//! within seconds while calls run on it. A hub that is about to stop says so; the agent then has another link before that one
//! ends.
//!
//! # Where UDP doesn't pass
//!
//! A link runs over QUIC, unless [`Builder::carriers`] says otherwise: with [`Carriers::Auto`] over QUIC wherever that works, and
//! otherwise over TLS or a WebSocket, through the HTTP proxy that the environment names if any. While it runs over TCP, QUIC is
//! tried again ([`FIRST_PROBE`], [`LONGEST_PROBE`]); the link moves back without losing a call.
//!
//! # Its end
//!
//! [`Agent::run`] takes two futures. Once the first is ready the agent *drains*: its hubs send no new calls, those that were
//! on their way are refused unseen, so that the hub makes them elsewhere, and the running ones get the
//! [drain timeout](Builder::drain_timeout). The second ends everything at once. To drop the future of `run` does so, too,
//! and tells the hubs no reason.
//!
//! # Upstreams elsewhere
//!
//! [`Upstream::at`] is a server at a TCP or Unix address, with or without TLS. [`Builder::upstream`] takes several by prefixes of
//! their services' names, beside services of this process:
//!
//! ```
//! # fn example(agent: adit_agent::Builder) -> Result<adit_agent::Builder, Box<dyn std::error::Error>> {
//! use adit_agent::{Upstream, UpstreamAddr, UpstreamTls};
//!
//! let UpstreamAddr { prefix, target } = "shop.Orders=http://127.0.0.1:50051".parse()?;
//! let agent = agent
//!     .upstream(prefix, Upstream::at(target, &UpstreamTls::default())?)
//!     .serve(tonic::service::Routes::default());
//! # Ok(agent)
//! # }
//! ```
//!
//! Calls are passed on as they are: metadata and its order, bytes, resets. No upstream sees a call under `/adit.`, which is
//! between hub and agent.
//!
//! # How it is made
//!
//! From the outside inwards: `agent` has one `slot` for each hub, which makes one `link` after another; `dial` knows where the
//! hub is and when to try it again, `race` by which carrier; `attach` is the control call, on which a link's two ends talk; `offer` is what the hubs
//! are told of the upstreams (`discover`, `health`, `standing`); `forward` picks the [`Upstream`] of a call by its service.
//! `local` is the other way round: a port whose calls go to one agent of a hub.

mod agent;
mod attach;
mod builder;
mod channel;
mod connections;
mod dial;
mod discover;
mod forward;
mod health;
mod link;
mod local;
mod local_tcp;
mod offer;
mod race;
mod raw;
mod routes;
mod shutdown;
mod slot;
mod standing;
mod upstream;

pub use adit_proto::labels::{InvalidLabel, Label};
pub use adit_proto::raw::Target as RawTarget;
pub use adit_transport::Carrier;
pub use agent::Agent;
pub use builder::{Builder, DRAIN_TIMEOUT, MAX_LINKS, StartError};
pub use dial::{FIRST_BACKOFF, HubAddress, InvalidHubAddress, LONGEST_BACKOFF, STABLE};
pub use discover::MAX_SERVICES;
pub use local::LocalPort;
pub use local_tcp::LocalTcpPort;
pub use race::{Carriers, FIRST_PROBE, LONGEST_PROBE};
pub use raw::{AllowedTarget, InvalidAllowedTarget, MAX_RAW_CONNECTIONS, RAW_CONNECT_TIMEOUT};
pub use routes::RoutesError;
pub use upstream::{
    HostPort, InvalidUpstream, MAX_HEADERS, ServicePrefix, Target, Upstream, UpstreamAddr, UpstreamTls,
    UpstreamTlsError,
};
