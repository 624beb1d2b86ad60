//! The end of a call from outside: its cancellation or its deadline, whichever comes first.
//!
//! Invariants:
//! 1. The owner polls the work first: what is ready wins the tie. Between the two, the cancellation
//!    wins.
//! 2. There is one end. Once it came, each poll returns it again.
//! 3. No timer is armed before the first poll.
//! 4. A deadline that has passed is seen although tokio's cooperative budget is used up.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

#[cfg(any(feature = "_host", feature = "test-util", feature = "tonic"))]
use futures_util::future::{BoxFuture, join_all, pending};
use pin_project_lite::pin_project;
use tokio::{
    task::coop::has_budget_remaining,
    time::{Sleep, sleep_until},
};

use super::{Cancel, Cause, Deadline};
use crate::sync::WaitForCancellationFutureOwned;

/// Why a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Terminated {
    /// Its node was cancelled.
    Cancelled(Cause),
    /// Its deadline passed.
    DeadlinePassed,
}

impl Terminated {
    /// The cause in a word; that of a deadline is [`Cause::Deadline`].
    pub(crate) const fn cause(self) -> Cause {
        match self {
            Self::Cancelled(cause) => cause,
            Self::DeadlinePassed => Cause::Deadline,
        }
    }

    /// Why a call ends by now; `None` if it may go on, or start.
    #[cfg(any(
        feature = "_host",
        feature = "lm",
        feature = "test-util",
        feature = "tonic",
        test
    ))]
    pub(crate) fn by_now(cancel: &Cancel, deadline: Option<Deadline>) -> Option<Self> {
        let past = deadline.is_some_and(Deadline::is_past);
        let cancelled = cancel.cause().map(Self::Cancelled);
        cancelled.or_else(|| past.then_some(Self::DeadlinePassed))
    }
}

pin_project! {
    /// Watches the cancellation and the deadline of one call.
    #[derive(Debug)]
    pub(crate) struct Termination {
        pub(crate) cancel: Cancel,
        shared: Option<Cancel>,
        pub(crate) deadline: Option<Deadline>,
        #[pin]
        cancelled: Option<WaitForCancellationFutureOwned>,
        #[pin]
        shared_cancelled: Option<WaitForCancellationFutureOwned>,
        #[pin]
        timer: Option<Sleep>,
        ended: Option<Terminated>,
    }
}

impl Termination {
    pub(crate) const fn new(cancel: Cancel, deadline: Option<Deadline>) -> Self {
        Self {
            cancel,
            shared: None,
            deadline,
            cancelled: None,
            shared_cancelled: None,
            timer: None,
            ended: None,
        }
    }

    /// Watches a node that many calls share as well, which then cancels the node of this one.
    pub(crate) fn with_shared(mut self, shared: Option<Cancel>) -> Self {
        self.shared = shared;
        self
    }

    /// Why the call ended, if it did.
    #[cfg(any(feature = "_host", feature = "test-util", feature = "tonic", test))]
    pub(crate) const fn ended(&self) -> Option<Terminated> {
        self.ended
    }

    /// Ready once the call is to end.
    pub(crate) fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Terminated> {
        if let Some(ended) = self.ended {
            return Poll::Ready(ended);
        }
        let ended = ready!(self.as_mut().poll_end(cx));
        let mut this = self.project();
        this.cancelled.set(None);
        this.timer.set(None);
        Poll::Ready(*this.ended.insert(ended))
    }

    fn poll_end(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Terminated> {
        let mut this = self.project();
        if this.cancelled.is_none() {
            this.cancelled.set(this.cancel.cancelled_owned());
            let shared = this.shared.as_ref().and_then(Cancel::cancelled_owned);
            this.shared_cancelled.set(shared);
        }
        if let Some(cancelled) = this.shared_cancelled.as_pin_mut()
            && cancelled.poll(cx).is_ready()
        {
            let cause = this.shared.as_ref().and_then(Cancel::cause);
            this.cancel.cancel(cause.unwrap_or(Cause::Caller));
        }
        if let Some(cancelled) = this.cancelled.as_pin_mut()
            && cancelled.poll(cx).is_ready()
        {
            let cause = this.cancel.cause().unwrap_or(Cause::Caller);
            return Poll::Ready(Terminated::Cancelled(cause));
        }
        let Some(deadline) = *this.deadline else {
            return Poll::Pending;
        };
        ready!(poll_timer(this.timer, deadline, cx));
        Poll::Ready(Terminated::DeadlinePassed)
    }
}

/// Passes cancellations on to `cancel` that layers around its call have passed on until the response:
/// of the nodes that it shares with other calls. Never ready; `None` if it shares none.
#[cfg(any(feature = "_host", feature = "test-util", feature = "tonic"))]
pub(crate) fn pass_on_shared(cancel: &Cancel) -> Option<BoxFuture<'static, ()>> {
    let passing: Vec<_> = cancel
        .shared()
        .filter_map(|(node, shared)| {
            let cancelled = shared.cancelled_owned()?;
            Some(async move {
                cancelled.await;
                node.cancel(shared.cause().unwrap_or(Cause::Caller));
            })
        })
        .collect();
    if passing.is_empty() {
        return None;
    }
    Some(Box::pin(async move {
        join_all(passing).await;
        pending().await
    }))
}

/// Polls a timer for `at`, which is armed by the first poll.
pub(crate) fn poll_timer(
    mut timer: Pin<&mut Option<Sleep>>,
    at: Deadline,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if timer.is_none() {
        timer.set(Some(sleep_until(at.instant())));
    }
    match timer.as_pin_mut().map(|timer| timer.poll(cx)) {
        // A timer takes part in tokio's cooperative budget: work that uses that up at each poll would
        // keep it pending for good.
        Some(Poll::Pending) if has_budget_remaining() || !at.is_past() => Poll::Pending,
        _ => Poll::Ready(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, time::Duration};

    use tokio::time::advance;
    use tokio_test::{assert_pending, assert_ready_eq, task};

    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_of_cancel_and_deadline_is_the_end_and_stays() {
        let cancel = Cancel::new();
        let mut call = pin!(Termination::new(
            cancel.clone(),
            Some(Deadline::within(secs(3)))
        ));
        let mut task = task::spawn(());
        task.enter(|cx, _| {
            assert_pending!(call.as_mut().poll(cx));
        });
        advance(secs(3)).await;
        assert!(task.is_woken());
        let end = Terminated::DeadlinePassed;
        task.enter(|cx, _| {
            assert_ready_eq!(call.as_mut().poll(cx), end);
        });
        cancel.cancel(Cause::Shutdown);
        task.enter(|cx, _| {
            assert_ready_eq!(call.as_mut().poll(cx), end);
        });
        assert_eq!(call.ended(), Some(end));

        let cancel = Cancel::new();
        let mut call = pin!(Termination::new(
            cancel.clone(),
            Some(Deadline::within(secs(3)))
        ));
        task.enter(|cx, _| {
            assert_pending!(call.as_mut().poll(cx));
        });
        cancel.cancel(Cause::Shutdown);
        advance(secs(3)).await;
        let end = Terminated::Cancelled(Cause::Shutdown);
        // At one instant the cancellation wins.
        task.enter(|cx, _| {
            assert_ready_eq!(call.as_mut().poll(cx), end);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_node_and_a_deadline_the_call_is_never_terminated() {
        let mut call = pin!(Termination::new(Cancel::none(), None));
        advance(secs(9)).await;
        task::spawn(()).enter(|cx, _| assert_pending!(call.as_mut().poll(cx)));
        assert_eq!(Terminated::by_now(&Cancel::none(), None), None);
    }

    #[tokio::test]
    async fn a_task_with_an_exhausted_coop_budget_sees_the_deadline() {
        let mut call = pin!(Termination::new(
            Cancel::none(),
            Some(Deadline::within(secs(0)))
        ));
        std::future::poll_fn(|cx| {
            while tokio::task::coop::has_budget_remaining() {
                let proceed = std::pin::pin!(tokio::task::coop::consume_budget()).poll(cx);
                assert!(proceed.is_ready() || !tokio::task::coop::has_budget_remaining());
            }
            assert_ready_eq!(call.as_mut().poll(cx), Terminated::DeadlinePassed);
            Poll::Ready(())
        })
        .await;
    }
}
