//! Links on streams of bytes in memory: one end is ours, and the other one is the h2 crate's, or bare frames.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "tests fail by panicking"
)]

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{Request, Response};
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};
use tokio_util::task::AbortOnDropHandle;

use super::frames::GoAway;
use super::{agent, hub};
use crate::coding::Codings;
use crate::link::{AgentEnd, HubEnd};
use crate::quic::readers::BufferMemory;
use crate::quic::tests::support::*;
use crate::wire::Wire;
use crate::{
    AgentLink, Body, BodyError, CallError, Carrier, Code, Delivered, HubLink, LinkError, Reset, Tuning,
};

const PIPE: usize = 64 << 10;

/// An empty SETTINGS frame.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

async fn hub_on(wire: impl Wire + 'static, tuning: &Tuning) -> Result<HubLink, LinkError> {
    let peer = loopback();
    let link = hub::Link::establish(Carrier::Tls, peer, Vec::new(), Box::new(wire), tuning).await?;
    Ok(HubLink::new(HubEnd::Rh2(link), Codings::default()))
}

async fn agent_on(wire: DuplexStream, tuning: &Tuning) -> Result<AgentLink, LinkError> {
    let link = agent::Link::establish(Carrier::Tls, loopback(), Vec::new(), Box::new(wire), tuning).await?;
    Ok(AgentLink::new(AgentEnd::Rh2(link), Codings::default()))
}

type Incoming = (Request<h2::RecvStream>, h2::server::SendResponse<Bytes>);

/// An agent of the h2 crate. Its connection is moved by a task, which hands over the calls that come.
struct ForeignAgent {
    calls: tokio::sync::mpsc::UnboundedReceiver<Incoming>,
    drain: Arc<tokio::sync::Notify>,
    task: AbortOnDropHandle<()>,
}

impl ForeignAgent {
    async fn new(tuning: &Tuning) -> (HubLink, Self) {
        let (near, far) = tokio::io::duplex(PIPE);
        let (sender, calls) = tokio::sync::mpsc::unbounded_channel();
        let drain = Arc::new(tokio::sync::Notify::new());
        let serving = {
            let drain = Arc::clone(&drain);
            async move {
                let mut connection = h2::server::handshake(far).await.unwrap();
                loop {
                    tokio::select! {
                        accepted = connection.accept() => match accepted {
                            Some(Ok(call)) => drop(sender.send(call)),
                            Some(Err(_)) | None => return,
                        },
                        () = drain.notified() => connection.graceful_shutdown(),
                    }
                }
            }
        };
        let task = AbortOnDropHandle::new(tokio::spawn(serving));
        let link = within(hub_on(near, tuning)).await.unwrap();
        (link, Self { calls, drain, task })
    }

    async fn accept(&mut self) -> Incoming {
        within(self.calls.recv()).await.unwrap()
    }
}

fn calling(link: &HubLink, body: Body) -> AbortOnDropHandle<Result<Response<Body>, CallError>> {
    let link = link.clone();
    AbortOnDropHandle::new(tokio::spawn(
        async move { call(&link, request("/s/1", body)).await },
    ))
}

async fn was_reset(respond: &mut h2::server::SendResponse<Bytes>) -> Reason {
    within(std::future::poll_fn(|cx| respond.poll_reset(cx)))
        .await
        .unwrap()
}

fn ok() -> Response<()> {
    Response::new(())
}

#[tokio::test]
async fn a_dropped_call_or_response_is_cancelled() {
    let (link, mut agent) = ForeignAgent::new(&Tuning::default()).await;
    let (feed, body) = channel();
    let dropped = calling(&link, body);
    let (_request, mut respond) = agent.accept().await;
    drop(dropped);
    assert_eq!(was_reset(&mut respond).await, Reason::CANCEL);
    within(feed.closed()).await;

    let (feed, body) = channel();
    let answered = calling(&link, body);
    let (_request, mut respond) = agent.accept().await;
    let mut stream = respond.send_response(ok(), false).unwrap();
    drop(within(answered).await.unwrap().unwrap());
    let reason = within(std::future::poll_fn(|cx| stream.poll_reset(cx)))
        .await
        .unwrap();
    assert_eq!(reason, Reason::CANCEL);
    within(feed.closed()).await;
}

#[tokio::test]
async fn a_request_s_body_that_breaks_off_resets_with_its_code() {
    let (link, mut agent) = ForeignAgent::new(&Tuning::default()).await;
    let (feed, body) = channel();
    let call = calling(&link, body);
    let (_request, mut respond) = agent.accept().await;
    feed.send(Err(BodyError::Reset(Code::CONNECT_ERROR)))
        .await
        .unwrap();
    assert_eq!(was_reset(&mut respond).await, Reason::CONNECT_ERROR);
    let error = within(call).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Reset(Code::CONNECT_ERROR)), "{error}");
}

#[tokio::test]
async fn a_response_that_is_reset_says_its_code_and_gives_the_request_up() {
    let (link, mut agent) = ForeignAgent::new(&Tuning::default()).await;
    let (feed, body) = channel();
    let call = calling(&link, body);
    let (_request, mut respond) = agent.accept().await;
    let mut stream = respond.send_response(ok(), false).unwrap();
    let response = within(call).await.unwrap().unwrap();
    stream.send_reset(Reason::ENHANCE_YOUR_CALM);
    let error = read(response.into_body()).await.unwrap_err();
    assert!(matches!(error, BodyError::Reset(Code::EXCESSIVE_LOAD)), "{error}");
    within(feed.closed()).await;
}

#[tokio::test]
async fn an_end_of_the_request_s_reading_after_a_complete_response_is_no_error() {
    let (link, mut agent) = ForeignAgent::new(&Tuning::default()).await;
    for trailers in [false, true] {
        let (feed, body) = channel();
        let call = calling(&link, body);
        let (_request, mut respond) = agent.accept().await;
        let mut stream = respond.send_response(ok(), false).unwrap();
        stream.send_data("early".into(), !trailers).unwrap();
        if trailers {
            stream.send_trailers(fields(&[("grpc-status", "0")])).unwrap();
        }
        // What this does to a request that is not at its end is a reset with NO_ERROR.
        drop((_request, respond, stream));
        let response = within(call).await.unwrap().unwrap();
        within(feed.closed()).await;
        let (body, got) = read(response.into_body()).await.unwrap();
        assert_eq!((&body[..], got.is_some()), (&b"early"[..], trailers));
    }
}

#[tokio::test]
async fn refused_calls_were_not_looked_at() {
    let (link, mut agent) = ForeignAgent::new(&Tuning::default()).await;
    let call = calling(&link, full("x"));
    let (_request, mut respond) = agent.accept().await;
    respond.send_reset(Reason::REFUSED_STREAM);
    let error = within(call).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Refused), "{error}");
    assert_eq!(error.delivered(), Delivered::No);
}

#[tokio::test]
async fn calls_that_run_go_on_after_a_goaway_and_no_new_ones_begin() {
    let (link, mut agent) = ForeignAgent::new(&Tuning::default()).await;
    let running = calling(&link, full("x"));
    let (_request, mut respond) = agent.accept().await;
    agent.drain.notify_one();
    within(link.draining()).await;
    let error = within(call(&link, request("/s/2", Body::empty())))
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Draining), "{error}");
    respond
        .send_response(ok(), false)
        .unwrap()
        .send_data("done".into(), true)
        .unwrap();
    let response = within(running).await.unwrap().unwrap();
    assert_eq!(read(response.into_body()).await.unwrap().0, "done");
}

/// A peer of bare frames, and the bytes that it is sent.
async fn bare(mut far: DuplexStream) -> DuplexStream {
    far.write_all(&SETTINGS).await.unwrap();
    far
}

#[tokio::test]
async fn calls_above_the_last_id_were_not_looked_at_and_others_perhaps() {
    let (near, far) = tokio::io::duplex(PIPE);
    let mut far = bare(far).await;
    let link = within(hub_on(near, &Tuning::default())).await.unwrap();
    let (first, second) = (calling(&link, full("x")), calling(&link, full("x")));
    // Streams 1 and 3: both requests are there when so much is.
    let mut seen = vec![0; 24];
    within(far.read_exact(&mut seen)).await.unwrap();
    let mut scanner = super::frames::Scanner::new(0);
    let mut begun = 0;
    while begun < 2 {
        let mut some = [0; 1000];
        let length = within(far.read(&mut some)).await.unwrap();
        scanner.scan(&some[..length], |frame| {
            begun += usize::from(frame.kind == super::frames::kind::HEADERS);
        });
    }
    let goaway = |last, code, reason: &'static str| GoAway {
        last,
        code,
        reason: Bytes::from_static(reason.as_bytes()),
    };
    far.write_all(&goaway(1, 0, "").encode()).await.unwrap();
    let (unseen, _, mut others) = within(futures_util::future::select_all([first, second])).await;
    let error = unseen.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Draining), "{error}");
    // The other one goes on until the link ends.
    far.write_all(&goaway(1, 7, "another instance has the id").encode())
        .await
        .unwrap();
    drop(far);
    let error = within(others.remove(0)).await.unwrap().unwrap_err();
    assert!(
        matches!(
            &error,
            CallError::LinkLost { delivered: Delivered::Maybe, reason: LinkError::Refused(why) }
                if why == "another instance has the id"
        ),
        "{error}"
    );
    let lost = within(link.closed()).await;
    assert!(matches!(lost, LinkError::Refused(_)), "{lost}");
}

#[tokio::test]
async fn a_link_that_breaks_says_of_each_call_how_far_it_was() {
    let (link, mut agent) = ForeignAgent::new(&Tuning::default()).await;
    let (_feed, body) = channel();
    let answered = calling(&link, body);
    let (_request, mut respond) = agent.accept().await;
    let mut stream = respond.send_response(ok(), false).unwrap();
    stream.send_data("first".into(), false).unwrap();
    let mut response = within(answered).await.unwrap().unwrap().into_body();
    assert_eq!(next_data(&mut response).await.unwrap(), "first");
    let waiting = calling(&link, full("x"));
    let _second = agent.accept().await;

    drop(agent.task);
    let error = within(waiting).await.unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            CallError::LinkLost {
                delivered: Delivered::Maybe,
                reason: LinkError::Broken(_)
            }
        ),
        "{error}"
    );
    let error = read(response).await.unwrap_err();
    assert!(
        matches!(error, BodyError::LinkLost(LinkError::Broken(_))),
        "{error}"
    );
    let error = within(call(&link, request("/s/3", Body::empty())))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            CallError::LinkLost {
                delivered: Delivered::No,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_no_http_2_is_no_link() {
    for said in [&b"HTTP/1.1 400 Bad Request\r\n\r\nthat was no request"[..], b""] {
        let (near, mut far) = tokio::io::duplex(PIPE);
        far.write_all(said).await.unwrap();
        drop(far);
        within(hub_on(near, &Tuning::default())).await.unwrap_err();
        let (near, mut far) = tokio::io::duplex(PIPE);
        far.write_all(said).await.unwrap();
        drop(far);
        within(agent_on(near, &Tuning::default())).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_ends_its_link() {
    let (near, far) = tokio::io::duplex(PIPE);
    let mut far = bare(far).await;
    let link = within(hub_on(near, &Tuning::default())).await.unwrap();
    // A stream's window is none of stream 2's, which there is none of.
    far.write_all(&[0, 0, 4, 8, 0, 0, 0, 0, 2, 0, 0, 0, 1])
        .await
        .unwrap();
    let lost = within(link.closed()).await;
    assert!(matches!(lost, LinkError::Protocol(_)), "{lost}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_lost_at_the_idle_timeout_and_a_silent_path_is_kept_open() {
    let (near, far) = tokio::io::duplex(PIPE);
    let _far = bare(far).await;
    let link = hub_on(near, &Tuning::default()).await.unwrap();
    let begun = tokio::time::Instant::now();
    let lost = link.closed().await;
    assert!(matches!(lost, LinkError::TimedOut), "{lost}");
    assert_eq!(begun.elapsed().as_secs(), 30);

    // Two ends that have nothing to say to each other stay.
    let (near, far) = tokio::io::duplex(PIPE);
    let tuning = Tuning::default();
    let (hub, agent) = tokio::join!(hub_on(near, &tuning), agent_on(far, &tuning));
    let (hub, agent) = (hub.unwrap(), agent.unwrap());
    let day = Duration::from_secs(24 * 3600);
    tokio::time::timeout(day, hub.closed()).await.unwrap_err();
    let kept = agent.activity().received;
    assert!((8640..3 * 8640).contains(&kept), "{kept}");
    // The clock stands still while anything can be done.
    assert!(hub.round_trip() < Duration::from_millis(10) && agent.round_trip() < Duration::from_millis(10));
}

#[tokio::test]
async fn a_hub_s_reset_drops_the_handler_or_its_body() {
    let (near, far) = tokio::io::duplex(PIPE);
    let connecting = async {
        let (sender, connection) = h2::client::handshake(near).await.unwrap();
        let moving = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
        (sender, moving)
    };
    let tuning = Tuning::default();
    let ((sender, _moving), agent) = within(async { tokio::join!(connecting, agent_on(far, &tuning)) }).await;
    let (held, never) = channel();
    let (feed, streamed) = channel();
    let (never, streamed) = (
        Arc::new(Mutex::new(Some(never))),
        Arc::new(Mutex::new(Some(streamed))),
    );
    let begun = Arc::new(tokio::sync::Notify::new());
    let _serving = serve(agent.unwrap(), {
        let begun = Arc::clone(&begun);
        move |request: Request<Body>| {
            let (never, streamed, begun) = (Arc::clone(&never), Arc::clone(&streamed), Arc::clone(&begun));
            async move {
                match request.uri().path() {
                    "/s/Stream" => Ok(Response::new(streamed.lock().unwrap().take().unwrap())),
                    "/s/Refuse" => Err(Reset(Code::REQUEST_REJECTED)),
                    _ => {
                        let _held = never.lock().unwrap().take();
                        begun.notify_one();
                        std::future::pending().await
                    }
                }
            }
        }
    });
    let mut sender = within(sender.ready()).await.unwrap();
    let get = |path: &str| Request::get(format!("https://hub{path}")).body(()).unwrap();
    let (response, mut stream) = sender.send_request(get("/s/Wait"), false).unwrap();
    within(begun.notified()).await;
    stream.send_reset(Reason::CANCEL);
    within(held.closed()).await;
    drop(response);

    let (response, mut stream) = sender.send_request(get("/s/Stream"), false).unwrap();
    let _response = within(response).await.unwrap();
    stream.send_reset(Reason::CANCEL);
    within(feed.closed()).await;

    let (response, _stream) = sender.send_request(get("/s/Refuse"), true).unwrap();
    let error = within(response).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM));
}

#[tokio::test]
async fn an_agent_that_closes_says_which_calls_it_has_looked_at() {
    let (near, far) = tokio::io::duplex(PIPE);
    let tuning = Tuning::default();
    let (link, agent) = within(async { tokio::join!(hub_on(near, &tuning), agent_on(far, &tuning)) }).await;
    let (link, agent) = (link.unwrap(), agent.unwrap());
    // Nobody serves it: the call waits at the agent, and nobody has looked at it.
    let waiting = calling(&link, full("x"));
    until("the call has come", || agent.activity().received > 3).await;
    agent.close(Code::NO_ERROR, "the agent stopped");
    within(agent.closed()).await;
    let error = within(waiting).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Draining), "{error}");
    let lost = within(link.closed()).await;
    assert!(
        matches!(&lost, LinkError::Closed(why) if why == "the agent stopped"),
        "{lost}"
    );
}

/// A pipe in memory that remembers whether its end is to be a reset.
#[derive(Debug)]
struct Watched {
    pipe: DuplexStream,
    aborted: Arc<AtomicBool>,
}

impl Wire for Watched {
    fn abort(&self) {
        self.aborted.store(true, Ordering::Relaxed);
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_link_waits_for_no_peer_that_answers_no_more() {
    let tuning = Tuning::default();
    for answers in [true, false] {
        let (pipe, far) = tokio::io::duplex(PIPE);
        let aborted = Arc::new(AtomicBool::new(false));
        let near = Watched {
            pipe,
            aborted: Arc::clone(&aborted),
        };
        let far = async {
            match answers {
                true => (Some(agent_on(far, &tuning).await.unwrap()), None),
                false => (None, Some(bare(far).await)),
            }
        };
        let (link, _far) = tokio::join!(hub_on(near, &tuning), far);
        let link = link.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        link.close(Code::REQUEST_CANCELLED, "it is dead");
        link.closed().await;
        assert_eq!(aborted.load(Ordering::Relaxed), !answers);
    }
}

#[tokio::test]
async fn a_link_is_closed_in_a_word_also_where_much_is_under_way() {
    for round in 0..20 {
        let (near, far) = tokio::io::duplex(1000 + 777 * round);
        let tuning = Tuning::default();
        let (link, agent) =
            within(async { tokio::join!(hub_on(near, &tuning), agent_on(far, &tuning)) }).await;
        let (link, agent) = (link.unwrap(), Arc::new(agent.unwrap()));
        let serving = Arc::clone(&agent);
        let _serving = AbortOnDropHandle::new(tokio::spawn(async move {
            serving
                .serve(|_| async { Ok(Response::new(full(pattern(4 << 20)))) })
                .await
        }));
        let mut body = within(call(&link, request("/s/Long", Body::empty())))
            .await
            .unwrap()
            .into_body();
        next_data(&mut body).await.unwrap();
        agent.close(Code::NO_ERROR, "the agent stopped");
        let error = read(body).await.unwrap_err();
        assert!(
            matches!(&error, BodyError::LinkLost(LinkError::Closed(why)) if why == "the agent stopped"),
            "{round}: {error}"
        );
    }
}

const STREAM_WINDOW: u32 = 64 << 10;

/// Readers that have stopped, each with a full window, on a link that may hold `link_memory`.
async fn stopped(
    link_memory: u32,
    memory: &Arc<BufferMemory>,
    calls: usize,
) -> (HubLink, Serving, Vec<Body>) {
    let tuning = Tuning {
        stream_window: STREAM_WINDOW,
        link_window: 8 * STREAM_WINDOW,
        link_memory,
        buffer_memory: Arc::clone(memory),
        ..Tuning::default()
    };
    let (near, far) = tokio::io::duplex(PIPE);
    let usual = Tuning::default();
    let (link, agent) = within(async { tokio::join!(hub_on(near, &tuning), agent_on(far, &usual)) }).await;
    let (link, serving) = (
        link.unwrap(),
        serve(agent.unwrap(), |_| async {
            Ok(Response::new(full(pattern(512 << 10))))
        }),
    );
    let mut bodies = Vec::new();
    for _ in 0..calls {
        let response = within(call(&link, request("/s/Owed", Body::empty()))).await;
        bodies.push(response.unwrap().into_body());
    }
    (link, serving, bodies)
}

/// Reads to the end what nobody else's standing still is to hold up.
async fn live(link: &HubLink) {
    let response = within(call(link, request("/s/Live", Body::empty())))
        .await
        .unwrap();
    assert_eq!(read(response.into_body()).await.unwrap().0.len(), 512 << 10);
}

#[tokio::test]
async fn readers_that_stand_still_hold_up_no_live_call() {
    let memory = BufferMemory::new(64 << 20);
    let (link, _serving, bodies) = stopped(16 << 20, &memory, 100).await;
    live(&link).await;
    // Nobody was given up for it.
    for body in bodies {
        assert_eq!(read(body).await.unwrap().0.len(), 512 << 10);
    }
    drop(link);
    until("the memory is given back", || memory.used() == 0).await;
}

#[tokio::test]
async fn at_a_ceiling_the_stillest_reader_is_given_up_and_the_others_go_on() {
    // Of the link, and of the process.
    for (link_memory, process) in [(4 << 20, 64 << 20), (64 << 20, 3 << 20)] {
        let memory = BufferMemory::new(process);
        let (link, _serving, bodies) = stopped(link_memory, &memory, 120).await;
        // For longer than readers may stand still at a ceiling before one of them is given up.
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(600) {
            live(&link).await;
        }
        let mut outcomes = Vec::new();
        for body in bodies {
            outcomes.push(read(body).await.map(|(body, _)| body.len()));
        }
        let first = outcomes[0].as_ref().unwrap_err();
        assert!(matches!(first, BodyError::SlowReader), "{first}");
        let given_up = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        assert!(given_up < 110, "{given_up}");
        assert!(outcomes.iter().flatten().all(|&len| len == 512 << 10));
        live(&link).await;
        drop(link);
        until("the memory is given back", || memory.used() == 0).await;
    }
}

#[tokio::test]
async fn requests_and_responses_have_trailers() {
    let (near, far) = tokio::io::duplex(PIPE);
    let tuning = Tuning::default();
    let (link, agent) = within(async { tokio::join!(hub_on(near, &tuning), agent_on(far, &tuning)) }).await;
    let _serving = serve(agent.unwrap(), |request: Request<Body>| async move {
        Ok(Response::new(request.into_body()))
    });
    let link = link.unwrap();
    let sent = fields(&[
        ("x-connection", "kept"),
        ("connection", "close"),
        ("x-padded", " a "),
    ]);
    let body = frames(vec![Frame::data("data".into()), Frame::trailers(sent)]);
    let response = within(call(&link, request("/s/Echo", body))).await.unwrap();
    let (body, trailers) = read(response.into_body()).await.unwrap();
    assert_eq!(body, "data");
    assert_eq!(
        trailers.unwrap(),
        fields(&[("x-connection", "kept"), ("x-padded", "a")])
    );
}
