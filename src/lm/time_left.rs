//! [`TimeLeftLayer`]: tells a gateway how long its answer is waited for.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    call::Carrier,
    error::{Elapsed, Scope, Stage},
};

/// Puts the time that is left of the call's deadline into a header, for a gateway or a server of
/// your own that stops working on what nobody waits for any more.
///
/// ```
/// use std::time::Duration;
/// use http::HeaderName;
/// use tower_dspy::{Lm, lm::TimeLeftLayer};
///
/// let header = HeaderName::from_static("x-request-timeout");
/// let lm = Lm::new("openai/my-model")
///     .base_url("http://gateway:4000/v1")
///     .layer(TimeLeftLayer::new(header).with_reserve(Duration::from_millis(50)));
/// ```
///
/// Make it the innermost layer, so that it is read for each attempt as that is sent. It goes around
/// any client of [`http::Request`]s whose error takes an [`Elapsed`].
///
/// The header's value is `1500ms`, or `1500` with [`in_plain_millis`](Self::in_plain_millis); a
/// value that a request has already is replaced. A request without a deadline goes as it is. With
/// no more left than the reserve it is not sent: the answer is [`Elapsed`] of the deadline.
///
/// # Cancel safety
/// Dropping the response future drops the request.
#[derive(Clone, Debug)]
pub struct TimeLeftLayer {
    header: HeaderName,
    reserve: Duration,
    plain: bool,
}

impl TimeLeftLayer {
    /// Tells all that is left, in this header.
    #[must_use]
    pub const fn new(header: HeaderName) -> Self {
        Self {
            header,
            reserve: Duration::ZERO,
            plain: false,
        }
    }

    /// Tells this much less, for the way of the answer.
    #[must_use]
    pub const fn with_reserve(mut self, reserve: Duration) -> Self {
        self.reserve = reserve;
        self
    }

    /// Leaves the unit out, as Envoy's `x-envoy-upstream-rq-timeout-ms` wants it.
    #[must_use]
    pub const fn in_plain_millis(mut self) -> Self {
        self.plain = true;
        self
    }
}

impl<S> Layer<S> for TimeLeftLayer {
    type Service = TimeLeft<S>;

    fn layer(&self, inner: S) -> TimeLeft<S> {
        TimeLeft {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service of a [`TimeLeftLayer`].
#[derive(Clone, Debug)]
pub struct TimeLeft<S> {
    inner: S,
    layer: TimeLeftLayer,
}

impl<S> TimeLeft<S> {
    /// `inner`, told in this header.
    pub const fn new(inner: S, header: HeaderName) -> Self {
        Self {
            inner,
            layer: TimeLeftLayer::new(header),
        }
    }

    /// The layer that makes this service.
    #[must_use]
    pub const fn layer(header: HeaderName) -> TimeLeftLayer {
        TimeLeftLayer::new(header)
    }

    /// The inner service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B> Service<http::Request<B>> for TimeLeft<S>
where
    S: Service<http::Request<B>>,
    S::Error: From<Elapsed>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = TimeLeftFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let deadline = request.context().and_then(|context| context.deadline);
        if let Some(deadline) = deadline {
            // Down to whole milliseconds: never more than is left.
            let left = deadline.earlier_by(self.layer.reserve).remaining();
            let millis = left.as_millis();
            if millis == 0 {
                return TimeLeftFuture { sent: None, left };
            }
            let unit = if self.layer.plain { "" } else { "ms" };
            // Digits are a header's value.
            if let Ok(value) = HeaderValue::try_from(format!("{millis}{unit}")) {
                request
                    .headers_mut()
                    .insert(self.layer.header.clone(), value);
            }
        }
        TimeLeftFuture {
            sent: Some(self.inner.call(request)),
            left: Duration::ZERO,
        }
    }
}

pin_project! {
    /// The response future of [`TimeLeft`].
    #[derive(Debug)]
    pub struct TimeLeftFuture<F> {
        #[pin]
        sent: Option<F>,
        // What was left where nothing was sent.
        left: Duration,
    }
}

impl<F, T, E> Future for TimeLeftFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: From<Elapsed>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.sent.as_pin_mut() {
            Some(sent) => Poll::Ready(ready!(sent.poll(cx))),
            None => {
                let elapsed = Elapsed::new(Scope::Deadline, Stage::BeforeStart, *this.left);
                Poll::Ready(Err(elapsed.into()))
            }
        }
    }
}
