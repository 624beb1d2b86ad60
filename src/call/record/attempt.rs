//! What one attempt of a call adds to the call's account.
//!
//! Invariants:
//! 1. An attempt is closed once, when its outcome is out. The LM calls that are under way then are
//!    put down as ended by that; whatever comes later changes nothing in the account.
//! 2. The lock of an attempt is taken before that of its account.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[cfg(any(feature = "_host", test))]
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{LmCall, LmOutcome, account::Account};
use crate::call::Usage;

/// Hears what LM calls came to, for totals over many calls.
pub(crate) trait Totals: Send + Sync {
    /// An LM call has ended; or a limit, or the end of the call that it was made for, ended it.
    fn lm_call_ended(&self, call: &LmCall);

    /// DSPy found tokens in the answer to an LM call that has ended, and nobody else did.
    #[cfg(any(feature = "_host", test))]
    fn counted_by_dspy(&self, usage: Usage);

    /// The answer to an LM call has come, with these tokens, when nobody waited for it any more.
    fn answered_too_late(&self, tokens: u64);
}

/// One attempt of a call, or what else makes LM calls.
pub(crate) struct Attempt {
    account: Arc<Account>,
    number: u32,
    totals: Option<Arc<dyn Totals>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    closed: bool,
    /// What those that are dropped from now on have come to.
    stopped: Option<LmOutcome>,
    next: u64,
    /// The LM calls that are under way.
    open: Vec<(u64, Instant, LmCall)>,
    /// What this attempt spent of what its account holds.
    usage: Usage,
    #[cfg(any(feature = "_host", test))]
    partial: bool,
}

/// What an attempt had come to when it was closed.
#[cfg(any(feature = "_host", test))]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Closed {
    pub(crate) tokens: u64,
    pub(crate) partial: bool,
}

impl Attempt {
    pub(crate) fn new(
        account: Arc<Account>,
        number: u32,
        totals: Option<Arc<dyn Totals>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            account,
            number,
            totals,
            state: Mutex::default(),
        })
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// An LM call begins; its end is told by the number that is returned.
    pub(crate) fn begin(&self, mut call: LmCall) -> u64 {
        let began = Instant::now();
        call.started = began.saturating_duration_since(self.account.began);
        call.call_attempt = self.number;
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        if !state.closed {
            state.open.push((id, began, call));
        }
        id
    }

    /// More is known of an LM call that is under way.
    pub(crate) fn update(&self, id: u64, update: impl FnOnce(&mut LmCall)) {
        let mut state = self.lock();
        if let Some((_, _, call)) = state.open.iter_mut().find(|(open, ..)| *open == id) {
            update(call);
        }
    }

    /// The request of an LM call leaves.
    pub(crate) fn sent(&self, id: u64) {
        let now = self.account.began.elapsed();
        self.update(id, |call| {
            call.sent.get_or_insert(now);
        });
    }

    /// An LM call has ended.
    pub(crate) fn end(&self, id: u64, outcome: LmOutcome, tokens: u64) {
        let mut state = self.lock();
        let open = state.open.iter().position(|(open, ..)| *open == id);
        if let Some(open) = open {
            let (_, began, call) = state.open.swap_remove(open);
            let outcome = match (outcome, state.stopped) {
                (LmOutcome::Cancelled, Some(stopped)) => stopped,
                (outcome, _) => outcome,
            };
            self.put_down(&mut state, began, call, outcome);
        } else if outcome == LmOutcome::Answered
            && let Some(totals) = &self.totals
        {
            totals.answered_too_late(tokens);
        }
    }

    fn put_down(&self, state: &mut State, began: Instant, mut call: LmCall, outcome: LmOutcome) {
        call.duration = began.elapsed();
        call.outcome = outcome;
        state.usage.add(call.usage());
        if let Some(totals) = &self.totals {
            totals.lm_call_ended(&call);
        }
        let most = self.account.most;
        self.account.with(|spent| {
            spent.usage.add(call.usage());
            if spent.lm_calls.len() < most {
                spent.lm_calls.push(call);
            } else {
                spent.lm_calls_not_kept += 1;
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the bridge tells of the program.
#[cfg(any(feature = "_host", test))]
impl Attempt {
    /// The program gives a partial answer; false if nobody waits for one any more.
    pub(crate) fn partial(&self, fields: Map<String, Value>) -> bool {
        let mut state = self.lock();
        if !state.closed {
            state.partial = true;
            self.account.with(|spent| spent.partial = Some(fields));
        }
        !state.closed
    }

    /// The program has an LM's answer by an exchange of this number, and `usage` is DSPy's reading of
    /// it. That counts where none was found on the way.
    pub(crate) fn stepped(&self, exchange: Option<u64>, usage: Option<Usage>) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        let number = self.number;
        let counted = self.account.with(|spent| {
            spent.steps = spent.steps.saturating_add(1);
            let (exchange, usage) = (exchange?, usage?);
            let call = spent.lm_calls.iter_mut().rev().find(|call| {
                call.call_attempt == number
                    && call.exchange == Some(exchange)
                    && call.total_tokens.is_none()
            })?;
            call.prompt_tokens = Some(usage.prompt_tokens);
            call.completion_tokens = Some(usage.completion_tokens);
            call.total_tokens = Some(usage.total_tokens);
            spent.usage.add(usage);
            Some(usage)
        });
        if let Some(usage) = counted {
            state.usage.add(usage);
            if let Some(totals) = &self.totals {
                totals.counted_by_dspy(usage);
            }
        }
    }

    /// The program calls an LM past the host.
    pub(crate) fn bypassed(&self) {
        let state = self.lock();
        if !state.closed {
            self.account.with(|spent| spent.lm_calls_bypassed += 1);
        }
    }

    /// The LM calls that are under way are about to be dropped, which is `outcome` for them: where
    /// that happens, it is not known why.
    pub(crate) fn stop(&self, outcome: LmOutcome) {
        self.lock().stopped.get_or_insert(outcome);
    }

    /// The attempt is over, and `outcome` is that of the LM calls that are under way. `None` if it
    /// was closed before.
    pub(crate) fn close(&self, outcome: LmOutcome) -> Option<Closed> {
        let mut state = self.lock();
        if std::mem::replace(&mut state.closed, true) {
            return None;
        }
        let outcome = state.stopped.unwrap_or(outcome);
        for (_, began, call) in std::mem::take(&mut state.open) {
            self.put_down(&mut state, began, call, outcome);
        }
        Some(Closed {
            tokens: state.usage.total_tokens,
            partial: state.partial,
        })
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("number", &self.number)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::call::{CallContext, Cause, Spent, drop_scope, record::account::Carried};

    fn call() -> LmCall {
        LmCall::new("openai", "m", LmOutcome::Failed)
    }

    fn account() -> Arc<Account> {
        Account::new(Instant::now(), 2)
    }

    fn outcomes(account: &Account) -> Vec<(LmOutcome, u32)> {
        let calls = |spent: &Spent| {
            let calls = spent.lm_calls.iter();
            calls
                .map(|call| (call.outcome, call.call_attempt))
                .collect()
        };
        account.with(|spent| calls(spent))
    }

    #[derive(Default)]
    struct Heard {
        ended: AtomicU64,
        late: AtomicU64,
    }

    impl Totals for Heard {
        fn lm_call_ended(&self, _: &LmCall) {
            self.ended.fetch_add(1, Ordering::Relaxed);
        }

        fn counted_by_dspy(&self, usage: Usage) {
            self.ended.fetch_add(usage.total_tokens, Ordering::Relaxed);
        }

        fn answered_too_late(&self, tokens: u64) {
            self.late.fetch_add(tokens, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_is_under_way_at_the_end_is_put_down_and_what_comes_later_is_late() {
        let heard = Arc::new(Heard::default());
        let attempt = Attempt::new(account(), 1, Some(heard.clone()));
        let (first, second) = (attempt.begin(call()), attempt.begin(call()));
        attempt.update(first, |call| call.total_tokens = Some(21));
        attempt.end(first, LmOutcome::Answered, 21);
        attempt.update(second, |call| call.status = Some(200));
        let closed = attempt.close(LmOutcome::Elapsed);
        let closed = closed.map(|closed| (closed.tokens, closed.partial));
        assert_eq!(closed, Some((21, false)));
        assert!(attempt.close(LmOutcome::Cancelled).is_none());

        attempt.end(second, LmOutcome::Answered, 7);
        attempt.end(attempt.begin(call()), LmOutcome::Failed, 0);
        assert!(!attempt.partial(Map::new()));
        attempt.stepped(None, None);
        attempt.bypassed();

        let expected = [(LmOutcome::Answered, 1), (LmOutcome::Elapsed, 1)];
        assert_eq!(outcomes(attempt.account()), expected);
        attempt.account().with(|spent| {
            assert_eq!((spent.steps, spent.lm_calls_bypassed), (0, 0));
            assert_eq!(
                (spent.usage.total_tokens, spent.partial.is_some()),
                (21, false)
            );
            assert_eq!(spent.lm_calls[1].status, Some(200));
        });
        let heard = [&heard.ended, &heard.late].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(heard, [2, 7]);
    }

    #[test]
    fn what_is_dropped_after_a_stop_ended_by_what_stopped_it() {
        let attempt = Attempt::new(Account::new(Instant::now(), 9), 0, None);
        let [dropped, answered, left] = [(); 3].map(|()| attempt.begin(call()));
        attempt.stop(LmOutcome::Elapsed);
        attempt.stop(LmOutcome::Cancelled);
        attempt.end(dropped, LmOutcome::Cancelled, 0);
        attempt.end(answered, LmOutcome::Answered, 0);
        attempt.close(LmOutcome::Cancelled);
        attempt.end(left, LmOutcome::Cancelled, 0);
        let outcomes = outcomes(attempt.account()).into_iter();
        let expected = [LmOutcome::Elapsed, LmOutcome::Answered, LmOutcome::Elapsed];
        assert_eq!(
            outcomes.map(|(outcome, _)| outcome).collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn the_tokens_of_calls_that_are_not_kept_count() {
        let attempt = Attempt::new(account(), 0, None);
        for _ in 0..3 {
            let id = attempt.begin(call());
            attempt.update(id, |call| call.total_tokens = Some(5));
            attempt.end(id, LmOutcome::Answered, 5);
        }
        attempt.account().with(|spent| {
            let kept = (spent.lm_calls.len(), spent.lm_calls_not_kept);
            assert_eq!((kept, spent.usage.total_tokens), ((2, 1), 15));
        });
    }

    #[test]
    fn accounts_that_met_are_one_for_all_who_hold_them() {
        let spend = |account: &Arc<Account>| {
            let attempt = Attempt::new(account.clone(), 0, None);
            attempt.stepped(None, None);
            attempt
        };
        let (one, other, third) = (account(), account(), account());
        let attempts = [&one, &other, &third].map(spend);
        for (mine, theirs) in [
            (&one, &other),
            (&other, &one),
            (&third, &other),
            (&one, &third),
        ] {
            mine.take_over(&theirs.spent().unwrap());
            assert!(mine.is_one_with(theirs));
        }
        attempts[1].stepped(None, None);
        for account in [one, other, third] {
            assert_eq!(account.spent().map(|spent| spent.steps), Some(4));
        }
    }

    #[test]
    fn a_context_that_a_layer_drops_tells_of_the_attempts_before_it_once() {
        let attempt = Attempt::new(account(), 0, None);
        attempt.end(attempt.begin(call()), LmOutcome::Failed, 0);
        let account = Some(attempt.account().clone());
        let mut context = CallContext::new();
        context.account = Carried::new(account);
        let clone = context.clone();
        drop(clone.clone());
        let spent = drop_scope::collect(Cause::Deadline, || drop((context, clone)));
        assert_eq!(spent.map(|spent| spent.lm_calls.len()), Some(1));
        assert!(drop_scope::collect(Cause::Deadline, || drop(CallContext::new())).is_none());
    }
}
