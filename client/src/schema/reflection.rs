//! Server reflection (<https://github.com/grpc/grpc/blob/master/doc/server-reflection.md>), v1 and,
//! where the server does not know that, v1alpha.

use futures_util::stream;
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest as Question;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse as Answer;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::ResolveError;
use super::files::{Files, SchemaError};
use crate::MAX_MESSAGE_SIZE;
use crate::connection::{Channel, Connection};
use crate::status::Failure;
use crate::target::MethodName;

/// The two versions differ in the package's name only, not in a byte of their messages.
const V1: PathAndQuery =
    PathAndQuery::from_static("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
const V1ALPHA: PathAndQuery =
    PathAndQuery::from_static("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo");

/// A server's description of itself.
pub(super) struct Reflection {
    grpc: Grpc<Channel>,
    metadata: MetadataMap,
    /// The versions that the server may still turn out to offer, the better one first.
    versions: Vec<PathAndQuery>,
    conversation: Option<Conversation>,
}

/// An open reflection call: each question gets one answer, in order.
struct Conversation {
    questions: mpsc::Sender<ServerReflectionRequest>,
    answers: Streaming<ServerReflectionResponse>,
}

/// Why a question has no answer.
enum Unanswered {
    /// The server says so, within reflection: an `ErrorResponse`, or a status that is about the
    /// question.
    Refused { code: i32, message: String },
    /// Neither version is offered.
    NotOffered,
    /// The call failed.
    Failed(Status),
}

impl Reflection {
    pub(super) fn new(connection: &Connection, metadata: MetadataMap) -> Self {
        let grpc = Grpc::with_origin(connection.channel(), connection.origin().clone())
            .max_decoding_message_size(MAX_MESSAGE_SIZE);
        Self {
            grpc,
            metadata,
            versions: vec![V1, V1ALPHA],
            conversation: None,
        }
    }

    /// The files that describe the method's service, with all that they import.
    pub(super) async fn service(&mut self, name: &MethodName) -> Result<Files, ResolveError> {
        let question = Question::FileContainingSymbol(name.service.clone());
        self.described(question, &name.service, &name.to_string()).await
    }

    /// The files that describe a symbol, with all that they import.
    pub(super) async fn symbol(&mut self, name: &str) -> Result<Files, ResolveError> {
        let question = Question::FileContainingSymbol(name.to_owned());
        self.described(question, name, name).await
    }

    /// A file, with all that it imports.
    pub(super) async fn file(&mut self, name: &str) -> Result<Files, ResolveError> {
        let question = Question::FileByFilename(name.to_owned());
        self.described(question, name, name).await
    }

    /// The services that the server says it has.
    pub(super) async fn services(&mut self) -> Result<Vec<String>, ResolveError> {
        let wanted = "the services";
        match self.ask(Question::ListServices("*".to_owned())).await {
            Ok(Answer::ListServicesResponse(list)) => {
                Ok(list.service.into_iter().map(|service| service.name).collect())
            }
            Ok(_) => Err(ResolveError::Refused {
                asked: wanted.to_owned(),
                problem: "the answer is to another question".to_owned(),
            }),
            Err(unanswered) => Err(unanswered.into_error(wanted, wanted)),
        }
    }

    /// What a question for a symbol or a file is answered with, and all that it imports. `wanted` is what
    /// it is asked for.
    async fn described(
        &mut self,
        question: Question,
        symbol: &str,
        wanted: &str,
    ) -> Result<Files, ResolveError> {
        let unusable = |source: SchemaError| ResolveError::Unusable {
            service: symbol.to_owned(),
            source,
        };

        let mut files = Files::default();
        match self.files(question).await {
            Ok(encoded) => encoded
                .iter()
                .try_for_each(|file| files.add(file))
                .map_err(unusable)?,
            Err(unanswered) => return Err(self.no_service(symbol, wanted, unanswered).await),
        }
        while let Some(missing) = files.missing().map(ToOwned::to_owned) {
            if files.add_bundled(&missing).map_err(unusable)? {
                continue;
            }
            let encoded = self
                .files(Question::FileByFilename(missing.clone()))
                .await
                .map_err(|unanswered| unanswered.into_error(wanted, &missing))?;
            encoded
                .iter()
                .try_for_each(|file| files.add(file))
                .map_err(unusable)?;
            if !files.contains(&missing) {
                let problem = "the answer is another file".to_owned();
                return Err(ResolveError::Refused {
                    asked: missing,
                    problem,
                });
            }
        }
        Ok(files)
    }

    /// Tells a service that is not there from one that the server will not describe.
    async fn no_service(&mut self, symbol: &str, wanted: &str, unanswered: Unanswered) -> ResolveError {
        if !matches!(unanswered, Unanswered::Refused { .. }) {
            return unanswered.into_error(wanted, symbol);
        }
        match self.services().await {
            Ok(available) if !available.iter().any(|service| service == symbol) => {
                ResolveError::UnknownService {
                    service: symbol.to_owned(),
                    available,
                }
            }
            _ => unanswered.into_error(wanted, symbol),
        }
    }

    async fn files(&mut self, question: Question) -> Result<Vec<Vec<u8>>, Unanswered> {
        match self.ask(question).await? {
            Answer::FileDescriptorResponse(files) => Ok(files.file_descriptor_proto),
            _ => Err(Unanswered::Refused {
                code: Code::Internal.into(),
                message: "the answer is to another question".to_owned(),
            }),
        }
    }

    async fn ask(&mut self, question: Question) -> Result<Answer, Unanswered> {
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(question),
        };
        let response = match self.conversation.take() {
            None => self.open(request).await?,
            Some(mut conversation) => match conversation.ask(request.clone()).await {
                // Some servers end the call after each answer.
                Ok(None) => self.open(request).await?,
                Ok(Some(response)) => {
                    self.conversation = Some(conversation);
                    response
                }
                Err(status) => return Err(Unanswered::from(status)),
            },
        };
        match response.message_response {
            Some(Answer::ErrorResponse(error)) => Err(Unanswered::Refused {
                code: error.error_code,
                message: error.error_message,
            }),
            Some(answer) => Ok(answer),
            None => Err(Unanswered::Refused {
                code: Code::Internal.into(),
                message: "the answer is empty".to_owned(),
            }),
        }
    }

    /// Begins a conversation with its first question, in the first version that the server offers.
    async fn open(
        &mut self,
        request: ServerReflectionRequest,
    ) -> Result<ServerReflectionResponse, Unanswered> {
        while let Some(version) = self.versions.first().cloned() {
            match self.begin(version, request.clone()).await {
                Ok((conversation, response)) => {
                    self.versions.truncate(1);
                    self.conversation = Some(conversation);
                    return Ok(response);
                }
                Err(status) if is_not_offered(&status) => {
                    self.versions.remove(0);
                }
                Err(status) => {
                    return Err(Unanswered::from(status));
                }
            }
        }
        Err(Unanswered::NotOffered)
    }

    async fn begin(
        &mut self,
        version: PathAndQuery,
        first: ServerReflectionRequest,
    ) -> Result<(Conversation, ServerReflectionResponse), Status> {
        let (questions, receiver) = mpsc::channel(1);
        // The question is there before the call is: a server may answer nothing at all before it.
        let _never_full = questions.try_send(first);
        let messages = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|question| (question, receiver))
        });
        let mut request = Request::new(messages);
        *request.metadata_mut() = self.metadata.clone();

        self.grpc.ready().await?;
        let response = self
            .grpc
            .streaming(request, version, ProstCodec::default())
            .await?;
        let mut conversation = Conversation {
            questions,
            answers: response.into_inner(),
        };
        match conversation.answers.message().await? {
            Some(response) => Ok((conversation, response)),
            None => Err(Status::internal(
                "the server ended the reflection call without an answer",
            )),
        }
    }
}

impl Conversation {
    /// The answer; `None` if the server has ended the call.
    async fn ask(
        &mut self,
        request: ServerReflectionRequest,
    ) -> Result<Option<ServerReflectionResponse>, Status> {
        if self.questions.send(request).await.is_err() {
            return Ok(None);
        }
        self.answers.message().await
    }
}

impl From<Status> for Unanswered {
    fn from(status: Status) -> Self {
        // Some servers, tonic's among them, end the call where others answer with an error response.
        let about_the_question = matches!(status.code(), Code::NotFound | Code::InvalidArgument);
        if about_the_question && !is_from_tunnel(&status) {
            return Self::Refused {
                code: status.code().into(),
                message: status.message().to_owned(),
            };
        }
        Self::Failed(status)
    }
}

impl Unanswered {
    fn into_error(self, wanted: &str, asked: &str) -> ResolveError {
        match self {
            Self::Refused { code, message } => ResolveError::Refused {
                asked: asked.to_owned(),
                problem: format!("{}: {message}", crate::status::name(Code::from(code))),
            },
            Self::NotOffered => ResolveError::NoReflection {
                method: wanted.to_owned(),
            },
            Self::Failed(status) => Failure::without_schema(status).into(),
        }
    }
}

/// True if the server itself does not know the method. A hub's UNIMPLEMENTED says that it knows no
/// agent to ask, which another version does not change.
fn is_not_offered(status: &Status) -> bool {
    status.code() == Code::Unimplemented && !is_from_tunnel(status)
}

fn is_from_tunnel(status: &Status) -> bool {
    status.metadata().contains_key("adit-error")
}
