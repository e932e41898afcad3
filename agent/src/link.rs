//! The life of one link: served, probed, drained, closed.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use adit_proto::tunnel::v1::agent_server::AgentServer;
use adit_proto::tunnel::v1::{Hello, HubEvent, hub_event};
use adit_transport::{AgentLink, Body, BodyError, Code, Dead, LinkError, Liveness, Reset, Sample, Standing};
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;
use tracing::{debug, info, warn};

use crate::attach::{self, Control, HubEvents, Voice};
use crate::forward::Forwarder;
use crate::offer::Offer;
use crate::raw::Raw;
use crate::shutdown::Shutdown;

/// The path of the control service.
const CONTROL: &str = "/adit.tunnel.v1.Agent/";

/// The path of its call that lasts as long as the link.
const ATTACH: &str = "/adit.tunnel.v1.Agent/Attach";

/// The longest message of the hub.
const MAX_MESSAGE: usize = 1 << 20;

/// How often the agent asks an idle hub for a sign of life, give or take a fifth. The hub asks more often as a rule, and an agent
/// that was asked does not.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// An idle link is looked at so often: its keep-alive asks the hub for a sign of life, too, and where the hub is heard no more the
/// hub is to be told soon. What it hears of the agent would have it wait.
const LOOK: Duration = Duration::from_secs(2);

/// How long the hub has to say that it has heard what the agent said, in round trips of the link,
const MOMENT: u32 = 4;

/// which is between these.
const SHORTEST_MOMENT: Duration = Duration::from_millis(100);
const LONGEST_MOMENT: Duration = Duration::from_secs(1);

/// One link to a hub.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) wire: AgentLink,
    pub(crate) hello: Hello,
    pub(crate) offer: watch::Receiver<Offer>,
    pub(crate) forwarder: Forwarder,
    pub(crate) raw: Raw,
    /// The latest generation of the slot that its hub sends calls to.
    pub(crate) attached: watch::Sender<u64>,
    /// Cancelled when the hub says that it sends no new calls on this link.
    pub(crate) hub_drains: CancellationToken,
    /// Cancelled when there is a better link.
    pub(crate) leave: CancellationToken,
    pub(crate) drain_timeout: Duration,
    pub(crate) shutdown: Shutdown,
}

/// A link that is no more.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) generation: u64,
    pub(crate) end: End,
}

/// What ended a link.
#[derive(Debug)]
pub(crate) enum End {
    /// The hub ended it, or the network did.
    Lost(LinkError),
    /// The agent gave it up: the hub did not answer.
    Dead(Dead),
    /// Another link of its slot has taken its place.
    Replaced,
    /// The agent stopped.
    Stopped,
}

impl Link {
    /// Serves the link until it ends, or nobody needs it any more.
    pub(crate) async fn run(self) -> Ended {
        let since = Instant::now();
        let (control, hub, voice) = attach::control(self.hello.clone(), self.offer.clone(), self.raw.clone());
        let idle = Arc::new(Idle::default());
        let mut served = pin!(self.serve(control, &idle));
        // Declared after what is served, and so dropped before it, also where this future is.
        let _ends_first = EndsFirst(&self.wire);
        let end = tokio::select! {
            // The first to be asked, because it knows best.
            biased;
            reason = &mut served => End::Lost(reason),
            () = self.shutdown.stopping() => End::Stopped,
            dead = self.look_after(hub, &voice, &idle) => End::Dead(dead),
            end = self.retire(&voice) => end,
        };
        let held = since.elapsed();
        match &end {
            End::Lost(LinkError::Refused(reason)) => warn!(reason, "the hub refuses this agent"),
            End::Lost(reason) if self.hub_drains.is_cancelled() => {
                info!(%reason, ?held, "lost the link to the hub, which drained it");
            }
            End::Lost(reason) => warn!(%reason, ?held, "lost the link to the hub"),
            End::Dead(dead) => {
                warn!(reason = %dead, ?held, "gave up the link to the hub");
                self.wire.close(Code::NO_ERROR, &dead.to_string());
            }
            End::Replaced => {
                info!(?held, "closing the link: another one has its place");
                self.wire
                    .close(Code::NO_ERROR, "another link took this one's place");
            }
            End::Stopped => self.wire.close(Code::NO_ERROR, "the agent stopped"),
        }
        if let End::Stopped = end {
            // The process ends next, and the hub is to hear of it. QUIC bounds this by three probe timeouts (RFC 9000 §10.2).
            self.wire.closed().await;
        }
        Ended {
            generation: self.hello.generation,
            end,
        }
    }

    async fn serve(&self, control: Control, idle: &Arc<Idle>) -> LinkError {
        let control = AgentServer::from_arc(Arc::new(control)).max_decoding_message_size(MAX_MESSAGE);
        let (forwarder, idle) = (self.forwarder.clone(), Arc::clone(idle));
        self.wire
            .serve(move |request| {
                let (control, forwarder) = (control.clone(), forwarder.clone());
                idle.no_more();
                async move {
                    if request.uri().path().starts_with(CONTROL) {
                        controlled(control, request).await
                    } else {
                        forwarder.call(request).await
                    }
                }
            })
            .await
    }

    /// Acts on what the hub says, and asks it for signs of life, until it is found dead.
    async fn look_after(&self, hub: HubEvents, voice: &Voice, idle: &Idle) -> Dead {
        let Ok(mut hub) = hub.await else {
            return pending().await;
        };
        // The hub looks at the hello before it answers, so that its answer says that the link takes calls. One that answers no
        // heartbeat at all knows of none, and is judged by its idle timeout.
        let mut attached = pin!(voice.heard().fuse());
        let mut liveness = None;
        loop {
            let check_at = match liveness
                .as_mut()
                .map(|liveness| self.check(liveness, voice, idle))
            {
                Some(Err(dead)) => return dead,
                Some(Ok(check_at)) => Some(check_at),
                None => None,
            };
            tokio::select! {
                said = hub.message() => match said {
                    Ok(Some(HubEvent { event })) => self.act(event, voice, liveness.as_mut()),
                    // The link may outlive its control call, and is then judged by its idle timeout, too.
                    ended => {
                        debug!(?ended, "the hub ended its control call");
                        return pending().await;
                    }
                },
                () = &mut attached => {
                    self.attached();
                    liveness = Some(Liveness::new(HEARTBEAT, rand::random(), Instant::now()));
                }
                () = idle.over() => {}
                () = until(check_at) => {}
            }
        }
    }

    /// Judges the link, and asks the hub for a sign of life when it is time: when to look again.
    fn check(&self, liveness: &mut Liveness, voice: &Voice, idle: &Idle) -> Result<Instant, Dead> {
        let sample = idle.unless_called(|| self.sample());
        let verdict = liveness.check(Instant::now(), &sample);
        if let Some(dead) = verdict.dead {
            return Err(dead);
        }
        if let Some(sequence) = verdict.heartbeat {
            voice.probe(sequence);
        }
        Ok(verdict.check_at.min(Instant::now() + LOOK))
    }

    fn act(&self, event: Option<hub_event::Event>, voice: &Voice, liveness: Option<&mut Liveness>) {
        match event {
            Some(hub_event::Event::Welcome(welcome)) => {
                // What the agent wants, as far as the hub knows it.
                let mut codings = self.hello.codings.clone();
                codings.retain(|coding| welcome.codings.contains(coding));
                let coding = self.wire.code_with(&codings);
                info!(
                    version = welcome.version,
                    coding, "the hub takes calls for this agent"
                );
            }
            Some(hub_event::Event::Heartbeat(heartbeat)) if heartbeat.reply => {
                voice.answered(heartbeat.sequence);
                if let Some(liveness) = liveness {
                    liveness.answered(Instant::now(), heartbeat.sequence);
                }
            }
            Some(hub_event::Event::Heartbeat(heartbeat)) => {
                voice.echo(heartbeat);
                if let Some(liveness) = liveness {
                    liveness.heard(Instant::now());
                }
            }
            Some(hub_event::Event::Drain(_)) => {
                if !self.hub_drains.is_cancelled() {
                    info!("the hub drains the link");
                }
                self.hub_drains.cancel();
            }
            // One of a later version.
            None => debug!("the hub said something that this agent does not know"),
        }
    }

    fn attached(&self) {
        self.attached
            .send_modify(|latest| *latest = self.hello.generation.max(*latest));
    }

    fn sample(&self) -> Sample {
        Sample {
            activity: self.wire.activity(),
            round_trip: self.wire.round_trip(),
            calls: self.wire.calls(),
            // The control call, over which it is asked, goes on.
            receiving: self.wire.receiving().saturating_sub(1),
        }
    }

    /// Ready when nobody needs the link any more: the agent drains, or another link has its place, and its calls have ended or
    /// had their time.
    async fn retire(&self, voice: &Voice) -> End {
        let end = tokio::select! {
            () = self.shutdown.draining() => End::Stopped,
            () = self.replaced() => End::Replaced,
        };
        let drained = async {
            voice.drain();
            // A hub that has heard it sends no call that would have to be refused.
            self.a_moment(voice).await;
            self.wire.drain().await;
        };
        if tokio::time::timeout(self.drain_timeout, drained).await.is_err() {
            warn!(timeout = ?self.drain_timeout, "calls still ran when the drain timeout was over");
        }
        // What was refused last has to reach the hub before the end of the link does, and a refusal is never sent again.
        self.a_moment(voice).await;
        end
    }

    /// Ready once the hub drains the link, or there is a better one, and the hub sends the slot's calls on a later one.
    async fn replaced(&self) {
        tokio::select! {
            () = self.hub_drains.cancelled() => {}
            () = self.leave.cancelled() => {}
        }
        let mut attached = self.attached.subscribe();
        // The sender is this link's own.
        let _ = attached.wait_for(|&latest| latest > self.hello.generation).await;
    }

    /// Waits until the hub has heard what was said, or has had the time to.
    async fn a_moment(&self, voice: &Voice) {
        let moment = (self.wire.round_trip() * MOMENT).clamp(SHORTEST_MOMENT, LONGEST_MOMENT);
        let _ = tokio::time::timeout(moment, voice.heard()).await;
    }
}

/// Ends the link when it is dropped, for want of a better reason before. It has to be before the calls that run on the link
/// are: the hub would hear of each that the agent gave it up, and could not say that the link was lost.
struct EndsFirst<'a>(&'a AgentLink);

impl Drop for EndsFirst<'_> {
    fn drop(&mut self) {
        self.0.close(Code::NO_ERROR, "the agent let the link go");
    }
}

/// Tells whoever looks after an idle link of its first call.
#[derive(Debug, Default)]
struct Idle {
    is: AtomicBool,
    over: Notify,
}

impl Idle {
    /// Looks at the link. From then on, a call that the look did not see is told of.
    fn unless_called(&self, look: impl Fn() -> Sample) -> Sample {
        self.is.store(true, Ordering::SeqCst);
        let sample = look();
        if sample.calls > 0 {
            self.is.store(false, Ordering::Relaxed);
        }
        sample
    }

    fn no_more(&self) {
        // Read first: a line that is only read is shared by all who do.
        if self.is.load(Ordering::Relaxed) && self.is.swap(false, Ordering::Relaxed) {
            self.over.notify_one();
        }
    }

    async fn over(&self) {
        self.over.notified().await;
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => pending().await,
    }
}

/// A call of the hub to the agent itself.
async fn controlled(
    mut control: AgentServer<Control>,
    request: Request<Body>,
) -> Result<Response<Body>, Reset> {
    let lasts = request.uri().path() == ATTACH;
    let Ok(response) = control.call(request).await;
    // A stream fails with no status: it ends.
    let mut response =
        response.map(|body| Body::new(body.map_err(|_| BodyError::Reset(Code::INTERNAL_ERROR))));
    if lasts {
        // As long as the link: neither a drain nor the link's rest waits for it.
        response.extensions_mut().insert(Standing);
    }
    Ok(response)
}
