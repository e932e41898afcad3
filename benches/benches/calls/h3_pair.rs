//! The `h3` crate on quinn, with the settings that a link has.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use adit_bench::certificates;
use adit_transport::Tuning;
use bytes::{Buf as _, Bytes, BytesMut};
use h3::client::SendRequest;
use h3::server::RequestResolver;
use quinn::congestion::BbrConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Endpoint, EndpointConfig, MtuDiscoveryConfig, TokioRuntime, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::Pair;
use crate::message::{self, MESSAGE, SMALL};

#[derive(Clone)]
pub(crate) struct H3Pair {
    client: SendRequest<h3_quinn::OpenStreams, Bytes>,
    _endpoints: [Endpoint; 2],
}

impl Pair for H3Pair {
    const NAME: &str = "h3";

    async fn connect(certs: &Path, tuning: Tuning) -> Self {
        let mut tls = certificates::hub(certs).unwrap().server_config().unwrap();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        config.transport_config(Arc::new(transport(&tuning)));
        let server = endpoint(Some(config), &tuning);

        let mut tls = certificates::agent(certs).unwrap().client_config().unwrap();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        config.transport_config(Arc::new(transport(&tuning)));
        let client = endpoint(None, &tuning);

        let address = server.local_addr().unwrap();
        let dialling = async {
            client
                .connect_with(config, address, "127.0.0.1")
                .unwrap()
                .await
                .unwrap()
        };
        let accepting = async { server.accept().await.unwrap().await.unwrap() };
        let (dialled, accepted) = tokio::join!(dialling, accepting);

        let accepted = h3_quinn::Connection::new(accepted);
        tokio::spawn(async move {
            let mut connection = h3::server::builder()
                .send_grease(false)
                .build(accepted)
                .await
                .unwrap();
            while let Ok(Some(request)) = connection.accept().await {
                tokio::spawn(answer(request));
            }
        });
        let dialled = h3_quinn::Connection::new(dialled);
        let (mut connection, requests) = h3::client::builder()
            .send_grease(false)
            .build::<_, _, Bytes>(dialled)
            .await
            .unwrap();
        tokio::spawn(async move { std::future::poll_fn(|cx| connection.poll_close(cx)).await });
        Self {
            client: requests,
            _endpoints: [server, client],
        }
    }

    async fn call(&mut self) {
        assert_eq!(self.exchange(0).await, SMALL.len());
    }

    async fn download(&mut self, messages: u64) {
        assert_eq!(self.exchange(messages).await as u64, messages * MESSAGE as u64);
    }
}

impl H3Pair {
    async fn exchange(&mut self, download: u64) -> usize {
        let mut stream = self
            .client
            .send_request(message::request(download))
            .await
            .unwrap();
        stream.send_data(SMALL).await.unwrap();
        stream.finish().await.unwrap();
        stream.recv_response().await.unwrap();
        let mut received = 0;
        while let Some(data) = stream.recv_data().await.unwrap() {
            received += data.remaining();
        }
        let trailers = stream.recv_trailers().await.unwrap();
        assert!(trailers.is_some_and(|trailers| trailers.contains_key("grpc-status")));
        received
    }
}

async fn answer(request: RequestResolver<h3_quinn::Connection, Bytes>) {
    let (head, mut stream) = request.resolve_request().await.unwrap();
    let mut body = BytesMut::new();
    while let Some(data) = stream.recv_data().await.unwrap() {
        body.extend_from_slice(data.chunk());
    }
    stream.send_response(message::response()).await.unwrap();
    match message::download(head.headers()) {
        0 => stream.send_data(body.freeze()).await.unwrap(),
        messages => {
            for _ in 0..messages {
                stream.send_data(Bytes::from_static(&[0; MESSAGE])).await.unwrap();
            }
        }
    }
    stream.send_trailers(message::trailers()).await.unwrap();
    stream.finish().await.unwrap();
}

fn transport(tuning: &Tuning) -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(tuning.max_udp_payload);
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(VarInt::from_u32(tuning.stream_window))
        .receive_window(VarInt::from_u32(tuning.link_window))
        .send_window(u64::from(tuning.send_window))
        .max_concurrent_bidi_streams(VarInt::from_u32(tuning.max_calls))
        .initial_rtt(tuning.initial_rtt)
        .mtu_discovery_config(Some(mtu))
        .enable_segmentation_offload(tuning.segmentation_offload);
    // As `settings` has it for both pairs.
    config.congestion_controller_factory(Arc::new(BbrConfig::default()));
    config
}

fn endpoint(server: Option<quinn::ServerConfig>, tuning: &Tuning) -> Endpoint {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket
        .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
        .unwrap();
    socket
        .set_recv_buffer_size(tuning.socket_buffer as usize)
        .unwrap();
    socket
        .set_send_buffer_size(tuning.socket_buffer as usize)
        .unwrap();
    socket.set_nonblocking(true).unwrap();
    Endpoint::new(
        EndpointConfig::default(),
        server,
        socket.into(),
        Arc::new(TokioRuntime),
    )
    .unwrap()
}
