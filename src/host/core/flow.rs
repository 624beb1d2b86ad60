//! The flow control of an exchange: the host reads a streamed answer only as fast as the program.

use std::{
    future::poll_fn,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

/// The host stops reading an answer while more than these bytes of it are unread.
pub(super) const LIMIT: usize = 256 << 10;

/// The bytes of an answer's chunks that were sent to the program and that it has not read yet.
#[derive(Debug, Default)]
pub(crate) struct ExchangeFlow {
    unread: AtomicUsize,
    /// Of the one task that reads the answer.
    waker: AtomicWaker,
}

impl ExchangeFlow {
    /// Counts the bytes of a chunk that is sent to the program.
    pub(super) fn sent(&self, bytes: usize) {
        self.unread.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Counts bytes that the program has read.
    pub(crate) fn read(&self, bytes: usize) {
        // More than were sent are all of them.
        let rest = |unread: usize| Some(unread.saturating_sub(bytes));
        let before = self
            .unread
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, rest)
            .unwrap_or_default();
        if before > LIMIT && before.saturating_sub(bytes) <= LIMIT {
            self.waker.wake();
        }
    }

    /// Whether the answer is not to be read now.
    pub(super) fn is_full(&self) -> bool {
        self.is_full_with(0)
    }

    /// Whether it is not, once these bytes are sent.
    pub(super) fn is_full_with(&self, bytes: usize) -> bool {
        self.unread.load(Ordering::SeqCst).saturating_add(bytes) > LIMIT
    }

    /// Waits while the flow is full.
    pub(super) async fn wait_until_read(&self) {
        poll_fn(|cx| self.poll_until_read(cx)).await;
    }

    fn poll_until_read(&self, cx: &Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        match self.is_full() {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    #[test]
    fn a_flow_is_full_above_its_limit_and_until_enough_is_read() {
        let flow = ExchangeFlow::default();
        flow.sent(LIMIT);
        assert!(!flow.is_full());
        assert_ready!(task::spawn(flow.wait_until_read()).poll());
        flow.sent(10);
        let mut wait = task::spawn(flow.wait_until_read());
        assert_pending!(wait.poll());
        flow.read(9);
        assert!(!wait.is_woken() && flow.is_full());
        flow.read(1);
        assert!(wait.is_woken());
        assert_ready!(wait.poll());
    }

    #[test]
    fn what_is_read_between_the_look_and_the_wait_is_not_missed() {
        let flow = ExchangeFlow::default();
        flow.sent(LIMIT + 1);
        let mut wait = task::spawn(flow.wait_until_read());
        flow.read(1);
        assert_ready!(wait.poll());
    }

    #[test]
    fn a_program_that_reports_more_than_it_got_has_read_all() {
        let flow = ExchangeFlow::default();
        flow.sent(LIMIT + 1);
        flow.read(usize::MAX);
        flow.sent(LIMIT);
        assert!(!flow.is_full());
        flow.sent(1);
        assert!(flow.is_full());
    }
}
