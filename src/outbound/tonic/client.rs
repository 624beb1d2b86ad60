//! [`ProgramClient`]: a program on another server, as a service.

use std::{
    fmt,
    future::poll_fn,
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use ::tonic::{Request, body::Body, client::Grpc};
use bytes::Bytes;
use futures_util::{FutureExt, TryFutureExt, future::BoxFuture};
use http::uri::PathAndQuery;
use tokio::time::Instant;
use tonic_prost::ProstCodec;
use tower::{BoxError, Service, ServiceBuilder};

use super::status::{self, Sent};
use crate::{
    call::Scope,
    error::{Cancelled, Error, InvalidInput},
    layers::outbound::OutboundLayer,
    proto::{self, v1},
    request::{PredictRequest, Prediction},
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
    pub(super) program: Arc<str>,
    transport: T,
    pub(super) reserve: Duration,
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

    /// What is sent of `request`.
    pub(super) fn message(
        &self,
        request: &PredictRequest,
    ) -> Result<v1::PredictRequest, InvalidInput> {
        let inputs = request.inputs().as_object().ok_or_else(|| {
            let problem = "the inputs are not a JSON object".to_owned();
            InvalidInput::new(&self.program, None, problem, "a JSON object")
        })?;
        let inputs = proto::to_struct(inputs).map_err(|error| {
            let (field, problem) = (error.field(), error.to_string());
            InvalidInput::new(&self.program, field, problem, "what the wire can hold")
        })?;
        let tenant = request.tenant().map(|tenant| tenant.name().to_owned());
        Ok(v1::PredictRequest {
            program: self.program.as_ref().to_owned(),
            inputs: Some(inputs),
            lm: request.lm().unwrap_or_default().to_owned(),
            tenant: tenant.unwrap_or_default(),
        })
    }
}

impl<T, B> ProgramClient<T>
where
    T: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + 'static,
    T::Error: Into<BoxError>,
    T::Future: Send,
{
    /// The transport that is ready, with the layers that write the time left, for one call.
    pub(super) fn grpc(
        &mut self,
    ) -> Grpc<
        impl Service<http::Request<Body>, Response = http::Response<B>, Error = BoxError, Future: Send>
        + Send
        + use<T, B>,
    > {
        let next = self.transport.clone();
        let transport = ServiceBuilder::new()
            .layer(OutboundLayer::http().with_reserve(self.reserve))
            .layer(OutboundLayer::grpc())
            .map_err(boxed::<T::Error>)
            .service(mem::replace(&mut self.transport, next));
        let grpc = Grpc::new(transport);
        match self.max_message {
            Some(bytes) => grpc.max_decoding_message_size(bytes),
            None => grpc,
        }
    }
}

impl<T, B> Service<PredictRequest> for ProgramClient<T>
where
    T: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + 'static,
    T::Error: Into<BoxError>,
    T::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Prediction;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Prediction, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let ready = self.transport.poll_ready(cx);
        ready.map_err(|error| status::unsent(error.into()))
    }

    fn call(&mut self, request: PredictRequest) -> Self::Future {
        let message = self.message(&request);
        let (_, mut context) = request.into_parts();
        let id = context.id();
        let refused = ServiceTermination::refuse(&context);
        let began = Instant::now();
        let mut termination = ServiceTermination::new(&context, began);
        let sent = Sent {
            program: self.program.clone(),
            deadline: context.deadline,
            scope: Scope::Deadline,
            reserve: self.reserve,
            began,
        };
        let mut grpc = self.grpc();
        let call = async move {
            let mut request = Request::new(message?);
            if let Some(error) = refused {
                return Err(error);
            }
            request.extensions_mut().insert(context);
            let codec = ProstCodec::<v1::PredictRequest, v1::PredictResponse>::default();
            match grpc.unary(request, PATH, codec).await {
                Ok(response) => proto::from_response(response.into_inner())
                    .map_err(|error| sent.unreadable(&error)),
                Err(status) => Err(sent.error(status)),
            }
        };
        let mut call = Some(call.boxed());
        let answer = poll_fn(move |cx| match &mut call {
            // What is ready wins the tie with the clock.
            Some(work) => match work.as_mut().poll(cx) {
                Poll::Ready(result) => Poll::Ready(result),
                Poll::Pending => termination.poll(cx, |_| call = None).map(Err),
            },
            // It was reset.
            None => Poll::Ready(Err(Cancelled::new(termination.reason()).into())),
        });
        let answer = answer.map_err(move |error: Error| error.with_call_id(id));
        answer.fuse().boxed()
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

fn boxed<E: Into<BoxError>>(error: E) -> BoxError {
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_does_not_show_its_transport() {
        struct Transport;
        let shown = format!("{:?}", ProgramClient::new("qa", Transport));
        assert_eq!(
            shown,
            r#"ProgramClient { program: "qa", reserve: 0ns, .. }"#
        );
    }
}
