//! The polls of a [`Guard`].

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::time::Instant;

use super::{
    Alarm, Guard, Phase,
    enclosing::{self, End},
    work::{self, Work},
};
use crate::{
    call::{CallId, Cause, Deadline, drop_scope},
    error::Stage,
};

impl<W, A, T, E> Future for Guard<W, A>
where
    W: Work<Output = Result<T, E>>,
    A: Alarm,
    E: From<A::Error>,
{
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !matches!(self.phase, Phase::Watching) || self.grace.is_some() {
            return self.poll_with_grace(cx);
        }
        let this = self.as_mut().project();
        let (grace, begun) = (false, false);
        let end = this.alarm.at().map(|at| End { at, grace, begun });
        work::starts_to_observe();
        let seeing_to = enclosing::see_to(end);
        let polled = this.work.poll(cx);
        drop(seeing_to);
        match polled {
            Poll::Ready(answer) => {
                *this.phase = Phase::Done;
                Poll::Ready(answer)
            }
            Poll::Pending => {
                if this.alarm.may_ring() {
                    return self.poll_end(cx);
                }
                Poll::Pending
            }
        }
    }
}

impl<W, A, T, E> Guard<W, A>
where
    W: Work<Output = Result<T, E>>,
    A: Alarm,
    E: From<A::Error>,
{
    /// The poll of work that will be given a grace, or that has been told to end.
    fn poll_with_grace(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let this = self.as_mut().project();
        if matches!(this.phase, Phase::Watching) {
            let (grace, begun) = (true, false);
            let end = this.alarm.at().map(|at| End { at, grace, begun });
            work::starts_to_observe();
            let polled = enclosing::watched(this.alarm.nodes(), || {
                enclosing::with(end, || this.work.poll(cx))
            });
            if polled.is_ready() {
                *this.phase = Phase::Done;
                return polled;
            }
        }
        self.poll_end(cx)
    }

    /// Polls the alarm, after the work, and ends the work once it has rung.
    fn poll_end(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let mut this = self.as_mut().project();
        if matches!(this.phase, Phase::Watching) {
            let waits = work::waits();
            let cause = ready!(this.alarm.as_mut().poll_ring(cx));
            // Further in, a call may wait that this layer's service has taken long ago.
            let stage = if waits {
                Stage::Waiting
            } else {
                this.work.stage()
            };
            let at = this.alarm.at().unwrap_or_else(Instant::now);
            let left_to_another = if A::CANCELS {
                enclosing::sees_to_cancel(stage)
            } else {
                enclosing::sees_to(at, stage, this.alarm.is_merged())
            };
            if left_to_another {
                return Poll::Pending;
            }
            let grace = this.grace.as_mut().filter(|_| stage == Stage::Running);
            let Some(grace) = grace else {
                return self.end(cause, stage);
            };
            let now = Instant::now();
            grace.began = Some(now);
            let end = Deadline::at(now).later_by(grace.length);
            this.alarm.as_mut().set_timer(end.instant());
            *this.phase = Phase::Ending(cause);
            grace.node.cancel(cause);
            // The work is told before anybody waits for it.
        }
        match *this.phase {
            Phase::Ending(cause) => {
                let began = this.grace.as_ref().and_then(|grace| grace.began);
                // A limit passes before its alarm is heard, and merged ones inside with it.
                let since = began.into_iter().chain(this.alarm.at()).min();
                let end = since.map(|at| End {
                    at,
                    grace: true,
                    begun: true,
                });
                let done = enclosing::with(end, || this.work.as_mut().poll(cx));
                if done.is_pending() {
                    ready!(this.alarm.as_mut().poll_timer(cx));
                }
                self.end(cause, Stage::Running)
            }
            Phase::Refused(cause) => {
                let stage = Stage::BeforeStart;
                // What is refused before its limit, as it has no chance, is so at once.
                let passed = this.alarm.at().filter(|at| *at <= Instant::now());
                let merged = this.alarm.is_merged();
                if merged && passed.is_some_and(|at| enclosing::sees_to(at, stage, true)) {
                    return Poll::Pending;
                }
                self.end(cause, stage)
            }
            Phase::Watching | Phase::Done => Poll::Pending,
        }
    }

    /// Drops the work, because of `cause`, and answers in its place.
    fn end(self: Pin<&mut Self>, cause: Cause, stage: Stage) -> Poll<Result<T, E>> {
        let this = self.project();
        *this.phase = Phase::Done;
        let report = drop_scope::end(cause, this.record.as_ref(), || this.work.discard());
        let error = this.alarm.error(cause, stage, report.spent);
        tracing::debug!(
            target: "tower_dspy",
            call_id = this.tag.call.map(CallId::get),
            attempt = this.tag.attempt,
            %cause,
            ?error,
            "a layer ended the call",
        );
        Poll::Ready(Err(error.into()))
    }
}
