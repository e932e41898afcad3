#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::net::Ipv4Addr;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;

async fn pair() -> (RawSocket, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (peer, accepted) = tokio::join!(
        TcpStream::connect(listener.local_addr().unwrap()),
        listener.accept()
    );
    (RawSocket::new(accepted.unwrap().0).unwrap(), peer.unwrap())
}

async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(30), future).await.unwrap()
}

fn abort(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

#[tokio::test]
async fn what_is_dropped_is_reset_and_what_was_ended_is_not() {
    for orderly in [false, true] {
        let (mut socket, mut peer) = pair().await;
        socket.write_all(b"some").await.unwrap();
        let clone = socket.clone();
        if orderly {
            socket.end();
        }
        drop(socket);
        drop(clone);
        let mut came = Vec::new();
        let ended = soon(peer.read_to_end(&mut came)).await;
        match orderly {
            true => assert_eq!(came, b"some"),
            false => assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset),
        }
    }
}

#[tokio::test]
async fn each_direction_ends_on_its_own() {
    let (mut socket, mut peer) = pair().await;
    socket.write_all(b"first").await.unwrap();
    socket.shutdown().await.unwrap();
    let mut came = Vec::new();
    soon(peer.read_to_end(&mut came)).await.unwrap();
    assert_eq!(came, b"first");
    peer.write_all(b"second").await.unwrap();
    peer.shutdown().await.unwrap();
    came.clear();
    // The connection is no more then, which is no reset.
    soon(socket.read_to_end(&mut came)).await.unwrap();
    assert_eq!(came, b"second");
}

#[tokio::test]
async fn a_reset_is_never_taken_for_an_end_even_where_a_write_was_told_of_it() {
    let (mut socket, peer) = pair().await;
    let mut reader = socket.clone();
    abort(peer);
    soon(socket.broken()).await;
    assert!(socket.write_all(b"x").await.is_err());
    let error = soon(reader.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_peer_that_resets_after_it_has_ended_is_noticed_without_a_write() {
    let (mut socket, mut peer) = pair().await;
    peer.shutdown().await.unwrap();
    assert_eq!(soon(socket.read(&mut [0; 8])).await.unwrap(), 0);
    assert!(timeout(Duration::from_millis(50), socket.broken()).await.is_err());
    abort(peer);
    soon(socket.broken()).await;
}

#[tokio::test]
async fn pieces_grow_with_what_comes_and_are_bounded() {
    let long = vec![7; 1 << 20];
    let mut reader = Reader::new(long.as_slice());
    let mut sizes = Vec::new();
    let mut all = 0;
    loop {
        let piece = reader.piece().await.unwrap();
        if piece.is_empty() {
            break;
        }
        sizes.push(piece.len());
        all += piece.len();
    }
    assert_eq!(all, long.len());
    assert_eq!(sizes[0], LEAST);
    assert_eq!(sizes.iter().max(), Some(&MOST));
    assert!(sizes.len() < 40, "{sizes:?}");
}
