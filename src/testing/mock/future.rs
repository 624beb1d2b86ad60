//! The future of one call of the mock.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    record::{CallEnd, Running},
    reply::Reply,
};
use crate::{
    call::{CallContext, Deadline},
    error::{Cancelled, Classify, Error},
    request::Prediction,
    service::termination::ServiceTermination,
};

pin_project! {
    /// The answer to come of a [`MockDspy`](super::MockDspy).
    ///
    /// # Cancel safety
    /// As with the real one, dropping it cancels the call; what [lingers](Reply::lingers) is in
    /// flight until it has ended.
    #[must_use = "a future does nothing unless polled"]
    pub struct MockFuture {
        #[pin]
        state: State,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State {
        Refused { error: Option<Error> },
        Working { #[pin] work: Work },
        Done,
    }
}

pin_project! {
    struct Work {
        started: Instant,
        outcome: Option<Result<Prediction, Error>>,
        lingers: Duration,
        // When the work ends: by itself, or once it was told to stop.
        #[pin]
        timer: Option<Sleep>,
        termination: ServiceTermination,
        // Taken when the work has ended.
        running: Option<Running>,
        answered: bool,
        lingering: bool,
    }

    impl PinnedDrop for Work {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let Some(running) = this.running.take() else { return };
            if !*this.answered {
                running.ended(CallEnd::Stopped(this.termination.reason()));
            }
            // It was told at the latest now, and ends when it ends.
            let ends = match this.timer.as_mut().as_pin_mut() {
                Some(timer) if *this.lingering => timer.deadline(),
                _ => Deadline::within(*this.lingers).instant(),
            };
            if ends > Instant::now() && let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move {
                    sleep_until(ends).await;
                    drop(running);
                });
            }
        }
    }
}

impl MockFuture {
    pub(super) fn refused(error: Error) -> Self {
        Self {
            state: State::Refused { error: Some(error) },
        }
    }

    pub(super) fn start(context: &CallContext, reply: Reply, running: Running) -> Self {
        let started = Instant::now();
        let ends = Deadline::at(started).later_by(reply.delay).instant();
        let waits = reply.outcome.is_some() && ends > started;
        Self {
            state: State::Working {
                work: Work {
                    started,
                    outcome: reply.outcome,
                    lingers: reply.lingers,
                    timer: waits.then(|| sleep_until(ends)),
                    termination: ServiceTermination::new(context, started),
                    running: Some(running),
                    answered: false,
                    lingering: false,
                },
            },
        }
    }
}

impl Future for MockFuture {
    type Output = Result<Prediction, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let result = match state.as_mut().project() {
            StateProjection::Refused { error } => match error.take() {
                Some(error) => Err(error),
                None => return Poll::Pending,
            },
            StateProjection::Working { work } => ready!(work.poll(cx)),
            StateProjection::Done => return Poll::Pending,
        };
        state.set(State::Done);
        Poll::Ready(result)
    }
}

impl Work {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Prediction, Error>> {
        let mut this = self.project();
        // The work first, as the real service does: what is ready wins the tie.
        let signalled = this.termination.signalled();
        if signalled.is_some() && !*this.lingering {
            *this.lingering = true;
            let ends = Deadline::within(*this.lingers).instant();
            this.timer.set(Some(sleep_until(ends)));
        }
        let ended = match this.timer.as_mut().as_pin_mut() {
            Some(_) if signalled.is_some() && this.lingers.is_zero() => true,
            Some(timer) => timer.poll(cx).is_ready(),
            None => this.outcome.is_some(),
        };
        if !ended {
            // The work that was signalled now ends in a poll of its own, as Python's outcome comes.
            let waker = cx.waker().clone();
            let error = ready!(this.termination.poll(cx, |_| waker.wake()));
            *this.answered = true;
            if let Some(running) = this.running {
                running.ended(CallEnd::Stopped(this.termination.reason()));
            }
            return Poll::Ready(Err(error));
        }
        let (end, result) = match (signalled, this.outcome.take()) {
            (Some(_), _) => {
                let cause = this.termination.reason();
                (CallEnd::Stopped(cause), Err(Cancelled::new(cause).into()))
            }
            (None, Some(Ok(mut prediction))) => {
                prediction.elapsed = this.started.elapsed();
                (CallEnd::Answered, Ok(prediction))
            }
            (None, Some(Err(error))) => (CallEnd::Failed(error.kind()), Err(error)),
            (None, None) => return Poll::Pending,
        };
        if let Some(running) = this.running.take() {
            running.ended(end);
        }
        Poll::Ready(result)
    }
}

impl fmt::Debug for MockFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Refused { .. } => "refused",
            State::Working { .. } => "working",
            State::Done => "done",
        };
        f.debug_tuple("MockFuture").field(&state).finish()
    }
}
