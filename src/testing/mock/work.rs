//! The work of one call of the mock.

use std::{
    future::{pending, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

use super::{
    record::{CallEnd, MockInFlight},
    reply::Reply,
};
use crate::{
    call::{CallContext, Deadline},
    error::{Cancelled, Classify, Error},
    request::Prediction,
    service::termination::ServiceTermination,
};

pub(super) type MockFuture = BoxFuture<'static, MockOutcome>;
type MockOutcome = Result<Prediction, Error>;

/// The work of one call.
pub(super) struct MockWork {
    termination: ServiceTermination,
    lingers: Duration,
    /// When the work ends that was signalled.
    ends: Option<Instant>,
    /// Taken when the work has ended.
    running: Option<MockInFlight>,
}

impl MockWork {
    pub(super) fn start(context: &CallContext, reply: Reply, running: MockInFlight) -> MockFuture {
        let started = Instant::now();
        let work = Self {
            termination: ServiceTermination::new(context, started),
            lingers: reply.lingers,
            ends: None,
            running: Some(running),
        };
        Box::pin(work.run(started, reply))
    }

    async fn run(mut self, started: Instant, reply: Reply) -> MockOutcome {
        let due = Deadline::at(started).later_by(reply.delay).instant();
        let mut outcome = pin!(async move {
            let Some(outcome) = reply.outcome else {
                return pending().await;
            };
            if due > started {
                sleep_until(due).await;
            }
            outcome
        });
        // The work first, as the real service does: what is ready wins the tie.
        let ended = poll_fn(|cx| match outcome.as_mut().poll(cx) {
            _ if self.termination.signalled().is_some() => Poll::Ready(Err(None)),
            Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
            Poll::Pending => {
                // The signalled work ends in a poll of its own, as Python's outcome comes.
                let waker = cx.waker().clone();
                let error = self.termination.poll(cx, |_| waker.wake());
                error.map(|error| Err(Some(error)))
            }
        });
        let error = match ended.await {
            Ok(outcome) => return self.answer(started, outcome),
            Err(Some(error)) => error,
            Err(None) => self.linger().await,
        };
        self.stopped();
        Err(error)
    }

    fn answer(&mut self, started: Instant, outcome: MockOutcome) -> MockOutcome {
        let (end, outcome) = match outcome {
            Ok(mut prediction) => {
                prediction.elapsed = started.elapsed();
                (CallEnd::Answered, Ok(prediction))
            }
            Err(error) => (CallEnd::Failed(error.kind()), Err(error)),
        };
        if let Some(running) = self.running.take() {
            running.ended(end);
        }
        outcome
    }

    /// Waits until the signalled work has ended, or nobody waits for it any more.
    async fn linger(&mut self) -> Error {
        let ends = self.ends();
        if !self.lingers.is_zero() {
            tokio::select! {
                biased;
                () = sleep_until(ends) => {}
                error = poll_fn(|cx| self.termination.poll(cx, |_| ())) => return error,
            }
        }
        Cancelled::new(self.termination.reason()).into()
    }

    /// When the work ends, which is signalled at the latest now.
    fn ends(&mut self) -> Instant {
        let ends = || Deadline::within(self.lingers).instant();
        *self.ends.get_or_insert_with(ends)
    }

    fn stopped(&self) {
        if let Some(running) = &self.running {
            running.ended(CallEnd::Stopped(self.termination.reason()));
        }
    }
}

impl Drop for MockWork {
    fn drop(&mut self) {
        self.stopped();
        let ends = self.ends();
        if let Some(running) = self.running.take()
            && ends > Instant::now()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move {
                sleep_until(ends).await;
                drop(running);
            });
        }
    }
}
