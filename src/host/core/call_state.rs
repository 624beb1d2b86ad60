//! The state of one call, which the caller's side and Python's side share.

use std::{
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tokio::task::AbortHandle;

use super::{call_account::CallAccount, count::GaugeGuard, counters::HostCounters, fault::Fault};

/// The outcome of a call.
pub(crate) type Outcome = Result<Value, Fault>;

/// What a call holds until all its work has ended: of a program the permit of its service and the
/// registrations of its LMs and tools, of a function the registrations. It is only dropped.
pub(crate) type CallPermit = Option<Box<dyn Send>>;

/// The state of a call. Each step is taken once, by the side that comes first.
pub(crate) struct CallState {
    counters: Arc<HostCounters>,
    account: CallAccount,
    progress: Mutex<CallProgress>,
}

#[derive(Default)]
struct CallProgress {
    cancelled: bool,
    /// The caller has the outcome, or has given up.
    answered: bool,
    settled: bool,
    /// Answered and not settled.
    orphan: Option<GaugeGuard>,
    /// No exchange may begin any more.
    closed: bool,
    exchanges: Vec<(u64, ExchangeAbort)>,
}

impl CallProgress {
    #[must_use]
    fn close_exchanges(&mut self) -> Vec<(u64, ExchangeAbort)> {
        self.closed = true;
        mem::take(&mut self.exchanges)
    }
}

impl CallState {
    pub(crate) fn new(counters: Arc<HostCounters>, account: CallAccount) -> Self {
        Self {
            counters,
            account,
            progress: Mutex::default(),
        }
    }

    pub(crate) const fn account(&self) -> &CallAccount {
        &self.account
    }

    pub(crate) fn counters(&self) -> &HostCounters {
        &self.counters
    }

    fn progress(&self) -> MutexGuard<'_, CallProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.progress().cancelled
    }

    /// Whether the call may call no LM any more.
    pub(crate) fn is_over(&self) -> bool {
        let progress = self.progress();
        progress.cancelled || progress.answered
    }

    /// The caller has its outcome, or has given up waiting: work that goes on is an orphan.
    pub(crate) fn set_answered(&self) {
        let mut progress = self.progress();
        if !progress.answered && !progress.settled {
            progress.orphan = Some(self.counters.orphans.guard());
        }
        progress.answered = true;
    }

    /// All work of the call has ended.
    pub(crate) fn settle(&self) {
        let mut progress = self.progress();
        if !mem::replace(&mut progress.settled, true) {
            // Before the call counts as settled: with none running there is no orphan.
            progress.orphan = None;
            self.account.attempt().settled();
            self.counters.settled.add(1);
        }
    }

    /// Starts an exchange, unless the call may not have one any more.
    pub(crate) fn begin_exchange(
        &self,
        id: u64,
        start: impl FnOnce() -> ExchangeAbort,
    ) -> Option<ExchangeAbort> {
        // Under the lock, so that a cancel comes before all of this or after it.
        let mut progress = self.progress();
        if progress.closed {
            return None;
        }
        let abort = start();
        progress.exchanges.push((id, abort.clone()));
        Some(abort)
    }

    pub(crate) fn exchange_ended(&self, id: u64) {
        self.progress().exchanges.retain(|(open, _)| *open != id);
    }

    /// Cancels the call; true the first time, when Python is to be signalled.
    ///
    /// The LM connections are closed before, and without an event: an error there would let a
    /// program that catches exceptions pay for one more LM call before the signal reaches it.
    pub(crate) fn cancel(&self) -> bool {
        let open = {
            let mut progress = self.progress();
            if mem::replace(&mut progress.cancelled, true) || progress.settled {
                return false;
            }
            progress.close_exchanges()
        };
        abort_all(open);
        self.counters.cancelled.add(1);
        true
    }

    /// Closes the connections of the call's exchanges, without an event for Python.
    pub(crate) fn close_exchanges(&self) {
        let open = self.progress().close_exchanges();
        abort_all(open);
    }
}

fn abort_all(exchanges: Vec<(u64, ExchangeAbort)>) {
    for (_, abort) in exchanges {
        abort.abort();
    }
}

impl fmt::Debug for CallState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallState").finish_non_exhaustive()
    }
}

/// A handle that ends an exchange.
#[derive(Clone, Debug)]
pub(crate) struct ExchangeAbort(AbortHandle);

impl ExchangeAbort {
    pub(crate) const fn new(task: AbortHandle) -> Self {
        Self(task)
    }

    /// Drops the exchange where it stands, which closes its connection: it drops the future of
    /// `LmHandle::send`; see `LmClient`, Cancel safety. The LM runtime does that,
    /// and wakes a thread that waits for an event: hundreds of calls may end at one moment, and
    /// each of their callers would wait for those that are woken before.
    pub(crate) fn abort(&self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::record::{AttemptRecord, CallRecord};

    fn call() -> (Arc<HostCounters>, CallState) {
        let counters = Arc::new(HostCounters::new(0));
        let attempt = AttemptRecord::new(CallRecord::open(), 0, None);
        let account = CallAccount::new(attempt, counters.lm.clone(), None);
        (counters.clone(), CallState::new(counters, account))
    }

    #[test]
    fn an_answered_call_is_an_orphan_until_it_is_settled() {
        let (counters, call) = call();
        call.set_answered();
        call.set_answered();
        assert_eq!((counters.orphans.get(), counters.settled.get()), (1, 0));
        call.settle();
        call.settle();
        assert_eq!((counters.orphans.get(), counters.settled.get()), (0, 1));
    }

    #[test]
    fn a_call_that_settles_before_its_answer_is_no_orphan() {
        let (counters, call) = call();
        call.settle();
        call.set_answered();
        assert_eq!((counters.orphans.get(), counters.settled.get()), (0, 1));
        assert!(call.is_over() && !call.is_cancelled());
    }

    #[test]
    fn a_call_is_cancelled_once_and_not_when_it_is_settled() {
        let (counters, call) = call();
        assert!(call.cancel());
        assert!(!call.cancel());
        assert_eq!(counters.cancelled.get(), 1);
        let (counters, settled) = self::call();
        settled.settle();
        assert!(!settled.cancel());
        assert_eq!(counters.cancelled.get(), 0);
    }

    #[tokio::test]
    async fn a_cancel_aborts_the_exchanges_and_admits_no_other() {
        let (_, call) = call();
        let work = tokio::spawn(std::future::pending::<()>());
        let abort = ExchangeAbort::new(work.abort_handle());
        assert!(call.begin_exchange(1, || abort.clone()).is_some());
        call.cancel();
        assert!(work.await.is_err_and(|error| error.is_cancelled()));
        assert!(call.begin_exchange(2, || abort).is_none());
    }
}
