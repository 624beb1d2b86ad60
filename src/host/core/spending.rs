//! What a call spends, as the bridge takes it down: from any thread, and without the GIL.

use std::sync::{Arc, OnceLock};

use tokio::time::Instant;

use super::counters::{Count, LmCounters};
use crate::call::{
    Cause, LmOutcome, Spent,
    record::{
        account::{Account, Carried},
        attempt::Attempt,
    },
};

/// What is counted for a program.
#[derive(Debug)]
pub(crate) struct ProgramCounts {
    name: Box<str>,
    bypassed: Count,
}

impl ProgramCounts {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            bypassed: Count::default(),
        }
    }

    /// How many LM calls its calls made past the host.
    pub(crate) fn bypassed(&self) -> u64 {
        self.bypassed.get()
    }
}

/// One attempt's side of its call's account, which is opened when there is something to put in.
#[derive(Debug)]
pub(crate) struct Spending {
    began: Instant,
    number: u32,
    /// The account of the attempts before this one.
    before: Carried,
    program: Option<Arc<ProgramCounts>>,
    /// `None` in it: the call ended before it spent anything.
    attempt: OnceLock<Option<Arc<Attempt>>>,
}

impl Spending {
    pub(crate) fn new(number: u32, before: Carried, program: Option<Arc<ProgramCounts>>) -> Self {
        Self {
            began: Instant::now(),
            number,
            before,
            program,
            attempt: OnceLock::new(),
        }
    }

    /// The attempt, to put something down; `None` if it is over.
    pub(crate) fn attempt(&self, totals: &Arc<LmCounters>) -> Option<&Arc<Attempt>> {
        let open = || {
            let before = self.before.get().cloned();
            let account = before.unwrap_or_else(|| Account::new(self.began, Account::MOST));
            Some(Attempt::new(account, self.number, Some(totals.clone())))
        };
        self.attempt.get_or_init(open).as_ref()
    }

    /// The program calls an LM past the host.
    pub(crate) fn bypassed(&self, lm: &str, totals: &Arc<LmCounters>) {
        totals.bypassed.add(1);
        if let Some(attempt) = self.attempt(totals) {
            attempt.bypassed();
        }
        if let Some(program) = &self.program
            && program.bypassed.add(1) == 0
        {
            tracing::warn!(
                target: "tower_dspy",
                program = &*program.name,
                lm,
                "an LM call of the program went past the host: without its key, layers, limits and \
                 count of tokens, and on a thread such a call goes on after a cancel. Carried are \
                 the calls of `dspy.LM`, with DSPy's own engines, and those by httpx. Said once \
                 for a program; later calls are counted"
            );
        }
    }

    /// The LM calls are about to end, because of `cause`.
    pub(crate) fn stop(&self, cause: Cause) {
        if let Some(Some(attempt)) = self.attempt.get() {
            attempt.stop(outcome_of(cause));
        }
    }

    pub(crate) fn close(&self, end: Result<(), Cause>, totals: &LmCounters) {
        let outcome = end.err().map_or(LmOutcome::Cancelled, outcome_of);
        let Some(attempt) = self.attempt.get_or_init(|| None) else {
            return;
        };
        if let Some(closed) = attempt.close(outcome)
            && end.is_err()
        {
            totals.wasted_tokens.add(closed.tokens);
            totals.partials.add(u64::from(closed.partial));
        }
    }

    fn account(&self) -> Option<&Arc<Account>> {
        let attempt = self.attempt.get().and_then(Option::as_ref);
        attempt
            .map(|attempt| attempt.account())
            .or(self.before.get())
    }

    /// What the call spent so far, its earlier attempts included; `None` if that is nothing.
    pub(crate) fn spent(&self) -> Option<Arc<Spent>> {
        self.account().and_then(Account::spent)
    }

    pub(crate) fn carried(&self) -> Carried {
        Carried::new(self.account().cloned())
    }
}

/// What an LM call has come to that ended because of `cause`.
const fn outcome_of(cause: Cause) -> LmOutcome {
    match cause {
        Cause::Elapsed | Cause::Deadline => LmOutcome::Elapsed,
        _ => LmOutcome::Cancelled,
    }
}
