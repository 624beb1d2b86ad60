//! What a call spends, as the host records it: from any thread, and without the GIL.

use std::sync::Arc;

use super::{count::Count, counters::LmCounters};
use crate::call::{Cause, Spent, record::AttemptRecord};

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

/// One attempt's side of the record of its call, and the totals that it counts in.
#[derive(Debug)]
pub(crate) struct CallAccount {
    attempt: Arc<AttemptRecord>,
    totals: Arc<LmCounters>,
    program: Option<Arc<ProgramCounts>>,
}

impl CallAccount {
    pub(crate) const fn new(
        attempt: Arc<AttemptRecord>,
        totals: Arc<LmCounters>,
        program: Option<Arc<ProgramCounts>>,
    ) -> Self {
        Self {
            attempt,
            totals,
            program,
        }
    }

    /// The attempt, for what is written into its record alone.
    pub(crate) const fn attempt(&self) -> &Arc<AttemptRecord> {
        &self.attempt
    }

    /// The program calls an LM past the host.
    pub(crate) fn bypassed(&self, lm: &str) {
        self.totals.bypassed.add(1);
        self.attempt.bypassed();
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

    /// Closes the attempt, with an answer or because of a cause. Returns what the call spent, its
    /// earlier attempts included; `None` if that is nothing.
    pub(crate) fn close(&self, end: Result<(), Cause>) -> Option<Arc<Spent>> {
        if let Some(closed) = self.attempt.close(end)
            && end.is_err()
        {
            self.totals.wasted_tokens.add(closed.tokens);
            self.totals.partials.add(u64::from(closed.partial));
        }
        self.attempt.record().spent()
    }
}
