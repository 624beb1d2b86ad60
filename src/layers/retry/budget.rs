//! How many retries the traffic as a whole may cost.
//!
//! Invariants, in units of a thousandth of a retry, so that every whole permille is exact:
//! 1. `available` = floor + what the last ttl deposited - what it spent - what is reserved now.
//! 2. A reservation is taken out of `available` at once and is spent, in the slot of that moment,
//!    only when it is committed. Given back, it leaves no trace: a deposit in its place would
//!    outlive the withdrawal that it undoes.
//! 3. All happens under one lock: concurrent callers never overspend.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::sync::{Mutex, MutexGuard, PoisonError};

/// One retry.
const RETRY: i64 = 1000;
/// A ttl is counted in this many slots, so a deposit lasts between 0.9 and 1 ttl.
const SLOTS: usize = 10;

/// Bounds the retries of all calls together, to a share of the requests and a small reserve.
///
/// A limit of retries a call does not protect a provider that is down: with two retries, everybody
/// sends three times the usual. A budget does: each request deposits a share of a retry, each retry
/// takes a whole one, and when nothing is left failures are passed on at once.
///
/// The scheme is that of Finagle's `RetryBudget`: a share of the requests of the last 10 s, and a
/// reserve, so that a client with little traffic can retry at all. So `n` requests within the ttl cause
/// at most `n * share + reserve` retries. The arithmetic is in integers and exact, where
/// `tower::retry::budget::TpsBudget` rounds 40 % to 50 %.
///
/// # The default
/// 20 % of the requests that were [answered](RetryBudgetOptions::of_answers) in the last 10 s, and a
/// reserve of 1 retry a second (10 within those 10 s). Finagle's share is of all requests, and its
/// reserve is 10 a second. That is for thousands of calls a second: 100 nodes of which each makes 10 LM
/// calls a second would send a provider in trouble 2.2 times the usual (`cargo bench --bench brownout`).
///
/// Clones share one balance: hand the same budget to all that call one provider.
///
/// ```
/// use tower_dspy::{RetryBudget, layers::RetryBudgetOptions};
///
/// let budget = RetryBudget::new(RetryBudgetOptions::permille(500).with_reserve(0));
/// assert_eq!(budget.available(), 0);
/// let shared = budget.clone();
/// assert_eq!(shared.available(), budget.available());
/// assert_eq!(RetryBudget::default().available(), 10);
/// ```
#[derive(Clone)]
pub struct RetryBudget(Option<Arc<RetryBucket>>);

struct RetryBucket {
    options: RetryBudgetOptions,
    state: Mutex<RetryBucketState>,
}

/// What a [`RetryBudget`] allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudgetOptions {
    deposit: u32,
    of_answers: bool,
    reserve_per_second: u32,
    ttl: Duration,
}

impl RetryBudgetOptions {
    /// `share` retries for each 1000 requests, at most 1 000 000; with a reserve of 10 retries a
    /// second and a ttl of 10 s.
    #[must_use]
    pub const fn permille(share: u32) -> Self {
        Self {
            deposit: if share > 1_000_000 { 1_000_000 } else { share },
            of_answers: false,
            reserve_per_second: 10,
            ttl: Duration::from_secs(10),
        }
    }

    /// Makes it a share of the requests that are answered: each deposits when its answer comes, and one
    /// that fails deposits nothing.
    ///
    /// While a provider fails now and then, that is nearly the same. While it fails altogether, only
    /// the reserve is left: retries of what all fails are load without use. The retry quota of the
    /// AWS SDKs' standard mode is refilled by successes too.
    #[must_use]
    pub const fn of_answers(mut self) -> Self {
        self.of_answers = true;
        self
    }

    /// Allows `per_second` retries a second whatever the traffic. They are counted over the ttl, so
    /// a burst may use up all of them.
    #[must_use]
    pub const fn with_reserve(mut self, per_second: u32) -> Self {
        self.reserve_per_second = per_second;
        self
    }

    /// Lets requests and retries count for `ttl`: between 1 s and 60 s, and the nearer of the two if
    /// it is neither.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl.clamp(Duration::from_secs(1), Duration::from_secs(60));
        self
    }
}

struct RetryBucketState {
    /// The newest first.
    slots: [i64; SLOTS],
    /// When the newest slot began.
    since: Instant,
    reserved: i64,
}

impl RetryBudget {
    /// A budget with these options, and nothing deposited yet.
    #[must_use]
    pub fn new(options: RetryBudgetOptions) -> Self {
        Self(Some(Arc::new(RetryBucket {
            options,
            state: Mutex::new(RetryBucketState {
                slots: [0; SLOTS],
                since: Instant::now(),
                reserved: 0,
            }),
        })))
    }

    /// A budget of `share` retries for each 1000 requests, with the default reserve and ttl.
    #[must_use]
    pub fn permille(share: u32) -> Self {
        Self::new(RetryBudgetOptions::permille(share))
    }

    /// No bound but that of each call. For tests, and where another layer bounds the traffic.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self(None)
    }

    /// How many retries the budget would allow now; `u64::MAX` if it is unlimited.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.0.as_ref().map_or(u64::MAX, |bucket| {
            u64::try_from(bucket.available(&bucket.now()) / RETRY).unwrap_or(0)
        })
    }

    /// Counts a request, not its retries.
    #[inline]
    pub(in crate::layers) fn deposit(&self) {
        self.deposit_for(false);
    }

    /// Counts the answer of a request.
    #[inline]
    pub(in crate::layers) fn deposit_answer(&self) {
        self.deposit_for(true);
    }

    fn deposit_for(&self, answer: bool) {
        if let Some(bucket) = &self.0
            && bucket.options.of_answers == answer
        {
            bucket.now().slots[0] += i64::from(bucket.options.deposit);
        }
    }

    /// Sets one retry aside, if there is one.
    pub(in crate::layers) fn reserve(&self) -> Option<Reservation> {
        if let Some(bucket) = &self.0 {
            let mut state = bucket.now();
            if bucket.available(&state) < RETRY {
                return None;
            }
            state.reserved += RETRY;
        }
        Some(Reservation(self.clone()))
    }
}

/// 20 % of the requests that were answered in the last 10 s, and 1 a second.
impl Default for RetryBudget {
    fn default() -> Self {
        let share = RetryBudgetOptions::permille(200);
        Self::new(share.of_answers().with_reserve(1))
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(bucket) = &self.0 else {
            return f.write_str("RetryBudget(unlimited)");
        };
        f.debug_struct("RetryBudget")
            .field("permille", &bucket.options.deposit)
            .field("of_answers", &bucket.options.of_answers)
            .field("reserve_per_second", &bucket.options.reserve_per_second)
            .field("ttl", &bucket.options.ttl)
            .field("available", &self.available())
            .finish()
    }
}

impl RetryBucket {
    /// The state as of now: what lies in slots that are too old is gone.
    fn now(&self) -> MutexGuard<'_, RetryBucketState> {
        let mut state = self.lock();
        let slot = self.options.ttl / SLOTS as u32;
        let age = Instant::now().saturating_duration_since(state.since);
        let passed = u32::try_from(age.as_nanos() / slot.as_nanos()).unwrap_or(u32::MAX);
        // Slots keep their rhythm, however late somebody looks.
        state.since += slot * passed;
        let passed = (passed as usize).min(SLOTS);
        state.slots.rotate_right(passed);
        state.slots[..passed].fill(0);
        state
    }

    fn lock(&self) -> MutexGuard<'_, RetryBucketState> {
        // Nothing panics while it holds the lock; numbers have no broken state anyway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn available(&self, state: &RetryBucketState) -> i64 {
        // Retries a second, times milliseconds: thousandths of a retry. A ttl is a minute at most.
        let millis = self.options.ttl.as_millis() as i64;
        let floor = i64::from(self.options.reserve_per_second) * millis;
        floor + state.slots.iter().sum::<i64>() - state.reserved
    }
}

/// One retry set aside: given back when dropped, unless it was [spent](Self::spend).
#[derive(Debug)]
pub(in crate::layers) struct Reservation(RetryBudget);

impl Reservation {
    /// The retry is being sent.
    pub(in crate::layers) fn spend(mut self) {
        if let Some(bucket) = self.0.0.take() {
            let mut state = bucket.now();
            state.reserved -= RETRY;
            state.slots[0] -= RETRY;
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(bucket) = &self.0.0 {
            bucket.lock().reserved -= RETRY;
        }
    }
}
