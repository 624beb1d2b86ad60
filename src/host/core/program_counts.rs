//! The counts of a program.

use std::sync::atomic::{AtomicU64, Ordering};

/// The counts of one program.
#[derive(Debug)]
pub(crate) struct ProgramCounts {
    name: Box<str>,
    bypassed: AtomicU64,
}

impl ProgramCounts {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            bypassed: AtomicU64::new(0),
        }
    }

    /// How many LM calls its calls made past the host.
    pub(crate) fn bypassed(&self) -> u64 {
        self.bypassed.load(Ordering::Relaxed)
    }

    /// Counts a call of `lm` past the host, and logs the first.
    pub(super) fn count_bypass(&self, lm: &str) {
        if self.bypassed.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(
                target: "tower_dspy",
                program = &*self.name,
                lm,
                "an LM call of the program went past the host: without its key, layers, limits and \
                 count of tokens, and on a thread such a call goes on after a cancel. Carried are \
                 the calls of `dspy.LM`, with DSPy's own engines, and those by httpx. Said once \
                 for a program; later calls are counted"
            );
        }
    }
}
