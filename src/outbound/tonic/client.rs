//! [`ProgramClient`]: a program on another server, as a service.

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use ::tonic::{Request, body::Body, client::Grpc};
use bytes::Bytes;
use http::uri::PathAndQuery;
use tokio::time::Instant;
use tonic_prost::ProstCodec;
use tower::{BoxError, Service, ServiceExt};

use super::{
    future::ProgramFuture,
    status::{self, Sent},
};
use crate::{
    error::{Error, InvalidInput},
    layers::outbound::{Outbound, OutboundLayer},
    proto::{self, v1},
    request::PredictRequest,
    service::termination::ServiceTermination,
};

const PATH: PathAndQuery = PathAndQuery::from_static("/tower_dspy.v1.Predict/Predict");

/// A program that another server answers for: a service of [`PredictRequest`], as the program itself
/// is, so that this crate's layers go around it.
///
/// Its transport is tonic's `Channel`, or any stack over one.
///
/// ```
/// use std::time::Duration;
/// use serde_json::json;
/// use tonic::transport::Endpoint;
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_dspy::{
///     DeadlineLayer, Error, ErrorKind, PredictRequest, RetryLayer,
///     outbound::tonic::{ProgramClient, never_began},
/// };
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let channel = Endpoint::from_static("http://qa.internal:50051").connect_lazy();
/// let qa = ServiceBuilder::new()
///     .layer(DeadlineLayer::new(Duration::from_secs(10)))
///     .layer(RetryLayer::new(2).on_kinds([ErrorKind::Lost]).classify(never_began::<Error>))
///     .service(ProgramClient::new("qa", channel).with_reserve(Duration::from_millis(50)));
/// let answer = qa.oneshot(PredictRequest::new(json!({"question": "Why?"}))).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Time
/// What is left until the deadline in the request's context goes out as `grpc-timeout`, and less the
/// [reserve](Self::with_reserve) as `x-request-timeout`: an [`InboundLayer`](crate::InboundLayer) keeps the
/// shorter. They are two because tonic's `Channel` keeps a `grpc-timeout` that it sends itself, and
/// would end the call before the server's answer is there. The deadline is kept here as well, whatever
/// the server does.
///
/// # Cancellation
/// Dropping the future, a cancelled context and the deadline reset the stream, at once; the server
/// then stops the program. What it cleans up is not waited for: a layer's grace ends with the reset.
///
/// # Errors
/// Those of the program, as its server tells them in the status's details: a limit with its scope and
/// stage, [`Overloaded`](crate::Overloaded) and [`LmError`](crate::LmError) with their time to wait,
/// [`InvalidInput`] with the field, and what was spent. Besides:
///
/// - A limit that the *server* set, and that passed before this call's, is one of
///   [`Scope::Attempt`](crate::Scope::Attempt): another attempt may have more time.
/// - A server that shuts down, a connection that fails, and an unexplained status
///   `UNAVAILABLE`, are [`Lost`](crate::Lost); its [stage](crate::Lost::stage) tells whether the call
///   may have begun.
/// - Python's exception types, messages and tracebacks stay on the server.
/// - Servers that are not of this crate are read by their code.
///
/// Inputs that `google.protobuf.Struct` cannot hold exactly ([`proto::to_struct`]) are refused here.
///
/// # What is sent of the request
/// Its inputs, its [LM](PredictRequest::with_lm) and its [tenant](PredictRequest::with_tenant); the
/// server may refuse the last two.
#[derive(Clone)]
pub struct ProgramClient<T> {
    program: Arc<str>,
    transport: T,
    reserve: Duration,
    max_message: Option<usize>,
}

impl<T> ProgramClient<T> {
    /// The program of the name `program` on the server that `transport` leads to. An empty name is
    /// that of a server's only program.
    pub fn new(program: impl Into<Arc<str>>, transport: T) -> Self {
        Self {
            program: program.into(),
            transport,
            reserve: Duration::ZERO,
            max_message: None,
        }
    }

    /// Keeps `reserve` of the time left back for the way there and back, so that the server gives up
    /// before this side does, and its answer, which tells what was spent, still arrives.
    #[must_use]
    pub const fn with_reserve(mut self, reserve: Duration) -> Self {
        self.reserve = reserve;
        self
    }

    /// Takes answers of up to `bytes`; tonic's own limit is 4 MB. For a server's limit see
    /// `max_decoding_message_size` of what [`Programs`](crate::inbound::tonic::Programs) makes.
    #[must_use]
    pub const fn with_max_message(mut self, bytes: usize) -> Self {
        self.max_message = Some(bytes);
        self
    }

    /// The transport.
    pub const fn get_ref(&self) -> &T {
        &self.transport
    }

    /// The transport, mutably.
    pub const fn get_mut(&mut self) -> &mut T {
        &mut self.transport
    }

    /// Gives the transport back.
    pub fn into_inner(self) -> T {
        self.transport
    }

    fn message(&self, request: &PredictRequest) -> Result<v1::PredictRequest, InvalidInput> {
        let refuse = |field: Option<&str>, problem: String, expected: &str| {
            InvalidInput::new(&self.program, field, problem, expected)
        };
        let inputs = request.inputs().as_object();
        let inputs = inputs.ok_or_else(|| {
            refuse(
                None,
                "the inputs are not a JSON object".to_owned(),
                "a JSON object",
            )
        })?;
        let inputs = proto::to_struct(inputs)
            .map_err(|error| refuse(error.field(), error.to_string(), "what the wire can hold"))?;
        let tenant = request.tenant().map(|tenant| tenant.name().to_owned());
        Ok(v1::PredictRequest {
            program: self.program.as_ref().to_owned(),
            inputs: Some(inputs),
            lm: request.lm().unwrap_or_default().to_owned(),
            tenant: tenant.unwrap_or_default(),
        })
    }
}

fn boxed<E: Into<BoxError>>(error: E) -> BoxError {
    error.into()
}

impl<T, B> Service<PredictRequest> for ProgramClient<T>
where
    T: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + 'static,
    T::Error: Into<BoxError>,
    T::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = crate::request::Prediction;
    type Error = Error;
    type Future = ProgramFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let ready = self.transport.poll_ready(cx);
        ready.map_err(|error| status::unsent(error.into()))
    }

    fn call(&mut self, request: PredictRequest) -> ProgramFuture {
        let message = match self.message(&request) {
            Ok(message) => message,
            Err(refused) => return ProgramFuture::refused(refused.into()),
        };
        let (_, context) = request.into_parts();
        if let Some(error) = ServiceTermination::refuse(&context) {
            return ProgramFuture::refused(error);
        }
        let began = Instant::now();
        let termination = ServiceTermination::new(&context, began);
        let sent = Sent {
            program: self.program.clone(),
            deadline: context.deadline,
            reserve: self.reserve,
            began,
        };
        let next = self.transport.clone();
        let ready = mem::replace(&mut self.transport, next);
        let transport = Outbound::new(ready.map_err(boxed::<T::Error>), OutboundLayer::grpc());
        let reserve = OutboundLayer::http().with_reserve(self.reserve);
        let transport = Outbound::new(transport, reserve);
        let mut grpc = Grpc::new(transport);
        if let Some(bytes) = self.max_message {
            grpc = grpc.max_decoding_message_size(bytes);
        }
        let mut request = Request::new(message);
        request.extensions_mut().insert(context);
        ProgramFuture::new(termination, async move {
            let codec = ProstCodec::<v1::PredictRequest, v1::PredictResponse>::default();
            match grpc.unary(request, PATH, codec).await {
                Ok(response) => proto::from_response(response.into_inner())
                    .map_err(|error| sent.unreadable(&error)),
                Err(status) => Err(sent.error(status)),
            }
        })
    }
}

impl<T> fmt::Debug for ProgramClient<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgramClient")
            .field("program", &self.program)
            .field("reserve", &self.reserve)
            .finish_non_exhaustive()
    }
}
