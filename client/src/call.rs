//! The story of one call: resolve the method, open the call, stream the requests in as they are
//! read, print the answers as they arrive.

mod deadline;
mod error;
mod event;
mod exchange;
mod printer;
mod requests;
mod retry;

use std::sync::Arc;
use std::time::Duration;

use prost_reflect::{DynamicMessage, MethodDescriptor};
use tokio::time::Instant;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;

use crate::MAX_MESSAGE_SIZE;
use crate::codec::{Codecs, DecodeOptions, EncodeOptions, JsonCodec, PayloadCodec};
use crate::connection::Connection;
use crate::input::{Input, Messages};
use crate::schema::{Origin, Schema, Sources};
use crate::target::MethodName;
use crate::template::template;
use deadline::in_time;
pub use error::CallError;
pub use event::{Event, Outcome};
pub use printer::Answers;
use printer::Printer;
use requests::Requests;

/// How long learning the method's schema may take when the call itself has no deadline.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(30);
/// A call to make.
#[derive(Clone)]
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
    pub schema: Arc<Sources>,
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
            schema: Arc::new(Sources::reflection()),
            metadata: MetadataMap::new(),
            max_message_size: MAX_MESSAGE_SIZE,
            compress: None,
            retries: 0,
            deadline: None,
        }
    }

    /// Makes the call and gives each answer to `out`, whole, as it arrives.
    ///
    /// The one answer of a method that gives one is written only when the call has succeeded.
    pub async fn run(&self, connection: &Connection, out: &mut impl Answers) -> Result<Outcome, CallError> {
        self.run_observed(connection, out, |_| {}).await
    }

    /// The same, and tells what happens.
    pub async fn run_observed(
        &self,
        connection: &Connection,
        out: &mut impl Answers,
        mut observe: impl FnMut(Event<'_>),
    ) -> Result<Outcome, CallError> {
        let begun = Instant::now();
        let mut schema = Schema::new(&self.schema, connection, self.metadata.clone(), &self.method);
        let resolve_by = self.deadline.unwrap_or_else(|| begun + RESOLVE_TIMEOUT);
        let (mut method, origin) = in_time(Some(resolve_by), schema.method(&self.method)).await?;
        observe(Event::Described {
            origin,
            took: begun.elapsed(),
            method: &method,
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

    /// Makes no call: gives `out` an empty request of the method, with every field in it.
    pub async fn template(&self, connection: &Connection, out: &mut impl Answers) -> Result<(), CallError> {
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
}

#[cfg(test)]
mod tests;
