//! Connections for raw TCP: a line of JSON each way, and then bytes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adit_proto::failure::{Failure, Reason};
use adit_proto::raw::{Answer, BadLine, LineDecoder, Request, Split};
use adit_transport::RawSocket;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Code;
use tracing::{debug, info, warn};

use super::identify::Identified;
use super::limits::Connected;
use super::{LAST_OPENING, OPENING_TIMEOUT, Shared, preface, tls, too_many};
use crate::principal::Principal;
use crate::raw::{self, Wanted};
use crate::status;

/// How long an agent may take to connect to a target and say so, beyond the time that it is waited for when it is not connected.
pub const RAW_ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What a client can write.
const FORM: &str =
    r#"write {"agent":"ID","target":"HOST:PORT"} in one line, and wait for {"ok":true} in another one"#;

impl Shared {
    /// The life of one connection for raw TCP.
    pub(super) async fn bytes(&self, stream: TcpStream, peer: SocketAddr) {
        let socket = match RawSocket::new(stream) {
            Ok(socket) => socket,
            Err(error) => return debug!(%error, "a client left at once"),
        };
        let nameless = Principal {
            name: None,
            address: tls::address(peer),
        };
        let connected = self.clients.connect(&nameless);
        match (&self.tls, connected) {
            (None, Ok(connected)) => self.opened(socket.clone(), &socket, nameless, connected).await,
            (None, Err(full)) => {
                let failure = Failure::new(Reason::AgentBusy, too_many(&nameless, full));
                self.say_no(socket.clone(), &socket, &failure).await;
            }
            (Some(tls), Ok(connected)) => self.secure(socket, tls, nameless, connected).await,
            // A handshake would cost more than the client is to have.
            (Some(_), Err(full)) => self.log_refusal(&too_many(&nameless, full)),
        }
    }

    /// The same with TLS.
    async fn secure(
        &self,
        socket: RawSocket,
        tls: &Arc<ServerConfig>,
        nameless: Principal,
        connected: Connected,
    ) {
        match self.identify(socket.clone(), tls, nameless, connected).await {
            Identified::Client(stream, principal, connected) => {
                self.opened(stream, &socket, principal, connected).await;
            }
            Identified::Full(stream, principal, full) => {
                let failure = Failure::new(Reason::AgentBusy, too_many(&principal, full));
                self.say_no(stream, &socket, &failure).await;
            }
            // For the alert to arrive.
            Identified::Failed => socket.end(),
            Identified::TooMany => {}
        }
    }

    /// Reads what the client wants, and has it done.
    async fn opened<S>(&self, mut stream: S, socket: &RawSocket, principal: Principal, connected: Connected)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let asked = match self.in_time(line(&mut stream)).await {
            Some(Ok(split)) => wanted(&split).map(|wanted| (wanted, split.rest)),
            Some(Err(NoLine::Left(error))) => {
                return debug!(%error, "a client left before it said where to");
            }
            Some(Err(NoLine::Other(why))) => Err(bad_request(&format!("{why}; {FORM}"))),
            None if self.stopping.drain.is_cancelled() => Err(stopping()),
            None => Err(bad_request(&format!(
                "no line came within {} s; {FORM}",
                OPENING_TIMEOUT.as_secs()
            ))),
        };
        let (wanted, rest) = match asked {
            Ok(asked) => asked,
            Err(failure) => return self.say_no(stream, socket, &failure).await,
        };
        let running = connected
            .begin()
            .map_err(|full| status::too_many_calls(&principal, full.limit));
        let _running = match running {
            Ok(_) if self.stopping.drain.is_cancelled() => {
                return self.say_no(stream, socket, &stopping()).await;
            }
            Ok(running) => running,
            Err(failure) => return self.say_no(stream, socket, &failure).await,
        };
        let (reader, mut writer) = tokio::io::split(stream);
        let answer = raw::connect(&self.calls, &wanted, rest, reader, socket, RAW_ANSWER_TIMEOUT).await;
        let carried = match answer {
            Ok(through) => {
                let (agent, target) = (&wanted.agent, &wanted.target);
                info!(%agent, %target, "a raw TCP connection begins");
                match write(&mut writer, &Answer::Connected).await {
                    Ok(()) => through.carry(writer, socket, &self.stopping.end).await,
                    Err(error) => return debug!(%error, "a client left before its connection began"),
                }
            }
            Err(Some(failure)) => return self.say_no(writer, socket, &failure).await,
            Err(None) => return debug!("a client left before its connection began"),
        };
        let (sent, received) = (carried.sent, carried.received);
        let (agent, target) = (&wanted.agent, &wanted.target);
        match carried.end {
            Ok(()) => {
                socket.end();
                info!(%agent, %target, sent, received, "a raw TCP connection ended");
            }
            Err(reason) => info!(%agent, %target, sent, received, %reason, "a raw TCP connection broke"),
        }
    }

    /// Tells the client why there is no connection, and closes this one.
    async fn say_no<W>(&self, mut writer: W, socket: &RawSocket, failure: &Failure)
    where
        W: AsyncWrite + Unpin,
    {
        if self.refusals.take() {
            warn!(%failure, "refused a raw TCP connection");
        } else {
            debug!(%failure, "refused a raw TCP connection");
        }
        let told = async {
            write(&mut writer, &Answer::from(failure)).await?;
            writer.shutdown().await
        };
        if let Ok(Ok(())) = timeout(LAST_OPENING, told).await {
            // The system would reset the connection for what is unread, and the answer would be lost with it.
            preface::linger(&mut socket.clone()).await;
            socket.end();
        }
    }
}

/// Why there is no line.
enum NoLine {
    Left(io::Error),
    Other(String),
}

/// The first line, and what came behind it.
async fn line<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Split, NoLine> {
    let mut decoder = LineDecoder::default();
    let mut piece = [0; 1024];
    loop {
        let length = stream.read(&mut piece).await.map_err(NoLine::Left)?;
        match piece.first() {
            _ if length == 0 => return Err(NoLine::Left(io::ErrorKind::UnexpectedEof.into())),
            // What is no JSON from its first byte on may have no end of a line either.
            Some(0x16) if decoder.is_empty() => {
                return Err(NoLine::Other(
                    "this port has no TLS, and TLS is what came".to_owned(),
                ));
            }
            Some(byte) if decoder.is_empty() && *byte != b'{' && !byte.is_ascii_whitespace() => {
                return Err(NoLine::Other("what came is no object of JSON".to_owned()));
            }
            _ => {}
        }
        match decoder.take(&piece[..length]) {
            Ok(Some(split)) => return Ok(split),
            Ok(None) => {}
            Err(error) => return Err(NoLine::Other(error.to_string())),
        }
    }
}

/// What a line asks for.
fn wanted(split: &Split) -> Result<Wanted, Failure> {
    let request = Request::parse(&split.line).map_err(|error| match error {
        BadLine::NotJson { .. } | BadLine::Other => bad_request(&format!("{error}; {FORM}")),
        BadLine::LongToken(_) => Failure::new(Reason::Unauthenticated, error.to_string()),
    })?;
    if request.token.is_some() {
        return Err(Failure::new(
            Reason::Unauthenticated,
            "this hub knows no bearer tokens: leave \"token\" out, and use a client certificate",
        ));
    }
    Ok(Wanted {
        agent: request
            .agent
            .parse()
            .map_err(|error| bad_request(&format!("\"agent\": {error}")))?,
        target: request
            .target
            .parse()
            .map_err(|error| bad_request(&format!("\"target\": {error}")))?,
    })
}

fn stopping() -> Failure {
    Failure::new(Reason::Draining, "this hub is stopping: use another one")
}

/// As of a call whose metadata names no agent.
fn bad_request(message: &str) -> Failure {
    Failure::new(Reason::NoRoute, message).with_code(Code::InvalidArgument)
}

async fn write<W: AsyncWrite + Unpin>(writer: &mut W, answer: &Answer) -> io::Result<()> {
    writer.write_all(&answer.to_line()).await?;
    writer.flush().await
}

#[cfg(test)]
mod tests;
