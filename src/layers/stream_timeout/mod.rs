//! [`StreamTimeoutLayer`]: the limits of a streamed answer.

mod limited_stream;

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::{Layer, Service};

use self::limited_stream::StreamLimits;
use super::{
    guard::{Droppable, Guard, GuardedFuture, LimitAlarm},
    timeout::guard_attempt,
};
use crate::{
    call::{CallContext, CallTag, Carrier, Deadline, Limit, Scope},
    error::Elapsed,
    stream::PredictionStream,
};

/// Ends a streamed answer that is too slow: until its first event, between two events, or as a whole.
///
/// | limit | from | to | [`Scope`] |
/// |---|---|---|---|
/// | [`with_first_content`](Self::with_first_content) | the call | the response, which comes with the first event | `FirstContent` |
/// | [`with_idle`](Self::with_idle) | the reader waits | the next event | `Idle` |
/// | [`with_total`](Self::with_total) | the call | the end of the stream | `Total` |
///
/// None is set by default: a layer without limits changes nothing. When a limit passes, the work
/// inside is dropped at once, with [`Cause::Elapsed`](crate::Cause::Elapsed) as the cause that
/// [`drop_scope`](crate::drop_scope) tells, and the outcome is [`Elapsed`]: the error of the response future, or, after that, the last
/// item of the stream. It has what the call spent, and the texts that had come as its
/// [partial answer](crate::Spent::partial), if the service reports them. What is ready wins against
/// the clock.
///
/// ```
/// use std::time::Duration;
/// use futures_util::{StreamExt, stream};
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_dspy::{
///     Error, PredictRequest, PredictionStream, Scope, StreamEvent, StreamTimeoutLayer,
/// };
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Error> {
/// let limits = StreamTimeoutLayer::new()
///     .with_first_content(Duration::from_secs(10))
///     .with_idle(Duration::from_secs(5))
///     .with_total(Duration::from_secs(60));
/// let service = ServiceBuilder::new()
///     .layer(limits)
///     .service_fn(|_: PredictRequest| async {
///         // One event, and then no more.
///         let status = StreamEvent::Status { message: "searching".into() };
///         let events = stream::iter([Ok(status)]).chain(stream::pending());
///         Ok::<_, Error>(PredictionStream::new(events))
///     });
///
/// let mut answer = service.oneshot(PredictRequest::new(serde_json::json!({}))).await?;
/// assert!(answer.next().await.is_some_and(|event| event.is_ok()));
/// let last = answer.next().await;
/// assert!(matches!(last, Some(Err(Error::Elapsed(elapsed))) if elapsed.scope() == Scope::Idle));
/// assert!(answer.next().await.is_none());
/// # Ok(())
/// # }
/// ```
///
/// # What counts as life
/// Each [`StreamEvent`](crate::StreamEvent): text, thinking, a status, a tool call, its result. All
/// are content. The pings of an LM's provider, its headers and empty deltas are no events, and feed
/// none of the limits. A program that is quiet for long, in a tool or in a predictor that is not
/// streamed, needs a longer limit, or says what it does by `tower_dspy.status("..")`.
///
/// # A reader that is slow
/// The time between two events runs while the reader waits for one: it begins with a poll that is
/// pending, and ends with the next event. A reader that takes long over an event does not use it
/// up. The total does run on. It travels inward in the context, so that a program's service ends the
/// call on time though nobody polls; this layer itself looks when it is polled. Events that are ready
/// by then are still given out before the error, so a foreign stream that has an event ready at each
/// poll is not ended by the total: it has to keep the limit in the context itself.
///
/// # What it demands of the inner service
/// A [`PredictionStream`] as the response, an error that can be made from [`Elapsed`], such as
/// [`Error`](crate::Error), and a request that is a [`Carrier`].
///
/// # Place in a stack
/// In the place of a [`TimeoutLayer`](super::TimeoutLayer), inside retries: a first content that is
/// late is then tried again. What a stream comes to after its first event is not tried again. The
/// limits of layers around this one hold as well, and the earliest ends the call; those of an
/// attempt, a reserve or a share only until the response.
///
/// # How it differs from other timeouts
/// - tower's `Timeout`, tower-http's `TimeoutLayer` and tonic's `timeout` end at the response; the
///   stream is then unlimited.
/// - tower-http's `TimeoutBody` limits the time between two pieces of a body of bytes, pings and all.
/// - [`DeadlineLayer`](super::DeadlineLayer) is the limit of the call for its caller, the wait for the
///   service included, also over the stream. The total here is that of one attempt.
///
/// # Panics
/// The future and the stream panic if they have to wait outside a tokio runtime with its timer
/// enabled.
///
/// # Cancel safety
/// Dropping the response future or the stream drops the inner one and does nothing else. An event is
/// never lost by dropping the future of a `next()`, and the limits run on.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamTimeoutLayer {
    first_content: Option<Duration>,
    idle: Option<Duration>,
    total: Option<Duration>,
}

impl StreamTimeoutLayer {
    /// Without limits.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            first_content: None,
            idle: None,
            total: None,
        }
    }

    /// Limits the time from the call to the first event to `limit`. The default is no limit but the
    /// [total](Self::with_total).
    #[must_use]
    pub const fn with_first_content(mut self, limit: Duration) -> Self {
        self.first_content = Some(limit);
        self
    }

    /// Limits the time that the reader waits for each event after the first to `limit`. The default
    /// is no limit but the [total](Self::with_total).
    #[must_use]
    pub const fn with_idle(mut self, limit: Duration) -> Self {
        self.idle = Some(limit);
        self
    }

    /// Limits the time from the call to the end of the stream to `limit`. The default is no limit but
    /// the deadline in the request's context.
    #[must_use]
    pub const fn with_total(mut self, limit: Duration) -> Self {
        self.total = Some(limit);
        self
    }

    /// Puts the limits in force in the context. Returns the guard of the response, and what limits
    /// the stream.
    fn limits(&self, context: &mut CallContext) -> (Guard<LimitAlarm>, StreamLimits) {
        let since = Instant::now();
        let limit = |length, scope| Limit {
            at: Deadline::at(since).later_by(length),
            scope,
            since,
            grace: Duration::ZERO,
        };
        let total = self.total.map(|length| limit(length, Scope::Total));
        let first = self
            .first_content
            .filter(|first| self.total.is_none_or(|total| *first < total))
            .map(|length| limit(length, Scope::FirstContent));
        // Before the guard: to it the total is the limit of an attempt, which ends at the response.
        if let Some(total) = &total {
            context.limit_stream_total(total);
        }
        let guard = match first.or(total) {
            Some(limit) => guard_attempt(limit, context),
            None => Guard::unlimited(),
        };
        let limits = StreamLimits {
            idle: self.idle,
            total,
            tag: CallTag::of(context),
            record: context.record.clone(),
        };
        (guard, limits)
    }
}

impl<S> Layer<S> for StreamTimeoutLayer {
    type Service = StreamTimeout<S>;

    fn layer(&self, inner: S) -> StreamTimeout<S> {
        StreamTimeout {
            inner,
            config: *self,
        }
    }
}

/// Ends a streamed answer that is too slow; see [`StreamTimeoutLayer`].
#[derive(Clone, Copy, Debug)]
pub struct StreamTimeout<S> {
    inner: S,
    config: StreamTimeoutLayer,
}

impl<S> StreamTimeout<S> {
    inner_service_accessors!();
}

impl<S, R> Service<R> for StreamTimeout<S>
where
    S: Service<R, Response = PredictionStream>,
    S::Error: From<Elapsed>,
    R: Carrier,
{
    type Response = PredictionStream;
    type Error = S::Error;
    type Future = StreamTimeoutFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: R) -> Self::Future {
        let (guard, limits) = self.config.limits(request.context_mut());
        StreamTimeoutFuture {
            response: GuardedFuture::new(guard, || Droppable::new(self.inner.call(request))),
            limits: Some(limits),
        }
    }
}

pin_project! {
    /// The response future of [`StreamTimeout`].
    pub struct StreamTimeoutFuture<F> {
        #[pin]
        response: GuardedFuture<Droppable<F>, LimitAlarm>,
        limits: Option<StreamLimits>,
    }
}

impl<F, E> Future for StreamTimeoutFuture<F>
where
    F: Future<Output = Result<PredictionStream, E>>,
    E: From<Elapsed>,
{
    type Output = Result<PredictionStream, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let events = ready!(this.response.poll(cx))?;
        // Taken once: the response comes once.
        Poll::Ready(Ok(match this.limits.take() {
            Some(limits) => limits.limit(events),
            None => events,
        }))
    }
}

impl<F> fmt::Debug for StreamTimeoutFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamTimeoutFuture")
            .finish_non_exhaustive()
    }
}
