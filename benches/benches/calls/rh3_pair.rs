//! Hub and agent as they are.

use std::net::Ipv4Addr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use adit_bench::certificates;
use adit_transport::{Body, BodyError, Dialer, HubLink, Listener, Reset, Tuning};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};

use crate::Pair;
use crate::message::{self, MESSAGE, SMALL};

#[derive(Clone)]
pub(crate) struct Rh3Pair {
    hub: HubLink,
    _listener: Arc<Listener>,
}

impl Pair for Rh3Pair {
    const NAME: &str = "rh3";

    async fn connect(certs: &Path, tuning: Tuning) -> Self {
        let hub = certificates::hub(certs).unwrap();
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let listener = Listener::bind(
            address,
            hub.server_config().unwrap(),
            hub.private_key_der(),
            tuning.clone(),
        )
        .unwrap();
        let address = listener.local_addr().unwrap();
        let dialer = Dialer::new(
            certificates::agent(certs).unwrap().client_config().unwrap(),
            tuning,
        )
        .unwrap();
        let accepting = async { listener.accept().await.unwrap().establish().await.unwrap() };
        let dialling = async { dialer.dial(address, "127.0.0.1").await.unwrap() };
        let (hub, agent) = tokio::join!(accepting, dialling);
        tokio::spawn(async move { agent.serve(answer).await });
        Self {
            hub,
            _listener: Arc::new(listener),
        }
    }

    async fn call(&mut self) {
        assert_eq!(self.exchange(0).await, SMALL.len());
    }

    async fn download(&mut self, messages: u64) {
        assert_eq!(self.exchange(messages).await as u64, messages * MESSAGE as u64);
    }
}

impl Rh3Pair {
    async fn exchange(&self, download: u64) -> usize {
        let body = Body::new(Full::new(SMALL).map_err(|never| match never {}));
        let (head, ()) = message::request(download).into_parts();
        let response = self.hub.call(&head, body).await.unwrap();
        let mut body = response.into_body();
        let (mut received, mut status) = (0, None);
        while let Some(frame) = body.frame().await {
            match frame.unwrap().into_data() {
                Ok(data) => received += data.len(),
                Err(frame) => status = frame.into_trailers().ok(),
            }
        }
        assert!(status.is_some_and(|trailers| trailers.contains_key("grpc-status")));
        received
    }
}

async fn answer(request: Request<Body>) -> Result<Response<Body>, Reset> {
    let messages = message::download(request.headers());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body = match messages {
        0 => Answer {
            remaining: 1,
            message: body,
            trailers: Some(message::trailers()),
        },
        _ => Answer {
            remaining: messages,
            message: Bytes::from_static(&[0; MESSAGE]),
            trailers: Some(message::trailers()),
        },
    };
    Ok(message::response().map(|()| Body::new(body)))
}

/// A message as often as it is wanted, and trailers.
struct Answer {
    remaining: u64,
    message: Bytes,
    trailers: Option<HeaderMap>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(match self.remaining.checked_sub(1) {
            Some(remaining) => {
                self.remaining = remaining;
                Some(Ok(Frame::data(self.message.clone())))
            }
            None => self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))),
        })
    }
}
