//! One attempt's side of the record of its call.

use std::{fmt, sync::Arc, time::Duration};

#[cfg(any(feature = "_host", test))]
use serde_json::{Map, Value};
use tokio::time::Instant;

#[cfg(any(feature = "_host", test))]
use super::tools::first_chars;
use super::{
    CallRecord, LmCall, LmOutcome,
    attempt_state::{AttemptState, OpenLmCall},
    call_record::Costs,
    totals::{LateAnswer, Totals},
};
use crate::call::{BudgetRefusal, Cost};
#[cfg(any(feature = "_host", test))]
use crate::call::{Cause, Deadline, Usage};

/// The record of one attempt, or of other LM calls. Invariants: see [`CallRecord`]'s file.
pub(crate) struct AttemptRecord {
    pub(super) record: Arc<CallRecord>,
    /// Of the attempt in the record.
    pub(super) key: u64,
    pub(super) number: u32,
    totals: Option<Arc<dyn Totals>>,
}

/// What an attempt had spent when it was closed.
#[cfg(any(feature = "_host", test))]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClosedAttempt {
    pub(crate) tokens: u64,
    pub(crate) partial: bool,
    /// From when it was queued.
    pub(crate) took: Duration,
}

impl AttemptRecord {
    /// The attempt that `number` others came before is handed over.
    pub(crate) fn new(
        record: Arc<CallRecord>,
        number: u32,
        totals: Option<Arc<dyn Totals>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            key: record.attempt(number),
            record,
            number,
            totals,
        })
    }

    pub(crate) fn record(&self) -> &Arc<CallRecord> {
        &self.record
    }

    /// Begins an LM call; returns the number that ends it.
    pub(crate) fn begin(&self, mut call: LmCall) -> u64 {
        self.write(|attempt, costs| {
            let began = Instant::now();
            call.started = since_origin(costs, began);
            call.call_attempt = self.number;
            call.attempt_key = self.key;
            let id = attempt.next_id;
            attempt.next_id += 1;
            attempt.lm_call_begins();
            if attempt.stages.ended.is_none() {
                if let Some(totals) = &self.totals {
                    totals.lm_call_begun(&call);
                }
                if attempt.open.is_empty() {
                    // Most attempts have one at a time.
                    attempt.open.reserve_exact(1);
                }
                attempt.open.push(OpenLmCall { id, began, call });
            }
            id
        })
    }

    /// More is known of an LM call that is under way.
    pub(crate) fn update(&self, id: u64, update: impl FnOnce(&mut LmCall)) {
        self.update_at(id, |call, _| update(call));
    }

    /// The request of an LM call is sent.
    pub(crate) fn sent(&self, id: u64) {
        self.update_at(id, |call, now| {
            call.sent.get_or_insert(now);
        });
    }

    /// The head of the answer to an LM call came.
    pub(crate) fn answer_begins(&self, id: u64, status: u16) {
        self.update_at(id, |call, now| {
            call.status = Some(status);
            call.first_byte.get_or_insert(now);
        });
    }

    /// More is known of an LM call that is under way, and of when it was known.
    pub(crate) fn update_at(&self, id: u64, update: impl FnOnce(&mut LmCall, Duration)) {
        self.write(|attempt, costs| {
            if let Some(open) = attempt.open.iter_mut().find(|open| open.id == id) {
                update(&mut open.call, since_origin(costs, Instant::now()));
            }
        });
    }

    /// An LM call has ended; false if that is an answer after the end of the attempt.
    pub(crate) fn end(&self, id: u64, outcome: LmOutcome) -> bool {
        let ended = self.write(|attempt, costs| {
            let index = attempt.open.iter().position(|open| open.id == id)?;
            let open = attempt.open.swap_remove(index);
            let outcome = match (outcome, attempt.stopped) {
                (LmOutcome::Cancelled, Some(stopped)) => stopped,
                (outcome, _) => outcome,
            };
            Some(close_lm_call(attempt, costs, open, outcome))
        });
        if let (Some(call), Some(totals)) = (&ended, &self.totals) {
            totals.lm_call_ended(call);
        }
        ended.is_some() || outcome != LmOutcome::Answered
    }

    /// The outcome of an LM call that is dropped with the attempt; `None` if nothing stopped the attempt.
    pub(crate) fn stopped(&self) -> Option<LmOutcome> {
        self.write(|attempt, _| {
            let cause = attempt.stages.cause.map(LmOutcome::of_cause);
            attempt.stopped.or(cause)
        })
    }

    /// A budget refused an LM call. The last refusal is kept: a program may go on after the others.
    pub(crate) fn over_budget(&self, refusal: BudgetRefusal) {
        self.write(|attempt, _| attempt.over_budget = Some(refusal));
    }

    /// The last refusal of an LM call for a budget.
    #[cfg(any(feature = "_host", test))]
    pub(crate) fn budget_refusal(&self) -> Option<BudgetRefusal> {
        self.write(|attempt, _| attempt.over_budget.clone())
    }

    /// An LM call was refused by a layer that asked for this wait.
    #[cfg(any(feature = "_host", test))]
    pub(crate) fn refused_for(&self, wait: Duration) {
        self.write(|attempt, _| attempt.refusal_wait = Some(wait));
    }

    /// The wait that a layer asked for when it refused the last LM call.
    #[cfg(any(feature = "_host", test))]
    pub(crate) fn refusal_wait(&self) -> Option<Duration> {
        self.write(|attempt, _| attempt.refusal_wait)
    }

    /// The answer to an LM call came after the end of this attempt.
    pub(crate) fn answered_too_late(&self, late: LateAnswer<'_>) {
        self.record.add_late_tokens(late.tokens);
        if let Some(totals) = &self.totals {
            totals.answered_too_late(late);
        }
    }

    /// The provider was asked to abort an LM call.
    pub(crate) fn abort_ended(&self, lm: (&str, &str), is_accepted: bool) {
        if let Some(totals) = &self.totals {
            totals.abort_ended(lm, is_accepted);
        }
    }

    /// Writes into the attempt, and into the costs of all.
    fn write<T: Default>(&self, write: impl FnOnce(&mut AttemptState, &mut Costs) -> T) -> T {
        let mut state = self.record.lock();
        // The record forgets attempts that are over, beyond a bound.
        let attempt = state.attempt_of(self.key);
        attempt.map_or_else(T::default, |(attempt, costs)| write(attempt, costs))
    }

    #[cfg(any(feature = "_host", test))]
    fn write_open<T: Default>(&self, write: impl FnOnce(&mut AttemptState, &mut Costs) -> T) -> T {
        self.write(|attempt, costs| match attempt.stages.ended {
            None => write(attempt, costs),
            Some(_) => T::default(),
        })
    }
}

/// Adds an LM call that has ended to the costs. It is returned for the totals, which are foreign code
/// and not called under the lock.
fn close_lm_call(
    attempt: &mut AttemptState,
    costs: &mut Costs,
    open: OpenLmCall,
    outcome: LmOutcome,
) -> LmCall {
    let OpenLmCall {
        began, mut call, ..
    } = open;
    call.duration = began.elapsed();
    call.outcome = outcome;
    attempt.usage.add(call.usage());
    costs.spent.usage.add(call.usage());
    costs.spent.cost.add(Cost::of(&call));
    if costs.spent.lm_calls.len() < costs.most {
        costs.spent.lm_calls.push(call.clone());
    } else {
        costs.spent.lm_calls_not_kept += 1;
    }
    call
}

fn since_origin(costs: &Costs, now: Instant) -> Duration {
    costs.origin.map_or_else(Default::default, |origin| {
        now.saturating_duration_since(origin)
    })
}

/// What the host reports of the program.
#[cfg(any(feature = "_host", test))]
impl AttemptRecord {
    /// Python begins to run the program.
    pub(crate) fn started(&self) {
        self.write(|attempt, _| {
            attempt.stages.started.get_or_insert_with(Instant::now);
        });
    }

    /// The program gives a partial answer; false if the attempt is closed.
    pub(crate) fn partial(&self, fields: Map<String, Value>) -> bool {
        self.write_open(|attempt, costs| {
            attempt.partial = true;
            costs.spent.partial = Some(fields);
            true
        })
    }

    /// The texts of a stream that ends without an answer are its partial answer, unless the program
    /// left one.
    pub(crate) fn streamed(&self, fields: Map<String, Value>) {
        self.write_open(|attempt, costs| {
            if !attempt.partial && !fields.is_empty() {
                attempt.partial = true;
                costs.spent.partial = Some(fields);
            }
        });
    }

    /// The program has an LM's answer by an exchange of this number, and `usage` is DSPy's reading of
    /// it. That counts where none was found on the way.
    pub(crate) fn stepped(&self, exchange: Option<u64>, usage: Option<Usage>) {
        let counted = self.write_open(|attempt, costs| {
            let spent = &mut costs.spent;
            spent.steps = spent.steps.saturating_add(1);
            let (exchange, usage) = (exchange?, usage?);
            let call = spent.lm_calls.iter_mut().rev().find(|call| {
                call.attempt_key == self.key
                    && call.exchange == Some(exchange)
                    && call.total_tokens.is_none()
            })?;
            let before = Cost::of(call);
            call.count(usage);
            spent.cost.replace(before, Cost::of(call));
            spent.usage.add(usage);
            attempt.usage.add(usage);
            Some((call.clone(), usage, before))
        });
        if let (Some((call, usage, before)), Some(totals)) = (counted, &self.totals) {
            totals.counted_by_dspy(&call, usage, before);
        }
    }

    /// The program calls an LM past the host.
    pub(crate) fn bypassed(&self) {
        self.write_open(|_, costs| costs.spent.lm_calls_bypassed += 1);
    }

    /// The attempt has this limit of its own; `None` if only the deadline of the call limits it.
    pub(crate) fn limit(&self, limit: Option<Deadline>) {
        self.write(|attempt, _| attempt.stages.limit = limit);
    }

    /// Records `cause` before the work is signalled; a layer drops the work at `drops_at`, if one
    /// enforces the end. LM calls that are dropped from then on take the cause as theirs: the code in
    /// their drop does not know it.
    pub(crate) fn stop(&self, cause: Cause, drops_at: Option<Instant>) {
        self.write(|attempt, _| {
            attempt.stopped.get_or_insert(LmOutcome::of_cause(cause));
            let stages = &mut attempt.stages;
            if stages.signalled.is_none() {
                stages.signalled = Some(Instant::now());
                stages.cause = Some(cause);
                stages.drops_at = drops_at;
            }
        });
    }

    /// Closes the attempt, with an answer, with an error of its own or because of a cause. `None` if it
    /// was closed before.
    pub(crate) fn close(&self, end: Result<(), Option<Cause>>) -> Option<ClosedAttempt> {
        let mut ended = Vec::new();
        let closed = self.write_open(|attempt, costs| {
            let cause = end.err().flatten();
            attempt.stages.ended = Some(Instant::now());
            attempt.stages.is_answered = end.is_ok();
            attempt.stages.cause = cause.or(attempt.stages.cause);
            let outcome = cause.map_or(LmOutcome::Cancelled, LmOutcome::of_cause);
            let outcome = attempt.stopped.unwrap_or(outcome);
            for open in std::mem::take(&mut attempt.open) {
                ended.push(close_lm_call(attempt, costs, open, outcome));
            }
            let tokens = attempt.usage.total_tokens;
            if end.is_err() {
                costs.wasted_tokens = costs.wasted_tokens.saturating_add(tokens);
            }
            let queued = attempt.stages.queued;
            Some(ClosedAttempt {
                tokens,
                partial: attempt.partial,
                took: queued.map(|queued| queued.elapsed()).unwrap_or_default(),
            })
        });
        if let Some(totals) = &self.totals {
            for call in &ended {
                totals.lm_call_ended(call);
            }
        }
        closed
    }

    /// All work of the attempt has ended; it had left tasks and threads of these names behind. Returns
    /// how long ago it was signalled to stop, if it was.
    pub(crate) fn settled(&self, strays: &[String]) -> Option<Duration> {
        let mut state = self.record.lock();
        let mut since_stop = None;
        if let Some((attempt, _)) = state.attempt_of(self.key) {
            let stages = &mut attempt.stages;
            let settled = *stages.settled.get_or_insert_with(Instant::now);
            let told = stages.signalled;
            since_stop = told.map(|told| settled.saturating_duration_since(told));
            let strays = strays.iter().take(MOST_STRAYS);
            stages
                .strays
                .extend(strays.map(|name| first_chars(name, STRAY).into()));
        }
        state.tools.end_all(self.key);
        self.record.settle_if_idle(state);
        since_stop
    }
}

/// How many names of strays an attempt keeps.
#[cfg(any(feature = "_host", test))]
const MOST_STRAYS: usize = 8;

/// How many characters of the name of a stray are kept.
#[cfg(any(feature = "_host", test))]
const STRAY: usize = 100;

impl fmt::Debug for AttemptRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptRecord")
            .field("number", &self.number)
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}
