//! What the calls consist of, the same on every path.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};

/// Bytes of a large message.
pub(crate) const MESSAGE: usize = 64 << 10;

/// A gRPC message of 100 bytes with its prefixes.
pub(crate) const SMALL: Bytes = Bytes::from_static(&[b'a'; 107]);

/// Metadata that asks for so many large messages; without it the request is echoed.
const DOWNLOAD: &str = "x-download";

/// A request's head.
pub(crate) fn request(download: u64) -> Request<()> {
    let mut request = Request::post("https://hub.example:9090/bench.v1.Echo/Unary");
    for (name, value) in [
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "tonic/0.14.9"),
    ] {
        request = request.header(name, value);
    }
    if download > 0 {
        request = request.header(DOWNLOAD, download);
    }
    request.body(()).unwrap()
}

/// How many large messages a request asks for.
pub(crate) fn download(metadata: &HeaderMap) -> u64 {
    metadata
        .get(DOWNLOAD)
        .map_or(0, |count| count.to_str().unwrap().parse().unwrap())
}

/// A response's head.
pub(crate) fn response() -> Response<()> {
    Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .unwrap()
}

/// How a call ends.
pub(crate) fn trailers() -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))])
}
