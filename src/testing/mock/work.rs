//! The work of one call of the mock.

use std::{
    future::{pending, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

use super::{
    record::{CallEnd, MockInFlight},
    reply::{Reply, ReplyItem},
};
use crate::{
    call::{CallContext, CallId, Deadline},
    error::{Cancelled, Classify, Error},
    request::Prediction,
    service::termination::ServiceTermination,
    stream::{PredictionStream, StreamEvent},
};

pub(super) type MockFuture<T = Prediction> = BoxFuture<'static, Result<T, Error>>;
type MockOutcome = Result<Prediction, Error>;

/// The work of one call.
pub(super) struct MockWork {
    started: Instant,
    call: Option<CallId>,
    termination: ServiceTermination,
    lingers: Duration,
    /// When the work ends that was signalled.
    ends: Option<Instant>,
    /// Taken when the work has ended.
    running: Option<MockInFlight>,
}

impl MockWork {
    fn new(context: &CallContext, reply: &Reply, running: MockInFlight) -> Self {
        let started = Instant::now();
        Self {
            started,
            call: context.call_id,
            termination: ServiceTermination::new(context, started),
            lingers: reply.lingers,
            ends: None,
            running: Some(running),
        }
    }

    /// A call for the whole answer.
    pub(super) fn start(context: &CallContext, reply: Reply, running: MockInFlight) -> MockFuture {
        let mut work = Self::new(context, &reply, running);
        let (delay, outcome) = reply.into_outcome();
        Box::pin(async move {
            let outcome = work.wait(delay, outcome).await?;
            work.answer(outcome)
        })
    }

    /// A call for a stream.
    pub(super) fn start_stream(
        context: &CallContext,
        reply: Reply,
        running: MockInFlight,
    ) -> MockFuture<PredictionStream> {
        let mut work = Self::new(context, &reply, running);
        let mut items = reply.into_items();
        let (progress, cancel) = (context.progress.clone(), context.cancel.clone());
        let limit = context.stream_limit();
        Box::pin(async move {
            let first = work.next(&mut items, None).await?;
            // The layers around the call end at the response.
            work.termination = ServiceTermination::of_stream(cancel, limit, work.started);
            let deadline = limit.map(|limit| limit.at);
            let rest = stream::unfold((work, items), move |(mut work, mut items)| async move {
                let item = work.next(&mut items, deadline).await;
                Some((item, (work, items)))
            });
            let events = stream::iter([Ok(first)]).chain(rest);
            Ok(PredictionStream::new(events).in_call(&progress))
        })
    }

    /// The next item of a stream that has to end by `deadline`: what is due later does not come.
    async fn next(
        &mut self,
        items: &mut impl Iterator<Item = (Duration, ReplyItem)>,
        deadline: Option<Deadline>,
    ) -> Result<StreamEvent, Error> {
        let (delay, item) = items.next().unwrap_or((Duration::ZERO, None));
        let due = Deadline::at(self.started).later_by(delay);
        let item = item.filter(|_| deadline.is_none_or(|deadline| due <= deadline));
        match self.wait(delay, item).await? {
            Ok(StreamEvent::Done(prediction)) => {
                let prediction = self.answer(Ok(*prediction))?;
                Ok(StreamEvent::Done(Box::new(prediction)))
            }
            Err(error) => self
                .answer(Err(error))
                .map(|answer| StreamEvent::Done(answer.into())),
            event => event,
        }
    }

    /// Waits for `ready`, which comes `delay` after the call or, `None`, never.
    ///
    /// # Errors
    /// That of a call that ends before.
    async fn wait<T>(&mut self, delay: Duration, ready: Option<T>) -> Result<T, Error> {
        let due = Deadline::at(self.started).later_by(delay).instant();
        let mut ready = pin!(async move {
            let Some(ready) = ready else {
                return pending().await;
            };
            if due > Instant::now() {
                sleep_until(due).await;
            }
            ready
        });
        // The work first, as the real service does: what is ready wins the tie.
        let ended = poll_fn(|cx| match ready.as_mut().poll(cx) {
            _ if self.termination.signalled().is_some() => Poll::Ready(Err(None)),
            Poll::Ready(ready) => Poll::Ready(Ok(ready)),
            Poll::Pending => {
                // The signalled work ends in a poll of its own, as Python's outcome comes.
                let waker = cx.waker().clone();
                let error = self.termination.poll(cx, |_| waker.wake());
                error.map(|error| Err(Some(error)))
            }
        });
        let error = match ended.await {
            Ok(ready) => return Ok(ready),
            Err(Some(error)) => error,
            Err(None) => self.linger().await,
        };
        self.stopped();
        Err(error.with_call_id(self.call))
    }

    fn answer(&mut self, outcome: MockOutcome) -> MockOutcome {
        let (end, outcome) = match outcome {
            Ok(mut prediction) => {
                prediction.elapsed = self.started.elapsed();
                (CallEnd::Answered, Ok(prediction))
            }
            Err(error) => {
                let end = CallEnd::Failed(error.kind());
                (end, Err(error.with_call_id(self.call)))
            }
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
