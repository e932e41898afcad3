//! The measured service: it answers at once unless it is told to work, so that what is measured is the way to it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, Repeat, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use pb::echo_server::{Echo, EchoServer};
use pb::{DownloadRequest, Payload, Received};

/// `bench.v1`: the messages, the client and the server stub, generated from `echo.proto`.
pub mod pb {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        clippy::pedantic,
        reason = "generated code"
    )]
    tonic::include_proto!("bench.v1");
}

/// The full name of the service, as it stands in a request's path.
pub const SERVICE_NAME: &str = pb::echo_server::SERVICE_NAME;

/// The longest message that a download may ask for, in bytes.
const MAX_MESSAGE: u32 = 1 << 20;

/// The service, ready to be served.
#[must_use]
pub fn service() -> EchoServer<EchoService> {
    EchoServer::new(EchoService::default())
}

/// Echoes, and sends zeros.
#[derive(Clone, Copy, Debug, Default)]
pub struct EchoService {
    /// How long a unary call takes it.
    pub work: Duration,
}

#[tonic::async_trait]
impl Echo for EchoService {
    type DownloadStream = Repeat<Result<Payload, Status>>;
    type UploadStream = BoxStream<'static, Result<Received, Status>>;

    async fn unary(&self, request: Request<Payload>) -> Result<Response<Payload>, Status> {
        if !self.work.is_zero() {
            tokio::time::sleep(self.work).await;
        }
        Ok(Response::new(request.into_inner()))
    }

    async fn download(
        &self,
        request: Request<DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let size = request.into_inner().size;
        if size > MAX_MESSAGE {
            return Err(Status::invalid_argument(format!(
                "messages of {size} bytes were asked for, and {MAX_MESSAGE} is the most"
            )));
        }
        let data = Bytes::from(vec![0; size as usize]);
        Ok(Response::new(stream::repeat(Ok(Payload { data }))))
    }

    async fn upload(
        &self,
        request: Request<Streaming<Payload>>,
    ) -> Result<Response<Self::UploadStream>, Status> {
        let received = request.into_inner().map(|message| {
            let size = u32::try_from(message?.data.len()).unwrap_or(u32::MAX);
            Ok(Received { size })
        });
        Ok(Response::new(received.boxed()))
    }
}
