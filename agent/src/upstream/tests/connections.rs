//! How many connections there are, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::{join_all, poll_fn};
use h2::server::Builder;
use tokio::net::UnixListener;
use tokio::sync::{Notify, Semaphore, mpsc};

use super::support::{Server, answer, collect, full, get, request, soon, streamed, upstream};
use crate::upstream::pool::{CALLS_PER_CONNECTION, MAX_CONNECTIONS};

/// A server whose calls end when the test adds permits.
async fn holding(builder: Builder) -> (Server, Arc<Semaphore>, mpsc::UnboundedReceiver<()>) {
    let gate = Arc::new(Semaphore::new(0));
    let (arrive, arrived) = mpsc::unbounded_channel();
    let server = Server::start(builder, {
        let gate = Arc::clone(&gate);
        move |exchange| {
            let (gate, arrive) = (Arc::clone(&gate), arrive.clone());
            async move {
                let _ = arrive.send(());
                gate.acquire().await.unwrap().forget();
                answer(exchange, "held").await;
            }
        }
    })
    .await;
    (server, gate, arrived)
}

async fn status(upstream: &crate::upstream::Upstream) -> String {
    let response = upstream.call(get("/a.B/C")).await.unwrap();
    let head = response.headers().get("grpc-status").cloned();
    let (_, tail) = collect(response.into_body()).await.unwrap();
    head.or(tail.get("grpc-status").cloned())
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn many_first_calls_make_one_connection() {
    let server = Server::start(Builder::new(), |exchange| answer(exchange, "ok")).await;
    let upstream = server.upstream();
    let answers = soon(join_all((0..100).map(|_| status(&upstream)))).await;
    assert!(answers.iter().all(|status| status == "0"), "{answers:?}");
    assert_eq!(server.connections(), 1);
    assert_eq!(soon(status(&upstream)).await, "0");
    assert_eq!(server.connections(), 1, "an idle connection is kept");
}

#[tokio::test]
async fn a_full_connection_gets_a_neighbour() {
    let (server, gate, mut arrived) = holding(Builder::new().max_concurrent_streams(1).clone()).await;
    let upstream = server.upstream();
    // All at once, before the upstream's limit can be known: none may be refused.
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let upstream = upstream.clone();
            tokio::spawn(async move { status(&upstream).await })
        })
        .collect();
    for _ in 0..5 {
        soon(arrived.recv()).await.unwrap();
    }
    assert_eq!(server.connections(), 5);
    gate.add_permits(5);
    for call in calls {
        assert_eq!(soon(call).await.unwrap(), "0");
    }
}

#[tokio::test]
async fn when_all_connections_are_full_a_call_waits_and_then_fails_as_busy() {
    let (server, gate, mut arrived) = holding(Builder::new().max_concurrent_streams(1).clone()).await;
    let upstream = server.upstream();
    let running: Vec<_> = (0..MAX_CONNECTIONS)
        .map(|_| {
            let upstream = upstream.clone();
            tokio::spawn(async move { status(&upstream).await })
        })
        .collect();
    for _ in 0..MAX_CONNECTIONS {
        soon(arrived.recv()).await.unwrap();
    }
    // From here on only the clock of the waiting call can move.
    tokio::time::pause();
    let response = soon(upstream.call(get("/a.B/C"))).await.unwrap();
    assert_eq!(response.headers()["adit-error"], "agent-busy");
    assert_eq!(response.headers()["adit-delivered"], "no");
    assert_eq!(response.headers()["grpc-status"], "8");
    tokio::time::resume();

    let waiting = tokio::spawn({
        let upstream = upstream.clone();
        async move { status(&upstream).await }
    });
    gate.add_permits(MAX_CONNECTIONS + 1);
    for call in running {
        assert_eq!(soon(call).await.unwrap(), "0");
    }
    assert_eq!(soon(waiting).await.unwrap(), "0");
    assert_eq!(server.connections(), MAX_CONNECTIONS);
}

#[tokio::test]
async fn many_calls_spread_where_the_upstream_has_no_limit() {
    let (server, gate, mut arrived) = holding(Builder::new()).await;
    let upstream = server.upstream();
    let calls: Vec<_> = (0..CALLS_PER_CONNECTION + 1)
        .map(|_| {
            let upstream = upstream.clone();
            tokio::spawn(async move { status(&upstream).await })
        })
        .collect();
    for _ in 0..calls.len() {
        soon(arrived.recv()).await.unwrap();
    }
    assert_eq!(server.connections(), 2);
    gate.add_permits(calls.len());
    for call in calls {
        assert_eq!(soon(call).await.unwrap(), "0");
    }
}

#[tokio::test]
async fn a_cancelled_call_gives_its_place_back() {
    let (server, _gate, mut arrived) = holding(Builder::new().max_concurrent_streams(1).clone()).await;
    let upstream = server.upstream();
    for _ in 0..3 * MAX_CONNECTIONS {
        let call = tokio::spawn({
            let upstream = upstream.clone();
            async move { upstream.call(request("/a.B/C", full("x"))).await }
        });
        soon(arrived.recv()).await.unwrap();
        call.abort();
        assert!(soon(call).await.unwrap_err().is_cancelled());
    }
    assert!(server.connections() <= 2, "{}", server.connections());
}

#[tokio::test]
async fn a_connection_that_goes_away_is_replaced_and_no_call_is_lost() {
    const CALLS: usize = 200;
    let served = Arc::new(AtomicUsize::new(0));
    let server = Server::accept({
        let served = Arc::clone(&served);
        move |stream| {
            let served = Arc::clone(&served);
            async move {
                let mut tasks = tokio::task::JoinSet::new();
                let mut connection: h2::server::Connection<_, Bytes> =
                    Builder::new().handshake(stream).await.unwrap();
                let mut here = 0;
                while let Some(Ok(exchange)) = connection.accept().await {
                    served.fetch_add(1, Ordering::Relaxed);
                    tasks.spawn(answer(exchange, "ok"));
                    here += 1;
                    if here == 10 {
                        connection.graceful_shutdown();
                    }
                }
            }
        }
    })
    .await;
    let upstream = server.upstream();
    for _ in 0..CALLS / 4 {
        let answers = soon(join_all((0..4).map(|_| status(&upstream)))).await;
        assert_eq!(answers, ["0"; 4]);
    }
    assert_eq!(served.load(Ordering::Relaxed), CALLS);
    assert!(server.connections() >= CALLS / 20, "{}", server.connections());
}

#[tokio::test]
async fn a_call_that_runs_outlives_its_connections_place_in_the_pool() {
    let shut = Arc::new(Notify::new());
    let server = Server::accept({
        let shut = Arc::clone(&shut);
        move |stream| {
            let shut = Arc::clone(&shut);
            async move {
                let mut tasks = tokio::task::JoinSet::new();
                let mut connection: h2::server::Connection<_, Bytes> =
                    Builder::new().handshake(stream).await.unwrap();
                loop {
                    tokio::select! {
                        () = shut.notified() => connection.graceful_shutdown(),
                        next = connection.accept() => match next {
                            Some(Ok((request, respond))) => {
                                tasks.spawn(async move {
                                    let (head, mut body) = request.into_parts();
                                    while body.data().await.is_some() {}
                                    answer((http::Request::from_parts(head, body), respond), "late").await;
                                });
                            }
                            _ => break,
                        }
                    }
                }
            }
        }
    })
    .await;
    let upstream = server.upstream();
    let (feed, body) = streamed();
    let running = tokio::spawn({
        let upstream = upstream.clone();
        async move { collect(upstream.call(request("/a.B/C", body)).await.unwrap().into_body()).await }
    });
    assert_eq!(soon(status(&upstream)).await, "0");
    shut.notify_one();
    while server.connections() < 2 {
        assert_eq!(soon(status(&upstream)).await, "0");
    }
    drop(feed);
    assert_eq!(soon(running).await.unwrap().unwrap().0, "late");
}

#[tokio::test]
async fn connections_end_with_the_last_clone() {
    let (ended, mut ends) = mpsc::channel(1);
    let server = Server::accept(move |stream| {
        let ended = ended.clone();
        async move {
            let mut connection: h2::server::Connection<_, Bytes> =
                Builder::new().handshake(stream).await.unwrap();
            while let Some(Ok(exchange)) = connection.accept().await {
                tokio::spawn(answer(exchange, "ok"));
            }
            let _ = poll_fn(|cx| connection.poll_closed(cx)).await;
            ended.send(()).await.unwrap();
        }
    })
    .await;
    let upstream = server.upstream();
    let clone = upstream.clone();
    assert_eq!(soon(status(&upstream)).await, "0");
    drop(upstream);
    assert_eq!(soon(status(&clone)).await, "0");
    assert!(ends.try_recv().is_err());
    drop(clone);
    soon(ends.recv()).await.unwrap();
}

#[tokio::test]
async fn a_unix_socket_is_called_as_localhost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("upstream.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let exchange = connection.accept().await.unwrap().unwrap();
        let uri = exchange.0.uri().to_string();
        answer(exchange, "ok").await;
        let _ = poll_fn(|cx| connection.poll_closed(cx)).await;
        uri
    });
    let upstream = upstream(&format!("unix:{}", path.display()));
    assert_eq!(soon(status(&upstream)).await, "0");
    drop(upstream);
    assert_eq!(soon(server).await.unwrap(), "http://localhost/a.B/C");
}
