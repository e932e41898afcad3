//! Hands the hub's calls to upstreams.

use std::sync::Arc;

use adit_proto::failure::{Failure, Reason};
use adit_transport::{Body, Reset};
use http::{Method, Request, Response};
use tracing::debug;

use crate::routes::{Routes, RoutesError};
use crate::upstream::{ServicePrefix, Upstream};

/// Calls under this are between hub and agent, and no upstream's.
const CONTROL_PREFIX: &str = "/adit.";

/// Picks an upstream for each call by the call's service, and passes request and response on as they are: metadata and
/// its order, bytes, and resets. Only `:scheme` and `:authority` become the upstream's own.
///
/// Clones share the upstreams' connections, which end with the last clone and the calls that run.
#[derive(Clone, Debug)]
pub(crate) struct Forwarder {
    routes: Arc<Routes>,
}

impl Forwarder {
    /// Forwards to `upstreams`: the longest matching prefix has a call, and the one upstream without a prefix has those
    /// that match none.
    ///
    /// # Errors
    /// Two have the same prefix, or two have none.
    pub(crate) fn new(
        upstreams: impl IntoIterator<Item = (Option<ServicePrefix>, Upstream)>,
    ) -> Result<Self, RoutesError> {
        Ok(Self {
            routes: Arc::new(Routes::new(upstreams)?),
        })
    }

    /// Makes one call at the upstream that has it.
    ///
    /// Dropping the future, or the response's body, cancels the call at the upstream at once. Failures of the agent's
    /// own, such as an upstream that is down, are told in a trailers-only response, or in the trailers of one that has
    /// begun.
    ///
    /// # Errors
    /// The upstream reset the call, or whoever feeds the request's body did.
    pub(crate) async fn call(&self, request: Request<Body>) -> Result<Response<Body>, Reset> {
        match self.upstream(&request) {
            Ok(upstream) => upstream.call(request).await,
            Err(failure) => {
                debug!(%failure, "a call is not forwarded");
                Ok(failure.into_response(Body::empty()))
            }
        }
    }

    pub(crate) fn routes(&self) -> &Routes {
        &self.routes
    }

    fn upstream(&self, request: &Request<Body>) -> Result<&Upstream, Failure> {
        let path = request.uri().path();
        if path.starts_with(CONTROL_PREFIX) || request.method() == Method::CONNECT {
            let what = format!("{} {path}", request.method());
            return Err(Failure::new(
                Reason::Denied,
                format!(
                    "{what} is not forwarded to an upstream: it is between hub and agent; call a service of the upstream"
                ),
            ));
        }
        let service = path
            .strip_prefix('/')
            .and_then(|path| path.split_once('/'))
            .map_or("", |(service, _)| service);
        self.routes.find(service).ok_or_else(|| {
            Failure::new(
                Reason::NoRoute,
                format!("no upstream of this agent has {path:?}; name one with --upstream PREFIX=ADDRESS, or one without a prefix"),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use h2::server::Builder;

    use super::*;
    use crate::upstream::tests::support::{Server, answer, collect, get, soon};

    #[tokio::test]
    async fn a_call_goes_where_its_service_is() {
        let orders = Server::start(Builder::new(), |exchange| answer(exchange, "orders")).await;
        let others = Server::start(Builder::new(), |exchange| answer(exchange, "others")).await;
        let forwarder = Forwarder::new([
            (None, others.upstream()),
            (Some("shop.Orders".parse().unwrap()), orders.upstream()),
        ])
        .unwrap();
        for (path, expected) in [
            ("/shop.Orders/List", "orders"),
            ("/shop.Orders2/List", "others"),
            ("/shop/List", "others"),
            ("/", "others"),
        ] {
            let response = soon(forwarder.call(get(path))).await.unwrap();
            assert_eq!(
                soon(collect(response.into_body())).await.unwrap().0,
                expected,
                "{path}"
            );
        }
    }

    #[tokio::test]
    async fn control_and_connect_reach_no_upstream() {
        let server = Server::start(Builder::new(), |exchange| answer(exchange, "forwarded")).await;
        let forwarder = Forwarder::new([(None, server.upstream())]).unwrap();
        let control = get("/adit.tunnel.v1.Agent/Attach");
        let mut connect = get("/a.B/C");
        *connect.method_mut() = Method::CONNECT;
        for request in [control, connect] {
            let response = soon(forwarder.call(request)).await.unwrap();
            assert_eq!(response.headers()["adit-error"], "denied");
            assert_eq!(response.headers()["grpc-status"], "7");
        }
        assert_eq!(server.connections(), 0);
    }

    #[tokio::test]
    async fn a_service_that_no_upstream_has_is_named() {
        let server = Server::start(Builder::new(), |exchange| answer(exchange, "forwarded")).await;
        let forwarder = Forwarder::new([(Some("shop".parse().unwrap()), server.upstream())]).unwrap();
        let response = soon(forwarder.call(get("/bank.Accounts/List"))).await.unwrap();
        assert_eq!(response.headers()["adit-error"], "no-route");
        assert_eq!(response.headers()["grpc-status"], "12");
        let status = tonic::Status::from_header_map(response.headers()).unwrap();
        assert!(status.message().contains("/bank.Accounts/List"), "{status}");
    }
}
