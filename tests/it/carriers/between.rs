//! What is between agents and hubs where only web traffic passes: nginx before the hub, an HTTP proxy before the agent.

use std::process::Stdio;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::front;
use crate::world::process::{HubProcess, Process};
use crate::world::sample::{self, Sample};
use crate::world::tcp_path::{Far, TcpPath};
use crate::world::{ANY_PORT, PATIENCE, World, soon};

/// An nginx that terminates TLS, and passes WebSockets on to a hub.
struct Nginx {
    /// Where agents dial it.
    path: TcpPath,
    _child: Child,
}

impl Nginx {
    /// `None` on a machine without one, which is said.
    #[expect(
        clippy::print_stdout,
        reason = "whoever runs the tests is to see what was skipped"
    )]
    async fn before(hub: &str, world: &World) -> Option<Self> {
        let program = std::env::var("ADIT_TEST_NGINX").unwrap_or_else(|_| "nginx".to_owned());
        let (certificate, key) = front(world);
        let dir = world.dir();
        // It can't pick a port by itself: it listens on a socket in the directory, and what leads there does.
        let socket = world.certs().join("nginx.sock");
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {dir}/{what};"))
            .concat();
        let config = format!(
            "daemon off; master_process off; pid {dir}/nginx.pid; error_log stderr;\n\
             events {{}}\n\
             http {{ access_log off; {temporary}\n\
             server {{ listen unix:{} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};\n\
             location /tunnel {{ proxy_pass http://{hub}; proxy_http_version 1.1; proxy_read_timeout 60s;\n\
             proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\"; }} }} }}\n",
            socket.display()
        );
        let file = world.certs().join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let child = Command::new(&program)
            .args(["-p", dir, "-e", "stderr", "-c", file.to_str().unwrap()])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "{program}: {error}");
                println!("skipped: no {program} on this machine ({error})");
                return None;
            }
        };
        let listens = async {
            while tokio::net::UnixStream::connect(&socket).await.is_err() {
                assert!(child.try_wait().unwrap().is_none(), "nginx has ended");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, listens).await.unwrap();
        Some(Self {
            path: TcpPath::to(Far::Unix(socket)).await,
            _child: child,
        })
    }
}

#[tokio::test]
async fn links_pass_an_nginx_that_terminates_tls() {
    let world = World::new();
    let hub = HubProcess::start(&world, &["--websocket", "127.0.0.1:0"]).await;
    let line = hub.process.says(&["the hub listens"]).await;
    let websocket = line
        .split(' ')
        .find_map(|field| field.strip_prefix("websocket="))
        .unwrap();
    let Some(nginx) = Nginx::before(websocket, &world).await else {
        return;
    };
    let sample = Sample::start().await;
    let url = format!("wss://localhost:{}/tunnel", nginx.path.address.port());
    let ca = format!("{}/ca.pem", world.dir());
    let upstream = sample.url();
    let more = ["--upstream", &upstream, "--websocket-ca", &ca];
    let agent = Process::start(&world.agent_arguments("site-a", &url, &more));
    agent.says(&["connected to the hub", "carrier=websocket"]).await;
    hub.process
        .says(&["an agent is connected", "carrier=websocket"])
        .await;
    sample::four_kinds(hub.clients, Some("site-a")).await;

    // A path that is not the hub's, and a CA that is not the proxy's.
    let elsewhere = format!("wss://localhost:{}/other", nginx.path.address.port());
    let agent = Process::start(&world.agent_arguments("site-a", &elsewhere, &more));
    agent
        .says(&["cannot reach the hub", "404", "check the path"])
        .await;
    let stranger = World::new();
    let other_ca = format!("{}/ca.pem", stranger.dir());
    let more = ["--upstream", &upstream, "--websocket-ca", &other_ca];
    let agent = Process::start(&world.agent_arguments("site-a", &url, &more));
    agent.says(&["cannot reach the hub", "certificate"]).await;
}

/// An HTTP proxy that takes CONNECT, and nothing else; with what it was asked for.
async fn proxy(refuses: bool) -> (String, watch::Receiver<Vec<String>>, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind(ANY_PORT).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, asks) = watch::channel(Vec::new());
    let task = tokio::spawn(async move {
        let mut flows = tokio::task::JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let asked = asked.clone();
            flows.spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let target = head
                    .strip_prefix("CONNECT ")
                    .unwrap()
                    .split(' ')
                    .next()
                    .unwrap()
                    .to_owned();
                asked.send_modify(|asked| asked.push(target.clone()));
                if refuses {
                    let refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
                    return drop(stream.write_all(refusal).await);
                }
                let mut hub = TcpStream::connect(&target).await.unwrap();
                stream
                    .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    .await
                    .unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut hub).await;
            });
        }
    });
    (format!("http://{address}"), asks, AbortOnDropHandle::new(task))
}

#[tokio::test]
async fn a_websocket_goes_through_the_proxy_that_the_environment_names() {
    let world = World::new();
    let hub = HubProcess::start(&world, &[]).await;
    let sample = Sample::start().await;
    let (address, upstream) = (format!("localhost:{}", hub.agents.port()), sample.url());
    let more = ["--upstream", &upstream, "--carrier", "websocket"];
    let arguments = world.agent_arguments("site-a", &address, &more);

    let (refusing, _asks, _task) = proxy(true).await;
    let agent = Process::start_with(&arguments, &[("HTTPS_PROXY", &refusing)]);
    agent
        .says(&["cannot reach the hub", "refuses CONNECT", "403", &refusing])
        .await;
    drop(agent);

    let (proxy, mut asks, _task) = proxy(false).await;
    let _agent = Process::start_with(&arguments, &[("HTTPS_PROXY", &proxy)]);
    soon(asks.wait_for(|asked| asked.contains(&address)))
        .await
        .unwrap();
    hub.has("site-a").await;
    sample::four_kinds(hub.clients, Some("site-a")).await;
}
