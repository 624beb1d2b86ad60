//! [`InboundLayer`]: from a request's headers and its connection to a [`CallContext`].

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{
    FutureExt, TryFutureExt,
    future::{self, BoxFuture},
};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body::Body;
use tower::{Layer, Service};

#[cfg(feature = "axum")]
use super::body_deadline::BodyDeadline;
use super::{
    body::OrErrorBody, client_gone::ClientGuard, protocol::Protocol, respond::ErrorResponse,
};
use crate::{
    call::{
        CallId, Carrier, Deadline, TraceContext,
        deadline::{GrpcTimeout, RequestTimeout},
    },
    error::ErrorKind,
};

/// Puts a [`CallContext`](crate::CallContext) into each request: the time left that the client
/// sent, the trace that it is part of, a node that is cancelled when the client goes away, and the id of
/// the call, which each response names in its header [`x-call-id`](CallId::HEADER).
///
/// The time left is read from `grpc-timeout` ([`GrpcTimeout`]) and from a header of plain HTTP
/// ([`RequestTimeout`]), and is no more than the server's own [`max`](Self::max). Of several the
/// shortest counts, as does a deadline that is in the request's extensions already. A value that
/// cannot be read is answered, with what was expected, by 400, or in gRPC `INVALID_ARGUMENT`; the
/// service is not called.
///
/// The trace is that of the headers `traceparent` and `tracestate` ([`TraceContext`]), of HTTP and of
/// gRPC. One that is not valid is left out, as its specification asks.
///
/// ```
/// use std::time::Duration;
/// use axum::{Extension, Router, routing::get};
/// use tower::ServiceBuilder;
/// use tower_dspy::{CallContext, DeadlineLayer, InboundLayer, Serve};
///
/// let app: Router = Router::new()
///     .route("/", get(|Extension(context): Extension<CallContext>| async move {
///         format!("{:?} to go", context.deadline.map(|deadline| deadline.remaining()))
///     }))
///     .layer(
///         ServiceBuilder::new()
///             .layer(InboundLayer::new().max(Duration::from_secs(30)))
///             .layer(Serve::new(DeadlineLayer::from_context())),
///     );
/// ```
///
/// # The id of a call
/// The id is that of logs, spans, the [`Tracker`](crate::Tracker) and [`Error::call_id`](crate::Error::call_id); a
/// response that has an `x-call-id` already keeps it, as one that is passed on from another server.
/// Of gRPC it is in the initial metadata. The id that a client sends is not read: ids are numbers of
/// this process.
///
/// # What it leaves to others
/// It tells of limits and keeps none: a [`DeadlineLayer`](crate::DeadlineLayer) further in does,
/// and so does a program that is given the context. Under [`serve`](crate::server::serve) the body of
/// the request ends with an error at the deadline, if it has not come by then.
///
/// # When the client is gone
/// Servers drop the future of a response whose client went away, and its body if that has begun. The
/// node in the context is then cancelled with [`Cause::ClientGone`](crate::Cause::ClientGone),
/// which code in a drop reads from [`drop_scope`](crate::drop_scope). A body that was
/// sent to its end cancels nothing. Work that the handler put on a task of its own is not dropped:
/// let it watch the node.
///
/// hyper sees over HTTP/1 that a client is gone only while it reads from the connection, and so not
/// before the request's body was read: let a handler take its body first (`Json`, `Bytes`), and
/// work then.
///
/// # What it demands
/// Requests and responses of [`http`]; any error. Futures and bodies are `Send` and `'static`. Each
/// call costs the allocations of a node, of the request's extensions and of a future.
///
/// # A wrong name of a header
/// [`header`](Self::header) takes what is to become a [`HeaderName`]. What cannot become one is no
/// panic: the layer logs it, and answers every request by 500 with what is wrong, so that it is seen
/// with the first. To know sooner, give it a `HeaderName`.
#[derive(Clone, Debug)]
pub struct InboundLayer {
    /// Or why the name that was given is none.
    header: Result<HeaderName, Arc<str>>,
    max: Option<Duration>,
}

impl InboundLayer {
    /// Reads `grpc-timeout` and `x-request-timeout`; what they say is not capped.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            header: Ok(RequestTimeout::HEADER),
            max: None,
        }
    }

    /// Reads the header `name` in place of `x-request-timeout`.
    ///
    /// A number without a unit is in seconds, or in milliseconds if the name of the header ends in
    /// `-ms`, as that of Envoy's `x-envoy-expected-rq-timeout-ms`. With a unit, `1500ms` or `1.5s`, it is
    /// what it says, whatever the name. What is finer than a millisecond counts.
    ///
    /// ```
    /// use http::HeaderName;
    /// use tower_dspy::InboundLayer;
    ///
    /// const LIMIT: HeaderName = HeaderName::from_static("x-my-limit"); // checked when it is compiled
    /// let layer = InboundLayer::new().header(LIMIT);
    /// let layer = InboundLayer::new().header("X-My-Limit"); // checked here
    /// ```
    ///
    /// With a name that is none, the layer [refuses](Self#a-wrong-name-of-a-header) all requests.
    #[must_use]
    pub fn header<N>(mut self, name: N) -> Self
    where
        N: TryInto<HeaderName> + fmt::Display,
    {
        let given = name.to_string();
        self.header = name.try_into().map_err(|_| {
            let wrong =
                format!("InboundLayer::header was given {given:?}, which is no name of a header");
            tracing::error!(target: "tower_dspy", "all requests will be refused: {wrong}");
            wrong.into()
        });
        self
    }

    /// Gives no call more than `max`, whatever its client says or does not say.
    #[must_use]
    pub const fn max(mut self, max: Duration) -> Self {
        self.max = Some(max);
        self
    }

    /// The shortest time left that `headers` and the maximum allow.
    fn left(&self, headers: &HeaderMap) -> Result<Option<Duration>, ErrorResponse> {
        let header = self.header.as_ref().map_err(|wrong| {
            // The server's fault, and no secret.
            let refused = ErrorResponse::of_kind(ErrorKind::Other);
            refused.with(StatusCode::INTERNAL_SERVER_ERROR, &**wrong)
        })?;
        let mut left = self.max;
        let mut limit = |sent: Duration| left = Some(left.map_or(sent, |left| left.min(sent)));
        for value in headers.get_all(&GrpcTimeout::HEADER) {
            let sent = GrpcTimeout::try_from(value).map_err(ErrorResponse::of)?;
            limit(sent.duration());
        }
        for value in headers.get_all(header) {
            let sent = if header.as_str().ends_with("-ms") {
                RequestTimeout::from_millis(value.as_bytes())
            } else {
                RequestTimeout::try_from(value)
            };
            let sent = sent.map_err(ErrorResponse::of)?;
            limit(sent.duration());
        }
        Ok(left)
    }
}

impl Default for InboundLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for InboundLayer {
    type Service = Inbound<S>;

    fn layer(&self, inner: S) -> Inbound<S> {
        Inbound {
            inner,
            config: self.clone(),
        }
    }
}

/// Puts a context into each request; see [`InboundLayer`].
#[derive(Clone, Debug)]
pub struct Inbound<S> {
    inner: S,
    config: InboundLayer,
}

/// The body of what the service answered, or of the refusal of a request.
pub type InboundBody<B> = OrErrorBody<ClientGuard<B>>;

impl<S, B, T> Service<Request<B>> for Inbound<S>
where
    S: Service<Request<B>, Response = Response<T>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    T: Body + Send + 'static,
{
    type Response = Response<InboundBody<T>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let id = request.context_mut().id();
        let left = match self.config.left(request.headers()) {
            Ok(left) => left,
            Err(refused) => {
                let refused = refused.with_call_id(id);
                let response = refused.into_protocol(Protocol::of(request.headers()));
                let response = Ok(response.map(OrErrorBody::error));
                return future::ready(response).fuse().boxed();
            }
        };
        let trace = TraceContext::from_headers(request.headers());
        let context = request.context_mut();
        // An outer layer may have joined it already.
        if context.trace.is_none() {
            context.trace = trace.map(Arc::new);
        }
        if let Some(left) = left {
            context.limit(Deadline::within(left));
        }
        let call = context.cancel.child();
        context.cancel = call.clone();
        #[cfg(feature = "axum")]
        if let Some(deadline) = context.deadline
            && let Some(body) = request.extensions().get::<BodyDeadline>()
        {
            body.set(deadline);
        }
        let answer = ClientGuard::future(self.inner.call(request), call.clone());
        // What answered is done; only a body may still be under way.
        let with_body = |body| OrErrorBody::inner(ClientGuard::body(body, call));
        let answer = answer.map_ok(move |mut response| {
            let headers = response.headers_mut();
            let header = headers.entry(CallId::HEADER);
            header.or_insert_with(|| id.header_value());
            response.map(with_body)
        });
        answer.fuse().boxed()
    }
}
