//! A moment of looking out before the loop sleeps.
//!
//! Waking a thread that sleeps costs tens of microseconds where its processor has gone idle: more
//! than a short call itself. When the last calls came that close after each other, the loop looks
//! out for the next one, without the GIL, before it sleeps. When they did not, when the look-outs
//! were in vain, or while a call is under way that waits for something else, as for its LM, it
//! sleeps at once, so a host that waits for LMs spends nothing on this.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use pyo3::prelude::*;

use crate::host::core::{
    clock::{self, Moment},
    inbox::Inbox,
};

/// The longest look-out, and the longest gap between two calls that makes one worth while.
const LOOK_OUT: Duration = Duration::from_micros(100);
/// After so many in vain there are none until calls come fast again.
const IN_VAIN: u32 = 4;

/// Called by the loop's selector, on Python's thread.
#[pyclass(frozen)]
pub(super) struct Linger {
    inbox: Arc<Inbox>,
    /// On a single processor whoever is to push could not run meanwhile.
    alone: bool,
    in_vain: AtomicU32,
    asleep_since: Moment,
}

impl Linger {
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Self {
            inbox,
            alone: thread::available_parallelism().map_or(1, usize::from) == 1,
            in_vain: AtomicU32::new(IN_VAIN),
            asleep_since: Moment::default(),
        }
    }

    /// Whether the next thing to come is a new call. Those under way wait for something slower.
    fn idle(&self) -> bool {
        let counters = &self.inbox.counters;
        counters.settled.get() == counters.submitted.get()
    }

    fn wait(&self) -> bool {
        let began = clock::now();
        loop {
            for _ in 0..32 {
                if self.inbox.wakes() {
                    return true;
                }
                std::hint::spin_loop();
            }
            if clock::now() - began > LOOK_OUT {
                return false;
            }
        }
    }
}

#[pymethods]
impl Linger {
    /// Whether something came; if not, the loop is about to sleep.
    fn look_out(&self, py: Python<'_>) -> bool {
        let in_vain = self.in_vain.load(Ordering::Relaxed);
        if !self.alone && in_vain < IN_VAIN && self.idle() {
            if py.detach(|| self.wait()) {
                self.in_vain.store(0, Ordering::Relaxed);
                return true;
            }
            self.in_vain.store(in_vain + 1, Ordering::Relaxed);
        }
        self.asleep_since.touch();
        false
    }

    /// The loop has been woken.
    fn woke(&self) {
        if self.asleep_since.age() <= LOOK_OUT && self.inbox.wakes() {
            self.in_vain.store(0, Ordering::Relaxed);
        }
    }
}
