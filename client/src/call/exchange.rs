//! One try of a call: opened, fed with its requests, and its answers printed as they arrive.

use std::future::Future;
use std::pin::{Pin, pin};

use futures_util::FutureExt as _;
use futures_util::future::Fuse;
use futures_util::stream;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MethodDescriptor, ReflectMessage as _, Value};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Status, Streaming};

use super::deadline::{expired, in_time, passed};
use super::printer::{Answers, Printer};
use super::requests::{self, RequestSender, Requests, Waiting};
use super::{Call, CallError, Event, Outcome};
use crate::connection::{Channel, Connection};
use crate::dynamic::DynamicCodec;
use crate::input::InputError;
use crate::schema::Schema;
use crate::status::Failure;
use crate::target::MethodName;

impl Call {
    pub(super) async fn exchange(
        &self,
        connection: &Connection,
        mut method: MethodDescriptor,
        mut cached: Option<&mut Schema<'_>>,
        requests: Requests,
        printer: &mut Printer<'_, impl Answers>,
        observe: &mut impl FnMut(Event<'_>),
    ) -> Result<Outcome, CallError> {
        let begun = Instant::now();
        let pool = method.parent_pool().clone();
        let failed = |status| CallError::Failed(Failure::new(status, &pool));
        let (sender, request) = self.request();
        let mut feeding = pin!(requests.feed(sender).fuse());

        let mut grpc = Grpc::with_origin(connection.channel(), connection.origin().clone())
            .max_decoding_message_size(self.max_message_size)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        if let Some(encoding) = self.compress {
            grpc = grpc.send_compressed(encoding);
        }
        let opening = open(
            &mut grpc,
            request,
            &self.method,
            DynamicCodec::new(method.output()),
        );
        let response = self.drive(feeding.as_mut(), opening).await?.map_err(failed)?;

        let headers = response.metadata().clone();
        observe(Event::Headers {
            metadata: &headers,
            after: begun.elapsed(),
        });
        let mut answers = 0_u64;
        let mut stream = response.into_inner();
        let mut held = None;
        while let Some(mut answer) = self
            .drive(feeding.as_mut(), stream.message())
            .await?
            .map_err(failed)?
        {
            if answers == 0 {
                observe(Event::Answer {
                    after: begun.elapsed(),
                });
            }
            answers += 1;
            // The service has learnt something since its description was cached.
            if has_unknown(&answer)
                && let Some(schema) = cached.take()
            {
                let learning = in_time(self.deadline, schema.learn(&self.method));
                method = learning.await?;
                answer = understood(&answer, &method)?;
            } else if *answer.descriptor().parent_pool() != *method.parent_pool() {
                answer = understood(&answer, &method)?;
            }
            if method.is_server_streaming() {
                printer.print(&answer).await?;
            } else if held.replace(answer).is_some() {
                return Err(failed(Status::internal(
                    "the method gives one answer, and the server sent more",
                )));
            }
        }
        let trailers = stream.trailers().await.map_err(failed)?.unwrap_or_default();
        if !method.is_server_streaming() {
            let answer = held.ok_or_else(|| {
                failed(Status::internal(
                    "the call succeeded without the answer that the method gives",
                ))
            })?;
            printer.print(&answer).await?;
        }
        Ok(Outcome {
            headers,
            trailers,
            answers,
        })
    }

    /// The request of the call, and the end through which its messages go.
    fn request(
        &self,
    ) -> (
        RequestSender,
        Request<impl stream::Stream<Item = DynamicMessage> + Send + 'static>,
    ) {
        let (sender, receiver) = mpsc::channel(requests::WAITING);
        let messages = stream::unfold(receiver, |mut receiver: mpsc::Receiver<Waiting>| async move {
            let Waiting { message, .. } = receiver.recv().await?;
            Some((message, receiver))
        });
        let mut request = Request::new(messages);
        *request.metadata_mut() = self.metadata.clone();
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        let sender = RequestSender::new(sender, request.cancellation_handle());
        (sender, request)
    }

    /// Waits for the server while requests go on being sent. An error of theirs and the deadline end
    /// the wait.
    async fn drive<T>(
        &self,
        feeding: Pin<&mut Fuse<impl Future<Output = Result<(), InputError>>>>,
        server: impl Future<Output = Result<T, Status>>,
    ) -> Result<Result<T, Status>, CallError> {
        tokio::select! {
            biased;
            Err(error) = feeding => Err(error.into()),
            answered = server => Ok(answered),
            () = passed(self.deadline) => Err(expired().into()),
        }
    }
}

async fn open(
    grpc: &mut Grpc<Channel>,
    request: Request<impl stream::Stream<Item = DynamicMessage> + Send + 'static>,
    method: &MethodName,
    codec: DynamicCodec,
) -> Result<tonic::Response<Streaming<DynamicMessage>>, Status> {
    grpc.ready().await?;
    // Whatever the kind of the method, on the wire it is a stream of messages each way.
    grpc.streaming(request, method.path().clone(), codec).await
}

/// True if a message or one in it has fields that its description does not have.
fn has_unknown(message: &DynamicMessage) -> bool {
    fn in_value(value: &Value) -> bool {
        match value {
            Value::Message(message) => has_unknown(message),
            Value::List(items) => items.iter().any(in_value),
            Value::Map(entries) => entries.values().any(in_value),
            _ => false,
        }
    }
    message.unknown_fields().next().is_some() || message.fields().any(|(_, value)| in_value(value))
}

/// The same answer by another description.
fn understood(answer: &DynamicMessage, method: &MethodDescriptor) -> Result<DynamicMessage, CallError> {
    DynamicMessage::decode(method.output(), &answer.encode_to_vec()[..]).map_err(|error| {
        let status = Status::internal(format!(
            "the answer is not a {}: {error}",
            method.output().full_name()
        ));
        CallError::Failed(Failure::new(status, method.parent_pool()))
    })
}
