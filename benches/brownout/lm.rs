//! The LM: a number of slots, each of which serves one call at a time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::sleep,
};
use tower::BoxError;
use tower_dspy::LmError;

use crate::ledger::Ledger;

/// The calls that it serves at once in full capacity.
pub(crate) const SLOTS: usize = 2_000;
/// And in the brown-out.
pub(crate) const SLOTS_LEFT: usize = SLOTS / 10;
/// The least that an answer takes, and the mean of the rest, which is exponential.
const LEAST: Duration = Duration::from_millis(500);
const MEAN_REST: Duration = Duration::from_millis(1_000);
/// How long a refusal takes.
const REFUSAL: Duration = Duration::from_millis(20);

/// What the LM does with a call for which no slot is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It queues: first come, first served, without a bound, as vLLM does.
    Queues,
    /// It refuses, by 429, as hosted LMs do.
    Refuses,
}

pub(crate) const MANNERS: [Manner; 2] = [Manner::Queues, Manner::Refuses];

impl Manner {
    pub(crate) const fn description(self) -> &'static str {
        match self {
            Self::Queues => "An LM that queues what it has no slot for (first come, first served):",
            Self::Refuses => "An LM that refuses what it has no slot for (429):",
        }
    }
}

/// An LM; a call that is dropped leaves its queue, or frees its slot.
pub(crate) struct Lm {
    manner: Manner,
    slots: Semaphore,
    /// Slots that are to go once their calls have ended.
    excess: AtomicUsize,
    random: std::sync::Mutex<fastrand::Rng>,
    ledger: Arc<Ledger>,
}

impl Lm {
    pub(crate) fn new(manner: Manner, seed: u64, ledger: Arc<Ledger>) -> Self {
        Self {
            manner,
            slots: Semaphore::new(SLOTS),
            excess: AtomicUsize::new(0),
            random: std::sync::Mutex::new(fastrand::Rng::with_seed(seed)),
            ledger,
        }
    }

    /// Answers one call.
    pub(crate) async fn call(&self) -> Result<(), BoxError> {
        self.ledger.lm_called();
        let permit = match self.manner {
            Manner::Queues => self.slots.acquire().await?,
            Manner::Refuses => match self.slots.try_acquire() {
                Ok(permit) => permit,
                Err(_) => {
                    sleep(REFUSAL).await;
                    let refused = LmError::new("LMRateLimitError", "no slot", Some(429), None);
                    return Err(tower_dspy::Error::from(refused).into());
                }
            },
        };
        let _slot = Slot(self, Some(permit));
        let took = self.took();
        sleep(took).await;
        Ok(())
    }

    fn took(&self) -> Duration {
        let share = self.random.lock().expect("no panic").f64();
        LEAST + MEAN_REST.mul_f64(-(1.0 - share).ln())
    }

    /// Takes away all but [`SLOTS_LEFT`] slots; those that serve a call, once it has ended.
    pub(crate) fn brown_out(&self) {
        let away = SLOTS - SLOTS_LEFT;
        let free = self.slots.forget_permits(away);
        self.excess.store(away - free, Ordering::Relaxed);
    }

    /// Has all its slots again.
    pub(crate) fn end_brown_out(&self) {
        let still_there = self.excess.swap(0, Ordering::Relaxed);
        self.slots.add_permits(SLOTS - SLOTS_LEFT - still_there);
    }
}

/// A slot that serves a call.
struct Slot<'a>(&'a Lm, Option<SemaphorePermit<'a>>);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let excess = &self.0.excess;
        let less = |excess: usize| excess.checked_sub(1);
        if excess
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
            && let Some(permit) = self.1.take()
        {
            permit.forget();
        }
    }
}
