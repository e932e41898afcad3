//! One new connection to a target of raw TCP.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use adit_proto::failure::{Failure, Reason};
use adit_proto::raw::{Host, Target};
use adit_transport::RawSocket;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// How long connecting to a target of raw TCP may take, with the look-up of its name.
pub const RAW_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn connect(target: &Target) -> Result<RawSocket, Failure> {
    let refused = |why: String| {
        let message = format!(
            "the agent cannot connect to {target}: {why}; is it up, and does the agent's machine reach it?"
        );
        Failure::new(Reason::UpstreamRefused, message)
    };
    let timed_out = || refused(format!("no answer within {} s", RAW_CONNECT_TIMEOUT.as_secs()));
    let until = Instant::now() + RAW_CONNECT_TIMEOUT;
    let addresses = match timeout_at(until, addresses(target)).await {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => return Err(refused(format!("its name cannot be looked up ({error})"))),
        Err(_) => return Err(timed_out()),
    };
    let mut last = refused("its name has no address".to_owned());
    for (at, address) in addresses.iter().enumerate() {
        // One that never answers leaves time for the others.
        let now = Instant::now();
        let others = u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        let share = until.saturating_duration_since(now) / others;
        last = match timeout_at(now + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => match RawSocket::new(stream) {
                Ok(socket) => return Ok(socket),
                Err(error) => refused(error.to_string()),
            },
            Ok(Err(error)) => refused(error.to_string()),
            Err(_) => timed_out(),
        };
    }
    Err(last)
}

async fn addresses(target: &Target) -> io::Result<Vec<SocketAddr>> {
    Ok(match &target.host {
        Host::Ip(address) => vec![SocketAddr::new(*address, target.port)],
        Host::Name(name) => tokio::net::lookup_host((name.as_str(), target.port))
            .await?
            .collect(),
    })
}
