//! [`TrackLayer`]: which calls are under way.

mod cancellation;
mod future;
mod readings;
mod samples;
mod snapshot;
mod ticket;
mod tracker;
mod unsettled;

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::Instant;
use tower::{Layer, Service};
use tracing::field::Empty;

#[cfg(feature = "debug-page")]
pub(crate) use self::readings::LivePhase;
pub use self::{
    cancellation::Cancellation,
    future::TrackFuture,
    readings::CallPhases,
    samples::{ProgramCalls, TookClass},
    snapshot::{CallCounts, CallSnapshot},
    tracker::Tracker,
};
use self::{ticket::TrackTicket, tracker::TrackedCall};
use super::{
    classify::{ByClassify, ByFn},
    guard::ReadyCall,
};
use crate::{
    call::{Cancel, Carrier},
    error::ErrorKind,
    telemetry::{self, names},
};

/// Enters each call in a [`Tracker`], which shows it and can stop it, and opens its span.
///
/// The request's context gets an id, if it has none yet, and a cancellation node of the call's own,
/// below the one that it came with. Each call ends in the tracker with one status: completed; timed
/// out, cancelled or failed, by the [`ErrorKind`] of its error; or, if its future is dropped, by the
/// cause that [`drop_scope`](crate::drop_scope) tells.
///
/// ```
/// use std::time::Duration;
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_dspy::{Cause, Error, WithContext};
/// use tower_dspy::{CallStatus, CancelLayer, TrackLayer, Tracker};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let tracker = Tracker::new().with_history(100);
/// let service = ServiceBuilder::new()
///     .layer(TrackLayer::new(tracker.clone()).with_label("qa"))
///     .layer(CancelLayer::new())
///     .service_fn(|question: WithContext<&'static str>| async move {
///         tokio::time::sleep(Duration::from_secs(60)).await;
///         Ok::<_, Error>(question.request.len())
///     });
///
/// let call = tokio::spawn(service.oneshot(WithContext::new("why?")));
/// tokio::time::sleep(Duration::from_secs(1)).await;
///
/// let calls = tracker.calls();
/// assert_eq!(calls[0].status, CallStatus::Running);
/// assert_eq!(calls[0].elapsed, Duration::from_secs(1));
///
/// tracker.cancel_as(calls[0].id, Cause::Shutdown).settled().await;
/// let status = CallStatus::Cancelled { cause: Cause::Shutdown };
/// assert_eq!(tracker.history()[0].status, status);
/// # assert!(call.await.unwrap().is_err());
/// # }
/// ```
///
/// # Where it belongs
/// Around all layers that make a call end, so that it sees the end, and inside shutdown. A
/// deadline that is set further in is not seen, so the time left is that of the deadline the request
/// came with. Inside a retry, each attempt is tracked as a call of its own, under the call's id.
///
/// A [`Tracker::cancel`] cancels the node in the request's context. What watches that node ends the
/// call: a [`CancelLayer`](super::CancelLayer) inside, or the DSPy service itself. Work that does
/// not look at it runs on.
///
/// # What it demands of the inner service
/// `Clone`, an error that implements [`Classify`](crate::Classify), unless the layer is given
/// [a function](TrackLayer::classify), and a request that is a [`Carrier`].
///
/// The service is always ready: each call waits in its future for a clone of the inner service, so
/// that the wait is tracked and lies in the span.
///
/// # The span
/// `call`, of target `tower_dspy` at level info: from the call to the end of its future, entered
/// whenever the future is polled, and when it is dropped. Its fields are `tower_dspy.call_id`, `.label`,
/// `.time_left_ms` and, at the end, `.attempts`, `.outcome`, of a cancelled call `.cause`, and
/// `error.type` of one that failed or was late. Nothing of the request is in it but its context. See
/// [`telemetry`].
///
/// # How it differs from `tokio_util`'s `TaskTracker`
/// That one counts futures and can wait for them. This one also says what each is doing, how each
/// ended, and can stop one or all; and it needs no closing before it is waited for.
///
/// # Cancel safety
/// Dropping the response future drops the inner service's clone, or its future; then the call
/// leaves the tracker.
#[derive(Clone, Debug)]
pub struct TrackLayer<C = ByClassify> {
    tracker: Tracker,
    label: Option<Arc<str>>,
    observe_only: bool,
    classify: C,
}

impl TrackLayer {
    /// Enters each call in `tracker`.
    #[must_use]
    pub const fn new(tracker: Tracker) -> Self {
        Self {
            tracker,
            label: None,
            observe_only: false,
            classify: ByClassify,
        }
    }
}

impl<C> TrackLayer<C> {
    /// Names the calls through this layer, as by the program that they ask.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Leaves the calls without a node of their own, which saves its allocations: the tracker can
    /// show them, but not stop them.
    #[must_use]
    pub fn observe_only(mut self) -> Self {
        self.observe_only = true;
        self
    }

    /// Reads the kind of an error with `kind`, for errors that do not implement
    /// [`Classify`](crate::Classify).
    #[must_use]
    pub fn classify<E, F>(self, kind: F) -> TrackLayer<ByFn<F>>
    where
        F: Fn(&E) -> ErrorKind,
    {
        TrackLayer {
            tracker: self.tracker,
            label: self.label,
            observe_only: self.observe_only,
            classify: ByFn(kind),
        }
    }
}

impl<S, C: Clone> Layer<S> for TrackLayer<C> {
    type Service = Track<S, C>;

    fn layer(&self, inner: S) -> Track<S, C> {
        Track {
            inner,
            config: self.clone(),
        }
    }
}

/// Enters each call in a [`Tracker`]; see [`TrackLayer`].
#[derive(Clone, Debug)]
pub struct Track<S, C = ByClassify> {
    inner: S,
    config: TrackLayer<C>,
}

impl<S> Track<S> {
    /// Enters each call of `inner` in `tracker`.
    #[must_use]
    pub const fn new(inner: S, tracker: Tracker) -> Self {
        Self {
            inner,
            config: TrackLayer::new(tracker),
        }
    }
}

impl<S, C> Track<S, C> {
    inner_service_accessors!();
}

impl<S, R, C> Service<R> for Track<S, C>
where
    S: Service<R> + Clone,
    S::Error: 'static,
    R: Carrier,
    C: super::Classifier<S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = TrackFuture<S, R, C>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: R) -> Self::Future {
        let since = Instant::now();
        let TrackLayer {
            tracker,
            label,
            observe_only,
            classify,
        } = self.config.clone();
        let context = request.context_mut();
        let id = context.id();
        let mut cancel = Cancel::none();
        if !observe_only {
            cancel = context.cancel.child();
            context.cancel = cancel.clone();
        }
        context.progress = context.progress.inside();
        let progress = context.progress.clone();
        let left = context
            .deadline
            .map(|deadline| deadline.remaining_at(since));
        let span = tracing::info_span!(
            target: "tower_dspy",
            names::CALL,
            { names::SPAN_NAME } = "tower_dspy.call",
            { names::CALL_ID } = id.get(),
            { names::LABEL } = label.as_deref(),
            { names::TIME_LEFT } = left.map(|left| left.as_millis() as u64),
            { names::ATTEMPTS } = Empty,
            { names::OUTCOME } = Empty,
            { names::CAUSE } = Empty,
            { names::ERROR_TYPE } = Empty,
            { names::STATUS_CODE } = Empty,
        );
        telemetry::join(&span, &mut context.trace);
        let trace = context.trace.clone();
        let record = context.open_record().clone();
        if let Some(trace) = trace {
            record.traced(&trace);
        }
        let call = TrackedCall {
            id,
            since,
            deadline: context.deadline,
            cancel,
            before: context.attempt,
            is_outermost: record.track(id, label.as_ref(), context.deadline),
            record,
            label,
            runs: false,
        };
        let ticket = TrackTicket::new(tracker, call, span);
        // Not asked before its first poll: all that its service does lies in the span.
        let work = ReadyCall::new(self.inner.clone(), request, progress.clone());
        TrackFuture {
            work,
            ticket: Some(ticket),
            progress,
            classify,
        }
    }
}
