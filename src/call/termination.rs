//! The end of a call from outside: its cancellation or its deadline, whichever comes first.
//!
//! Invariants:
//! 1. The owner polls the work first: what is ready wins the tie. Between the two, the cancellation
//!    wins.
//! 2. There is one end. Once it came, each poll returns it again.
//! 3. No timer is armed, and nothing is allocated, before the first poll.
//! 4. A deadline that has passed is seen although tokio's cooperative budget is used up.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

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
    pub(crate) fn by_now(cancel: &Cancel, deadline: Option<Deadline>) -> Option<Self> {
        let past = deadline.is_some_and(Deadline::is_past);
        let cancelled = cancel.cause().map(Self::Cancelled);
        cancelled.or_else(|| past.then_some(Self::DeadlinePassed))
    }
}

/// Watches the cancellation and the deadline of one call.
#[derive(Debug)]
pub(crate) struct Termination {
    cancel: Cancel,
    deadline: Option<Deadline>,
    cancelled: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    timer: Option<Pin<Box<Sleep>>>,
    ended: Option<Terminated>,
}

impl Termination {
    pub(crate) const fn new(cancel: Cancel, deadline: Option<Deadline>) -> Self {
        Self {
            cancel,
            deadline,
            cancelled: None,
            timer: None,
            ended: None,
        }
    }

    /// Why the call ended, if it did.
    pub(crate) const fn ended(&self) -> Option<Terminated> {
        self.ended
    }

    /// Ready once the call is to end.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Terminated> {
        if let Some(ended) = self.ended {
            return Poll::Ready(ended);
        }
        let ended = ready!(self.poll_end(cx));
        self.cancelled = None;
        self.timer = None;
        Poll::Ready(*self.ended.insert(ended))
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Terminated> {
        if self.cancelled.is_none() {
            self.cancelled = self.cancel.cancelled_owned().map(Box::pin);
        }
        if let Some(cancelled) = &mut self.cancelled
            && cancelled.as_mut().poll(cx).is_ready()
        {
            let cause = self.cancel.cause().unwrap_or(Cause::Caller);
            return Poll::Ready(Terminated::Cancelled(cause));
        }
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        ready!(poll_timer(&mut self.timer, deadline, cx));
        Poll::Ready(Terminated::DeadlinePassed)
    }

    /// Waits for the end of a grace that `cause` begins: cancels the node, so that the work hears
    /// of it. The end of the call stays what it was.
    pub(crate) fn begin_grace(&mut self, length: Duration, cause: Cause) {
        self.deadline = Some(Deadline::within(length));
        self.cancel.cancel(cause);
    }

    /// Ready once the grace has ended.
    pub(crate) fn poll_grace(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.deadline {
            Some(deadline) => poll_timer(&mut self.timer, deadline, cx),
            None => Poll::Ready(()),
        }
    }
}

fn poll_timer(timer: &mut Option<Pin<Box<Sleep>>>, at: Deadline, cx: &mut Context<'_>) -> Poll<()> {
    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(at.instant())));
    // A timer takes part in tokio's cooperative budget: work that uses it up at each poll would
    // keep the timer pending for good.
    if timer.as_mut().poll(cx).is_ready() || Instant::now() >= at.instant() {
        return Poll::Ready(());
    }
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;
    use tokio_test::{assert_pending, assert_ready_eq, task};

    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_of_the_two_is_the_end_and_stays_it() {
        let cancel = Cancel::new();
        let mut call = Termination::new(cancel.clone(), Some(Deadline::within(secs(3))));
        let mut task = task::spawn(());
        task.enter(|cx, _| {
            assert_pending!(call.poll(cx));
        });
        advance(secs(3)).await;
        assert!(task.is_woken());
        let end = Terminated::DeadlinePassed;
        task.enter(|cx, _| {
            assert_ready_eq!(call.poll(cx), end);
        });
        cancel.cancel(Cause::Shutdown);
        task.enter(|cx, _| {
            assert_ready_eq!(call.poll(cx), end);
        });
        assert_eq!(call.ended(), Some(end));

        let cancel = Cancel::new();
        let mut call = Termination::new(cancel.clone(), Some(Deadline::within(secs(3))));
        task.enter(|cx, _| {
            assert_pending!(call.poll(cx));
        });
        cancel.cancel(Cause::Shutdown);
        advance(secs(3)).await;
        let end = Terminated::Cancelled(Cause::Shutdown);
        // At one instant the cancellation wins.
        task.enter(|cx, _| {
            assert_ready_eq!(call.poll(cx), end);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_node_and_a_deadline_there_is_no_end() {
        let mut call = Termination::new(Cancel::none(), None);
        advance(secs(9)).await;
        task::spawn(()).enter(|cx, _| assert_pending!(call.poll(cx)));
        assert_eq!(Terminated::by_now(&Cancel::none(), None), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_grace_tells_the_work_and_ends_in_time() {
        let cancel = Cancel::new();
        let mut call = Termination::new(cancel.clone(), Some(Deadline::within(secs(1))));
        advance(secs(1)).await;
        let mut task = task::spawn(());
        task.enter(|cx, _| assert!(call.poll(cx).is_ready()));
        call.begin_grace(secs(2), Cause::Elapsed);
        assert_eq!(cancel.cause(), Some(Cause::Elapsed));
        task.enter(|cx, _| {
            assert_pending!(call.poll_grace(cx));
        });
        advance(secs(2)).await;
        task.enter(|cx, _| assert!(call.poll_grace(cx).is_ready()));
        assert_eq!(call.ended(), Some(Terminated::DeadlinePassed));
    }

    #[tokio::test]
    async fn a_task_without_budget_sees_the_deadline() {
        let mut call = Termination::new(Cancel::none(), Some(Deadline::within(secs(0))));
        std::future::poll_fn(|cx| {
            while tokio::task::coop::has_budget_remaining() {
                let proceed = std::pin::pin!(tokio::task::coop::consume_budget()).poll(cx);
                assert!(proceed.is_ready() || !tokio::task::coop::has_budget_remaining());
            }
            assert_ready_eq!(call.poll(cx), Terminated::DeadlinePassed);
            Poll::Ready(())
        })
        .await;
    }
}
