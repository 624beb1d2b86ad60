//! [`OutboundLayer`]: the time left and the trace, in headers of a request that goes out.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tracing::Span;

use crate::{
    call::{
        Carrier, TraceContext,
        deadline::{GrpcTimeout, RequestTimeout},
    },
    error::{Elapsed, Scope, Stage},
    telemetry,
};

/// Writes the time left and the trace into each request, for a server or a gateway that stops working
/// on what nobody waits for any more.
///
/// The deadline is that of the [`CallContext`](crate::CallContext) in the request's extensions. What
/// is left of it, less a [reserve](Self::with_reserve), is written when the request is sent: as
/// `grpc-timeout` ([`GrpcTimeout`]), or in a header of plain HTTP ([`RequestTimeout`]), in whole
/// milliseconds, rounded down. A shorter time that is in the header already stays. A request without
/// a deadline gets none. If nothing is left, nothing is sent, and the call is answered with
/// [`Elapsed`] of [`Scope::Deadline`] before its start.
///
/// ```
/// use std::time::Duration;
/// use http::{Request, Response};
/// use tower::{BoxError, ServiceBuilder, ServiceExt};
/// use tower_dspy::{DeadlineLayer, OutboundLayer};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), BoxError> {
/// let client = ServiceBuilder::new()
///     .layer(DeadlineLayer::new(Duration::from_secs(2)))
///     .layer(OutboundLayer::http().with_reserve(Duration::from_millis(50)))
///     .service_fn(|request: Request<()>| async move {
///         assert_eq!(request.headers()["x-request-timeout"], "1950ms");
///         Ok::<_, BoxError>(Response::new(()))
///     });
/// client.oneshot(Request::new(())).await?;
/// # Ok(())
/// # }
/// ```
///
/// The trace is that of the context, with the feature `otel` that of the current span: it is written as
/// `traceparent` and `tracestate` ([`TraceContext`](crate::TraceContext)), unless the request has a
/// `traceparent` already.
///
/// # When the caller gives up
/// Dropping the response future resets the stream (HTTP/2) or closes the connection (HTTP/1): that
/// is the client's doing, and there is nothing for this layer to add. The server's half is
/// [`InboundLayer`](crate::InboundLayer).
///
/// # What it demands of the inner service
/// Requests of [`http`] and an error that can be made from [`Elapsed`]. Put it inside the layers that
/// set or tighten the deadline, retry included, so that each attempt says what is left for it: as the
/// innermost layer of an `Lm`, for example.
///
/// # With tonic's `Channel`
/// A channel keeps the `grpc-timeout` that it sends itself, and answers `CANCELLED` when it passes.
/// With a reserve that is before the deadline of this call.
#[derive(Clone, Debug)]
pub struct OutboundLayer {
    header: HeaderName,
    form: OutboundForm,
    reserve: Duration,
}

#[derive(Clone, Copy, Debug)]
enum OutboundForm {
    Grpc,
    Http,
    Millis,
}

impl OutboundLayer {
    const fn new(header: HeaderName, form: OutboundForm) -> Self {
        Self {
            header,
            form,
            reserve: Duration::ZERO,
        }
    }

    /// Writes `grpc-timeout`.
    #[must_use]
    pub const fn grpc() -> Self {
        Self::new(GrpcTimeout::HEADER, OutboundForm::Grpc)
    }

    /// Writes `x-request-timeout`.
    #[must_use]
    pub const fn http() -> Self {
        Self::header(RequestTimeout::HEADER)
    }

    /// Writes the header `name`, in the form of [`RequestTimeout`].
    ///
    /// ```
    /// use http::HeaderName;
    /// use tower_dspy::OutboundLayer;
    ///
    /// const LIMIT: HeaderName = HeaderName::from_static("x-my-limit"); // checked when it is compiled
    /// let layer = OutboundLayer::header(LIMIT);
    /// ```
    #[must_use]
    pub const fn header(name: HeaderName) -> Self {
        Self::new(name, OutboundForm::Http)
    }

    /// Writes the header `name` as a number of milliseconds without a unit, the form of Envoy's
    /// `x-envoy-upstream-rq-timeout-ms`.
    #[must_use]
    pub const fn millis(name: HeaderName) -> Self {
        Self::new(name, OutboundForm::Millis)
    }

    /// Keeps `reserve` back for the way there and back, so that the server gives up before this
    /// side does, and its answer still arrives.
    #[must_use]
    pub const fn with_reserve(mut self, reserve: Duration) -> Self {
        self.reserve = reserve;
        self
    }

    /// What is to be written of `left`, which is never more than that.
    fn written(&self, left: Duration) -> Duration {
        match self.form {
            OutboundForm::Grpc => left,
            OutboundForm::Http | OutboundForm::Millis => {
                Duration::new(left.as_secs(), left.subsec_millis() * 1_000_000)
            }
        }
    }

    fn write(&self, left: Duration, headers: &mut HeaderMap) {
        let present = headers.get(&self.header);
        // A value that cannot be read limits nothing, and the server would refuse it.
        if present.is_some_and(|value| self.read(value).is_some_and(|present| present <= left)) {
            return;
        }
        let value = match self.form {
            OutboundForm::Grpc => GrpcTimeout::from(left).to_string(),
            OutboundForm::Http => RequestTimeout::from(left).to_string(),
            OutboundForm::Millis => left.as_millis().to_string(),
        };
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(self.header.clone(), value);
        }
    }

    fn read(&self, value: &HeaderValue) -> Option<Duration> {
        match self.form {
            OutboundForm::Grpc => Some(GrpcTimeout::try_from(value).ok()?.duration()),
            OutboundForm::Http => Some(RequestTimeout::try_from(value).ok()?.duration()),
            OutboundForm::Millis => {
                let millis = value.to_str().ok()?.parse().ok()?;
                Some(Duration::from_millis(millis))
            }
        }
    }
}

impl<S> Layer<S> for OutboundLayer {
    type Service = Outbound<S>;

    fn layer(&self, inner: S) -> Outbound<S> {
        Outbound::new(inner, self.clone())
    }
}

/// Writes the time left into each request; see [`OutboundLayer`].
#[derive(Clone, Debug)]
pub struct Outbound<S> {
    inner: S,
    layer: OutboundLayer,
}

impl<S> Outbound<S> {
    /// Writes the time left into each request to `inner`, as `layer` says.
    #[must_use]
    pub const fn new(inner: S, layer: OutboundLayer) -> Self {
        Self { inner, layer }
    }

    inner_service_accessors!();
}

impl<S, B> Service<Request<B>> for Outbound<S>
where
    S: Service<Request<B>>,
    S::Error: From<Elapsed>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = OutboundFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(deadline) = request.context().and_then(|context| context.deadline) {
            let left = deadline.earlier_by(self.layer.reserve).remaining();
            let left = self.layer.written(left);
            if left.is_zero() {
                return OutboundFuture { inner: None };
            }
            self.layer.write(left, request.headers_mut());
        }
        if let Some(context) = request.context()
            && !request.headers().contains_key(TraceContext::TRACEPARENT)
            && let Some(trace) = telemetry::outgoing(&Span::current(), context.trace.clone())
        {
            trace.write(request.headers_mut());
        }
        OutboundFuture {
            inner: Some(self.inner.call(request)),
        }
    }
}

pin_project! {
    /// The response future of [`Outbound`].
    pub struct OutboundFuture<F> {
        // `None`: there was no time left.
        #[pin]
        inner: Option<F>,
    }
}

impl<F> fmt::Debug for OutboundFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundFuture").finish_non_exhaustive()
    }
}

impl<F, T, E> Future for OutboundFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: From<Elapsed>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().inner.as_pin_mut() {
            Some(inner) => inner.poll(cx),
            None => {
                let elapsed = Elapsed::new(Scope::Deadline, Stage::BeforeStart, Duration::ZERO);
                Poll::Ready(Err(elapsed.into()))
            }
        }
    }
}
