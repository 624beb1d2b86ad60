//! The events of an answer, within the limits of a [`StreamTimeoutLayer`](super::StreamTimeoutLayer).

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, Sleep};

use crate::{
    call::{
        CallId, CallTag, Deadline, Limit, Scope, drop_scope, record::CallRecord,
        termination::poll_timer,
    },
    error::{Elapsed, Error, Stage},
    stream::{PredictionStream, StreamEvent},
};

/// What limits the events after the first.
#[derive(Debug)]
pub(super) struct StreamLimits {
    pub(super) idle: Option<Duration>,
    pub(super) total: Option<Limit>,
    pub(super) tag: CallTag,
    /// That of the call, if it was open at the call.
    pub(super) record: Option<Arc<CallRecord>>,
}

impl StreamLimits {
    /// The same events, until one of the limits passes.
    pub(super) fn limit(self, events: PredictionStream) -> PredictionStream {
        if self.idle.is_none() && self.total.is_none() {
            return events;
        }
        PredictionStream::new(LimitedStream {
            events: Some(events),
            limits: self,
            idle: None,
            timer: Box::pin(None),
        })
    }
}

struct LimitedStream {
    /// `None` once a limit has passed.
    events: Option<PredictionStream>,
    limits: StreamLimits,
    /// Since the reader waits for the next event.
    idle: Option<Limit>,
    /// For the earlier limit; armed while the reader waits.
    timer: Pin<Box<Option<Sleep>>>,
}

impl LimitedStream {
    /// The earlier limit. The time between two events begins with the first poll that is pending.
    fn limit(&mut self) -> Option<Limit> {
        if let (None, Some(length)) = (self.idle, self.limits.idle) {
            let since = Instant::now();
            self.idle = Some(Limit {
                at: Deadline::at(since).later_by(length),
                scope: Scope::Idle,
                since,
                grace: Duration::ZERO,
            });
        }
        match (self.limits.total, self.idle) {
            (Some(total), Some(idle)) if idle.at < total.at => Some(idle),
            (total, idle) => total.or(idle),
        }
    }

    /// Drops the events, because `limit` passed.
    fn end(&mut self, limit: &Limit) -> Elapsed {
        let (events, record) = (self.events.take(), self.limits.record.as_ref());
        let report = drop_scope::end(limit.cause(), record, || drop(events));
        let error = Elapsed::of(limit, Stage::Running)
            .with_spent(report.spent)
            .with_call_id(self.limits.tag.call);
        tracing::debug!(
            target: "tower_dspy",
            call_id = self.limits.tag.call.map(CallId::get),
            attempt = self.limits.tag.attempt,
            cause = %limit.cause(),
            ?error,
            "a layer ended the stream",
        );
        error
    }
}

impl Stream for LimitedStream {
    type Item = Result<StreamEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(events) = &mut this.events else {
            return Poll::Ready(None);
        };
        // What is ready wins against the clock.
        if let Poll::Ready(event) = events.poll_next_unpin(cx) {
            this.idle = None;
            this.timer.set(None);
            return Poll::Ready(event);
        }
        let Some(limit) = this.limit() else {
            return Poll::Pending;
        };
        ready!(poll_timer(this.timer.as_mut(), limit.at, cx));
        Poll::Ready(Some(Err(this.end(&limit).into())))
    }
}
