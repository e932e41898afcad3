//! The story of one call: resolve the method, open the call, stream the requests in as they are
//! read, print the answers as they arrive.

mod requests;
mod retry;

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::Fuse;
use futures_util::stream;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MethodDescriptor, ReflectMessage as _, Value};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status, Streaming};

use crate::MAX_MESSAGE_SIZE;
use crate::codec::{Codecs, DecodeOptions, EncodeError, EncodeOptions, JsonCodec, PayloadCodec};
use crate::connection::{Channel, Connection};
use crate::dynamic::{DynamicCodec, MISMATCH};
use crate::input::{Input, InputError, Messages};
use crate::schema::{Origin, ResolveError, Schema, Sources};
use crate::status::Failure;
use crate::target::MethodName;
use crate::template::template;
use requests::{RequestSender, Requests};

/// How long learning the method's schema may take when the call itself has no deadline.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(30);
/// How many requests may wait for the connection; they are read no faster than they are sent.
const REQUESTS_WAITING: usize = 1;

/// A call to make.
pub struct Call {
    /// The method.
    pub method: MethodName,
    /// Where its requests come from. Without an input a method that takes one message is sent an
    /// empty one, and a method that takes a stream an empty stream.
    pub input: Option<Input>,
    /// How the input is written.
    pub input_codec: Arc<dyn PayloadCodec>,
    /// Fields of the input that its message does not have are left out; otherwise they are errors.
    pub allow_unknown: bool,
    /// How answers are written.
    pub output_codec: Arc<dyn PayloadCodec>,
    /// Fields without presence are written where they have their default too.
    pub emit_defaults: bool,
    /// Where the method's description comes from.
    pub schema: Sources,
    /// Metadata of the call, and of the reflection before it, so that a hub routes both alike.
    pub metadata: MetadataMap,
    /// The longest message, in bytes: of the input in the form that it has there, and of the wire.
    pub max_message_size: usize,
    /// How requests are compressed. Answers may be, in any way, whatever is said here.
    pub compress: Option<CompressionEncoding>,
    /// How often the call is made once more where it is certain that the service has not seen it, or
    /// where the service says so.
    pub retries: u32,
    /// When everything is to be over: learning the schema, reading the requests, and the call.
    pub deadline: Option<Instant>,
}

/// What happens in a call, for whoever wants to know while it does.
#[derive(Debug)]
pub enum Event<'a> {
    /// The method is known.
    Described {
        /// From where.
        origin: Origin,
        /// How long that took.
        took: Duration,
    },
    /// The server answers, if only to say that there will be answers.
    Headers {
        /// Its metadata.
        metadata: &'a MetadataMap,
        /// How long after the call was begun.
        after: Duration,
    },
    /// The first answer is there.
    Answer {
        /// How long after the call was begun.
        after: Duration,
    },
    /// The call has failed and is made once more.
    Retry {
        /// How it failed.
        failure: &'a Failure,
        /// How long is waited first.
        wait: Duration,
    },
}

/// How a call that succeeded went.
#[derive(Debug)]
pub struct Outcome {
    /// The metadata that came before the answers.
    pub headers: MetadataMap,
    /// The metadata that came after them.
    pub trailers: MetadataMap,
    /// How many answers were written.
    pub answers: u64,
}

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The method is not known; no call was made.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The requests cannot be read. A call that was open has been cancelled.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The method takes one message and the input has none; no call was made.
    #[error("{method} takes one message, and there is none in {input}; without -d an empty message is sent")]
    NoMessage {
        /// The method.
        method: String,
        /// What was read.
        input: Input,
    },
    /// The method takes one message and the input has more; no call was made.
    #[error("{method} takes one message, and {input} has more than one; make a call for each")]
    ManyMessages {
        /// The method.
        method: String,
        /// What was read.
        input: Input,
    },
    /// The call failed; the service, the tunnel or the connection says so.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// An answer cannot be written in the output's format.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// An answer cannot be written out.
    #[error("cannot write the answer: {0}")]
    Output(#[source] io::Error),
}

impl CallError {
    /// The failure of the call, or of the reflection on its behalf, if that is what went wrong.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) | Self::Resolve(ResolveError::Failed(failure)) => Some(failure),
            _ => None,
        }
    }
}

impl CallError {
    /// True if it may be so because the description is not, or not any more, the service's.
    fn is_mismatch(&self) -> bool {
        match self {
            Self::Input(InputError::Decode { .. }) => true,
            Self::Failed(failure) => {
                let status = failure.status();
                let undecodable = status.code() == Code::Internal && status.message().contains(MISMATCH);
                failure.tunnel_reason().is_none() && (undecodable || status.code() == Code::Unimplemented)
            }
            _ => false,
        }
    }
}

impl Call {
    /// A call without an input, whose answers are written as JSON.
    pub fn new(method: MethodName) -> Self {
        let codecs = Codecs::standard();
        Self {
            method,
            input: None,
            input_codec: codecs.guess(),
            allow_unknown: false,
            output_codec: Arc::new(JsonCodec::pretty()),
            emit_defaults: false,
            schema: Sources::reflection(),
            metadata: MetadataMap::new(),
            max_message_size: MAX_MESSAGE_SIZE,
            compress: None,
            retries: 0,
            deadline: None,
        }
    }

    /// Makes the call and writes each answer to `out`, whole and flushed, as it arrives.
    ///
    /// The one answer of a method that gives one is written only when the call has succeeded.
    pub async fn run(
        self,
        connection: &Connection,
        out: &mut (impl AsyncWrite + Unpin),
    ) -> Result<Outcome, CallError> {
        self.run_observed(connection, out, |_| {}).await
    }

    /// The same, and tells what happens.
    pub async fn run_observed(
        self,
        connection: &Connection,
        out: &mut (impl AsyncWrite + Unpin),
        mut observe: impl FnMut(Event<'_>),
    ) -> Result<Outcome, CallError> {
        let begun = Instant::now();
        let mut schema = Schema::new(&self.schema, connection, self.metadata.clone(), &self.method);
        let resolve_by = self.deadline.unwrap_or_else(|| begun + RESOLVE_TIMEOUT);
        let (mut method, origin) = in_time(Some(resolve_by), schema.method(&self.method)).await?;
        observe(Event::Described {
            origin,
            took: begun.elapsed(),
        });
        let is_cached = origin == Origin::Cache;
        let mut requests = match in_time(self.deadline, self.requests(&method)).await {
            // The service may have changed since. What came through a pipe cannot be read again.
            Err(error) if is_cached && error.is_mismatch() && self.input != Some(Input::Stdin) => {
                method = in_time(Some(resolve_by), schema.learn(&self.method)).await?;
                in_time(self.deadline, self.requests(&method)).await?
            }
            requests => requests?,
        };
        let mut printer = Printer {
            codec: &*self.output_codec,
            options: EncodeOptions {
                many: method.is_server_streaming(),
                emit_defaults: self.emit_defaults,
            },
            out,
            answers: 0,
        };
        let mut backoff = retry::Backoff::new(self.retries);
        loop {
            let again = requests.again();
            let cached = is_cached.then_some(&mut schema);
            let exchanged = self.exchange(
                connection,
                method.clone(),
                cached,
                requests,
                &mut printer,
                &mut observe,
            );
            let error = match exchanged.await {
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            if is_cached && error.is_mismatch() {
                schema.forget();
            }
            let can_repeat = again.is_some() || self.input != Some(Input::Stdin);
            let (CallError::Failed(failure), 0, true) = (&error, printer.answers, can_repeat) else {
                return Err(error);
            };
            let Some(wait) = backoff.wait(failure, self.deadline) else {
                return Err(error);
            };
            observe(Event::Retry { failure, wait });
            tokio::time::sleep(wait).await;
            requests = match again {
                Some(requests) => requests,
                None => in_time(self.deadline, self.requests(&method)).await?,
            };
        }
    }

    /// Makes no call: writes an empty request of the method, with every field in it.
    pub async fn template(
        &self,
        connection: &Connection,
        out: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), CallError> {
        let mut schema = Schema::new(&self.schema, connection, self.metadata.clone(), &self.method);
        let resolve_by = self.deadline.unwrap_or_else(|| Instant::now() + RESOLVE_TIMEOUT);
        let (method, _) = in_time(Some(resolve_by), schema.method(&self.method)).await?;
        let options = EncodeOptions {
            many: false,
            emit_defaults: true,
        };
        let mut printer = Printer {
            codec: &*self.output_codec,
            options,
            out,
            answers: 0,
        };
        printer.print(&template(&method.input())).await
    }

    /// Opens the input; for a method that takes one message, reads it to the end.
    async fn requests(&self, method: &MethodDescriptor) -> Result<Requests, CallError> {
        let message = method.input();
        let Some(input) = self.input.clone() else {
            let one = (!method.is_client_streaming()).then(|| DynamicMessage::new(message));
            return Ok(Requests::Known(one));
        };
        let options = DecodeOptions {
            many: method.is_client_streaming(),
            allow_unknown: self.allow_unknown,
            max_size: self.max_message_size,
        };
        let mut messages = Messages::open(input.clone(), &*self.input_codec, message, options)?;
        if method.is_client_streaming() {
            return Ok(Requests::Read(Box::new(messages)));
        }
        let method = method.full_name().to_owned();
        let Some(only) = messages.next().await? else {
            return Err(CallError::NoMessage { method, input });
        };
        if messages.next().await?.is_some() {
            return Err(CallError::ManyMessages { method, input });
        }
        Ok(Requests::Known(Some(only)))
    }

    async fn exchange(
        &self,
        connection: &Connection,
        mut method: MethodDescriptor,
        mut cached: Option<&mut Schema<'_>>,
        requests: Requests,
        printer: &mut Printer<'_, impl AsyncWrite + Unpin>,
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
        let (sender, receiver) = mpsc::channel(REQUESTS_WAITING);
        let messages = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|message| (message, receiver))
        });
        let mut request = Request::new(messages);
        *request.metadata_mut() = self.metadata.clone();
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        let sender = RequestSender {
            sender,
            cancel: Some(request.cancellation_handle()),
        };
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

/// Writes answers out, each of them whole or not at all.
struct Printer<'a, W> {
    codec: &'a dyn PayloadCodec,
    options: EncodeOptions,
    out: &'a mut W,
    answers: u64,
}

impl<W: AsyncWrite + Unpin> Printer<'_, W> {
    async fn print(&mut self, answer: &DynamicMessage) -> Result<(), CallError> {
        let mut text = Vec::new();
        self.codec.encode(answer, self.options, &mut text)?;
        self.out.write_all(&text).await.map_err(CallError::Output)?;
        self.out.flush().await.map_err(CallError::Output)?;
        self.answers += 1;
        Ok(())
    }
}

/// What comes before the deadline.
async fn in_time<T, E: Into<CallError>>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, CallError> {
    let worked = match deadline {
        None => work.await,
        Some(deadline) => match tokio::time::timeout_at(deadline, work).await {
            Ok(worked) => worked,
            Err(_elapsed) => return Err(expired().into()),
        },
    };
    worked.map_err(Into::into)
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

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn expired() -> Failure {
    Failure::without_schema(Status::deadline_exceeded(
        "the time given to the call has passed before its end",
    ))
}

#[cfg(test)]
mod tests;
