#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::net::{Ipv4Addr, SocketAddr};

use adit_proto::tunnel::v1::Hello;
use adit_proto::tunnel::v1::agent_client::AgentClient;
use adit_proto::tunnel::v1::agent_server::AgentServer;
use socket2::SockRef;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::attach::{self, Control};
use crate::offer::Offer;

/// A hub that calls the agent, with nothing between the two.
struct Hub(AgentClient<AgentServer<Control>>);

/// One call.
struct Call {
    say: mpsc::Sender<Bytes>,
    hear: Streaming<Bytes>,
}

impl Hub {
    fn of(raw: Raw) -> Self {
        let offer = watch::channel(Offer::unasked()).1;
        let (control, ..) = attach::control(Hello::default(), offer, raw);
        Self(AgentClient::new(AgentServer::new(control)))
    }

    async fn dial(&mut self, target: &str) -> Result<Call, Status> {
        let (say, mut said) = mpsc::channel(1);
        let first = Bytes {
            target: target.to_owned(),
            ..Bytes::default()
        };
        say.send(first).await.unwrap();
        let said = stream::poll_fn(move |cx| said.poll_recv(cx));
        let hear = soon(self.0.dial(said)).await?.into_inner();
        Ok(Call { say, hear })
    }

    async fn refused(&mut self, target: &str) -> Status {
        match self.dial(target).await {
            Ok(_) => panic!("{target} is connected"),
            Err(status) => status,
        }
    }
}

impl Call {
    async fn say(&self, data: &'static [u8], end: bool) {
        let data = data.into();
        let piece = Bytes {
            data,
            end,
            ..Bytes::default()
        };
        soon(self.say.send(piece)).await.unwrap();
    }

    /// What comes until the target's side has ended, or the call has.
    async fn all(&mut self) -> (Vec<u8>, Result<(), Status>) {
        let mut all = Vec::new();
        loop {
            match soon(self.hear.message()).await {
                Ok(Some(piece)) => {
                    all.extend_from_slice(&piece.data);
                    if piece.end {
                        return (all, Ok(()));
                    }
                }
                Ok(None) => panic!("it ended without a word"),
                Err(status) => return (all, Err(status)),
            }
        }
    }

    async fn is_over(&mut self) {
        assert_eq!(soon(self.hear.message()).await.unwrap(), None);
    }
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future)
        .await
        .unwrap()
}

async fn target() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn allowing(targets: &[String]) -> Raw {
    Raw::new(targets.iter().map(|target| target.parse().unwrap()).collect())
}

async fn connected() -> (Call, TcpStream) {
    let (listener, address) = target().await;
    let mut hub = Hub::of(allowing(&[address.to_string()]));
    let call = hub.dial(&address.to_string()).await.unwrap();
    (call, soon(listener.accept()).await.unwrap().0)
}

fn reason(status: &Status) -> (Code, &str) {
    let reason = status.metadata().get("adit-error").unwrap().to_str().unwrap();
    (status.code(), reason)
}

#[tokio::test]
async fn each_side_ends_on_its_own() {
    let (mut call, mut target) = connected().await;
    call.say(b"question", true).await;
    let mut came = Vec::new();
    soon(target.read_to_end(&mut came)).await.unwrap();
    assert_eq!(came, b"question");
    target.write_all(b"answer").await.unwrap();
    target.shutdown().await.unwrap();
    let (came, ended) = call.all().await;
    assert_eq!((came.as_slice(), ended.is_ok()), (&b"answer"[..], true));
    call.is_over().await;

    let (mut call, mut target) = connected().await;
    target.write_all(b"banner").await.unwrap();
    target.shutdown().await.unwrap();
    let (came, ended) = call.all().await;
    assert_eq!((came.as_slice(), ended.is_ok()), (&b"banner"[..], true));
    call.say(b"late", false).await;
    call.say(b"r", true).await;
    let mut came = Vec::new();
    soon(target.read_to_end(&mut came)).await.unwrap();
    assert_eq!(came, b"later");
    call.is_over().await;
}

#[tokio::test]
async fn what_the_hub_gives_up_is_reset_at_the_target() {
    for how in ["by the call", "by the request's end"] {
        let (call, mut target) = connected().await;
        call.say(b"some", false).await;
        let mut came = [0; 4];
        soon(target.read_exact(&mut came)).await.unwrap();
        let _kept = match how {
            "by the call" => {
                drop(call.hear);
                None
            }
            _ => {
                drop(call.say);
                // Whoever polls the answer learns of it.
                let mut hear = call.hear;
                assert!(soon(hear.message()).await.is_err());
                Some(hear)
            }
        };
        let error = soon(target.read(&mut came)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{how}");
    }
}

#[tokio::test]
async fn a_reset_of_the_target_is_told_after_what_it_has_sent() {
    let (mut call, mut target) = connected().await;
    target.write_all(b"first").await.unwrap();
    let first = soon(call.hear.message()).await.unwrap().unwrap();
    assert_eq!(&first.data[..], b"first");
    SockRef::from(&target).set_linger(Some(Duration::ZERO)).unwrap();
    drop(target);
    let (_, ended) = call.all().await;
    let status = ended.unwrap_err();
    assert_eq!(reason(&status), (Code::Unavailable, "upstream-lost"));

    // Also when the target had ended before, and nothing is written to it.
    let (mut call, mut target) = connected().await;
    target.shutdown().await.unwrap();
    assert!(call.all().await.1.is_ok());
    SockRef::from(&target).set_linger(Some(Duration::ZERO)).unwrap();
    drop(target);
    let status = soon(call.hear.message()).await.unwrap_err();
    assert_eq!(reason(&status), (Code::Unavailable, "upstream-lost"));
}

#[tokio::test]
async fn only_allowed_targets_are_connected_to() {
    let (listener, address) = target().await;
    let mut nothing = Hub::of(Raw::new(Vec::new()));
    let mut names = Hub::of(allowing(&[format!("localhost:{}", address.port())]));
    for hub in [&mut nothing, &mut names] {
        let status = hub.refused(&address.to_string()).await;
        assert_eq!(reason(&status), (Code::PermissionDenied, "denied"));
        assert!(status.message().contains(&format!("--tcp {address}")), "{status}");
    }
    let status = names.refused("nothing").await;
    assert_eq!(reason(&status), (Code::InvalidArgument, "no-route"));
    let call = names
        .dial(&format!("LOCALHOST:{}", address.port()))
        .await
        .unwrap();
    soon(listener.accept()).await.unwrap();
    drop(call);
}

#[tokio::test]
async fn a_target_that_is_not_there_is_named() {
    let (listener, address) = target().await;
    drop(listener);
    let nowhere = "nothing.invalid:1".to_owned();
    let mut hub = Hub::of(allowing(&[address.to_string(), nowhere.clone()]));
    for (target, why) in [(address.to_string(), "refused"), (nowhere, "looked up")] {
        let status = hub.refused(&target).await;
        assert_eq!(reason(&status), (Code::Unavailable, "upstream-refused"));
        assert_eq!(status.metadata().get("adit-delivered").unwrap(), "no");
        let message = status.message();
        assert!(message.contains(&target) && message.contains(why), "{message}");
    }
}

#[tokio::test]
async fn one_connection_too_many_is_refused_until_another_ends() {
    let (listener, address) = target().await;
    let allowed = vec![address.to_string().parse().unwrap()];
    let mut hub = Hub::of(Raw::with_room(allowed, 1));
    let call = hub.dial(&address.to_string()).await.unwrap();
    let status = hub.refused(&address.to_string()).await;
    assert_eq!(reason(&status), (Code::ResourceExhausted, "agent-busy"));
    drop(call);
    let again = async {
        loop {
            if let Ok(call) = hub.dial(&address.to_string()).await {
                return call;
            }
            tokio::task::yield_now().await;
        }
    };
    soon(again).await;
    drop(listener);
}

#[tokio::test]
async fn a_target_that_does_not_read_holds_the_hub_back_and_lets_go_with_it() {
    let (call, target) = connected().await;
    let sent = CancellationToken::new();
    let endless = async {
        loop {
            let data = vec![0; 64 << 10].into();
            let piece = Bytes {
                data,
                ..Bytes::default()
            };
            if tokio::time::timeout(Duration::from_secs(1), call.say.send(piece))
                .await
                .is_err()
            {
                return sent.cancel();
            }
        }
    };
    soon(endless).await;
    assert!(sent.is_cancelled());
    drop(call);
    // What was under way comes, and then the reset.
    let ended = soon(tokio::io::copy(&mut { target }, &mut tokio::io::sink())).await;
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}
