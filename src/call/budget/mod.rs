//! A budget: a limit of tokens and of money, which LM calls reserve from before they are sent.
//!
//! Invariants:
//! 1. A reservation is granted only while less than the limit is spent and reserved. So what is spent
//!    passes a limit by one estimate at most, and by what the estimates of the LM calls under way were
//!    too low.
//! 2. A reservation ends once: it is settled, and what was spent takes its place, or it is released.
//! 3. Each happens under one lock: concurrent calls never share what is left.
//! 4. The budgets of a call grant a reservation together or not at all: all their locks are held, in
//!    the order of their addresses.

mod budgets;
mod limits;
mod reservation;
mod spent;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

pub use self::limits::BudgetLimits;
#[cfg(any(feature = "lm", test))]
pub(crate) use self::reservation::BudgetReservations;
use self::spent::SpentOverTime;
pub(crate) use self::{budgets::Budgets, reservation::BudgetRefusal, spent::Amount};
use crate::call::Usd;

/// A budget of tokens, of money, or of both, for LM calls. Clones share one account.
///
/// Each LM call reserves an estimate of what it may cost before it is sent, and settles with what the
/// provider counted once it has ended. An LM call that finds the budget used up is not sent.
///
/// Counts that only DSPy finds in an answer, as of a dialect that the host does not read, are in the
/// usage and the cost of the call: the budget keeps what it was charged by the answer's length.
///
/// ```
/// use tower_dspy::{Budget, BudgetLimits, Usd};
///
/// let budget = Budget::new(BudgetLimits::new().with_tokens(50_000).with_usd(Usd::new(0.10)));
/// assert_eq!(budget.remaining().tokens, Some(50_000));
/// ```
#[derive(Clone)]
pub struct Budget(Arc<Account>);

struct Account {
    limits: BudgetLimits,
    state: Mutex<AccountState>,
}

struct AccountState {
    spent: SpentOverTime,
    /// Of what was spent, the part that no provider counted.
    estimated: SpentOverTime,
    reserved: Amount,
    refused: u64,
}

/// What is left of a [`Budget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemainingBudget {
    /// Tokens; `None` if it has no limit of them.
    pub tokens: Option<u64>,
    /// Money; `None` if it has no limit of it.
    pub usd: Option<Usd>,
    /// Whether more than the [soft share](BudgetLimits::with_soft_share) is spent.
    pub wrap_up: bool,
}

/// What a [`Budget`] has spent: within its window if it has one, else in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetSpent {
    /// Tokens, those of `estimated_tokens` too.
    pub tokens: u64,
    /// Money, that of `estimated_usd` too.
    pub usd: Usd,
    /// Tokens that no provider counted, as those of answers that were cut off: an estimate.
    pub estimated_tokens: u64,
    /// What these tokens cost.
    pub estimated_usd: Usd,
    /// What LM calls under way have reserved.
    pub reserved_tokens: u64,
    /// What LM calls under way have reserved.
    pub reserved_usd: Usd,
    /// How many LM calls were refused.
    pub refused: u64,
}

impl Budget {
    /// A budget with these limits, of which nothing is spent.
    #[must_use]
    pub fn new(limits: BudgetLimits) -> Self {
        let state = Mutex::new(AccountState {
            spent: SpentOverTime::new(limits.window),
            estimated: SpentOverTime::new(limits.window),
            reserved: Amount::default(),
            refused: 0,
        });
        Self(Arc::new(Account { limits, state }))
    }

    /// Its limits.
    #[must_use]
    pub fn limits(&self) -> &BudgetLimits {
        &self.0.limits
    }

    /// What is left, less what LM calls under way have reserved.
    #[must_use]
    pub fn remaining(&self) -> RemainingBudget {
        let limits = &self.0.limits;
        let mut state = self.lock();
        let spent = state.spent.at(Instant::now());
        let taken = spent + state.reserved;
        let soft = |limit: f64, spent: f64| {
            let share = limits.soft_share;
            share.is_some_and(|share| spent >= limit * share)
        };
        let tokens = limits.tokens;
        let usd = limits.usd;
        RemainingBudget {
            tokens: tokens.map(|limit| limit.saturating_sub(taken.tokens)),
            usd: usd.map(|limit| limit.saturating_sub(taken.usd)),
            wrap_up: tokens.is_some_and(|limit| soft(limit as f64, spent.tokens as f64))
                || usd.is_some_and(|limit| soft(limit.as_f64(), spent.usd.as_f64())),
        }
    }

    /// What is spent.
    #[must_use]
    pub fn spent(&self) -> BudgetSpent {
        let now = Instant::now();
        let mut state = self.lock();
        let (spent, estimated) = (state.spent.at(now), state.estimated.at(now));
        BudgetSpent {
            tokens: spent.tokens,
            usd: spent.usd,
            estimated_tokens: estimated.tokens,
            estimated_usd: estimated.usd,
            reserved_tokens: state.reserved.tokens,
            reserved_usd: state.reserved.usd,
            refused: state.refused,
        }
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether it is as good as a new one: nothing is spent or reserved, and nobody else holds it.
    pub(crate) fn is_unused(&self) -> bool {
        let mut state = self.lock();
        let taken = state.spent.at(Instant::now()) + state.reserved;
        taken == Amount::default() && Arc::strong_count(&self.0) == 1
    }

    /// What the order of locks goes by.
    fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    fn lock(&self) -> MutexGuard<'_, AccountState> {
        // Nothing panics while it holds the lock.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two are equal if they share one account.
impl PartialEq for Budget {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other)
    }
}

impl Eq for Budget {}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("limits", &self.0.limits)
            .field("spent", &self.spent())
            .finish()
    }
}
