//! gRPC servers with reflection and health, which can be stopped and started again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet, ServiceDescriptorProto};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;
use tonic_health::server::{HealthReporter, health_reporter};
use tonic_reflection::server;

use crate::upstream::Upstream;
use crate::upstream::tests::support::upstream;

/// A server that is killed, with its connections, when it is dropped.
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    /// Tells its connections to go away.
    hang_up: watch::Sender<()>,
    told_to_go: Arc<AtomicUsize>,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

/// Which calls a connection takes at once.
pub(super) const MANY: u32 = 100;

impl Backend {
    pub(super) async fn start(routes: Routes) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), routes, MANY).await
    }

    /// One that takes `streams` calls on a connection.
    pub(super) async fn start_at(address: SocketAddr, routes: Routes, streams: u32) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let hang_up = watch::Sender::new(());
        let [accepted, open, told_to_go] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
        let serving = {
            let hang_up = hang_up.clone();
            let [accepted, open, told_to_go] = [&accepted, &open, &told_to_go].map(Arc::clone);
            async move {
                let mut connections = JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    accepted.fetch_add(1, Ordering::Relaxed);
                    let service = TowerToHyperService::new(routes.clone());
                    let mut hang_up = hang_up.subscribe();
                    let [open, told_to_go] = [&open, &told_to_go].map(Arc::clone);
                    connections.spawn(async move {
                        open.fetch_add(1, Ordering::Relaxed);
                        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                            .max_concurrent_streams(streams)
                            .serve_connection(TokioIo::new(stream), service);
                        tokio::pin!(connection);
                        tokio::select! {
                            _ = &mut connection => {}
                            _ = hang_up.changed() => {
                                told_to_go.fetch_add(1, Ordering::Relaxed);
                                connection.as_mut().graceful_shutdown();
                                let _ = connection.await;
                                told_to_go.fetch_sub(1, Ordering::Relaxed);
                            }
                        }
                        open.fetch_sub(1, Ordering::Relaxed);
                    });
                }
            }
        };
        Self {
            address,
            hang_up,
            told_to_go,
            accepted,
            open,
            _task: AbortOnDropHandle::new(tokio::spawn(serving)),
        }
    }

    pub(super) fn upstream(&self) -> Upstream {
        upstream(&format!("http://{}", self.address))
    }

    /// Connections that were accepted so far.
    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Ends every connection in order: it takes no more calls, and goes when those that run have ended.
    pub(super) fn hang_up(&self) {
        self.hang_up.send_replace(());
    }

    /// Connections that were told to go and have not.
    pub(super) fn told_to_go(&self) -> usize {
        self.told_to_go.load(Ordering::Relaxed)
    }

    /// Connections that are open.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// Reflection of services of the package `shop`, and nothing else.
pub(super) fn reflection(services: &[&str]) -> Routes {
    let service = services.iter().map(|name| ServiceDescriptorProto {
        name: Some((*name).to_owned()),
        ..Default::default()
    });
    let file = FileDescriptorProto {
        name: Some("shop.proto".to_owned()),
        package: Some("shop".to_owned()),
        service: service.collect(),
        ..Default::default()
    };
    let descriptors = FileDescriptorSet { file: vec![file] }.encode_to_vec();
    Routes::new(
        server::Builder::configure()
            .register_encoded_file_descriptor_set(&descriptors)
            .build_v1()
            .unwrap(),
    )
}

/// The same with a health service.
pub(super) fn with_health(services: &[&str]) -> (Routes, HealthReporter) {
    let (reporter, health) = health_reporter();
    (reflection(services).add_service(health), reporter)
}
