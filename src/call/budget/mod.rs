//! A budget: a limit of tokens and of money, which LM calls reserve from before they are sent.
//!
//! Invariants:
//! 1. A reservation is granted only while less than the limit is spent and reserved. So what is spent
//!    passes a limit by one estimate at most, and by what that estimate was too low.
//! 2. A reservation ends once: it is settled, and what was spent takes its place, or it is released.
//! 3. Each happens under one lock: concurrent calls never share what is left.

mod budgets;
mod limits;
mod spent;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

pub use self::limits::BudgetLimits;
use self::spent::SpentOverTime;
pub(crate) use self::{
    budgets::{BudgetReservations, Budgets},
    spent::Amount,
};
use crate::call::Usd;

/// A budget of tokens, of money, or of both, for LM calls. Clones share one account.
///
/// Each LM call reserves an estimate of what it may cost before it is sent, and settles with what the
/// provider counted once it has ended. An LM call that finds the budget used up is not sent.
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
    /// Of what was spent, what nobody counted.
    estimated: Amount,
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
    /// Tokens that no provider counted, as those of answers that were cut off: an estimate, since the
    /// budget was made.
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

/// Why a reservation was not granted.
#[derive(Clone, Debug)]
pub(crate) struct BudgetRefusal {
    pub(crate) budget: Budget,
    /// The time until some of it is free again, if it has a window. `None` also where no price is
    /// known.
    pub(crate) retry_after: Option<Duration>,
    /// A limit of money, and the LM has no price.
    pub(crate) unpriced: bool,
}

impl Budget {
    /// A budget with these limits, of which nothing is spent.
    #[must_use]
    pub fn new(limits: BudgetLimits) -> Self {
        let state = Mutex::new(AccountState {
            spent: SpentOverTime::new(limits.window),
            estimated: Amount::default(),
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
        let mut state = self.lock();
        let spent = state.spent.at(Instant::now());
        BudgetSpent {
            tokens: spent.tokens,
            usd: spent.usd,
            estimated_tokens: state.estimated.tokens,
            estimated_usd: state.estimated.usd,
            reserved_tokens: state.reserved.tokens,
            reserved_usd: state.reserved.usd,
            refused: state.refused,
        }
    }

    /// Reserves an estimate. `usd` is `None` where no price is known.
    pub(crate) fn reserve(
        &self,
        tokens: u64,
        usd: Option<Usd>,
    ) -> Result<BudgetReservation, BudgetRefusal> {
        let limits = &self.0.limits;
        let mut state = self.lock();
        let refusal = |retry_after, unpriced| BudgetRefusal {
            budget: self.clone(),
            retry_after,
            unpriced,
        };
        let usd = match (limits.usd, usd) {
            (Some(_), None) => {
                state.refused += 1;
                return Err(refusal(None, true));
            }
            (_, usd) => usd.unwrap_or_default(),
        };
        let now = Instant::now();
        let taken = state.spent.at(now) + state.reserved;
        if limits.is_reached_by(taken) {
            state.refused += 1;
            let reserved = state.reserved;
            let wait = |spent: Amount| limits.is_reached_by(spent + reserved);
            let gone = state.spent.time_while(now, wait);
            // What is reserved may be spent, and counts for a window from then on.
            let window = limits
                .window
                .filter(|_| !limits.is_reached_by(Amount::default()));
            return Err(refusal(gone.or(window), false));
        }
        let amount = Amount { tokens, usd };
        state.reserved = state.reserved + amount;
        drop(state);
        Ok(BudgetReservation {
            budget: self.clone(),
            amount,
        })
    }

    /// Whether it is as good as a new one: nothing is spent or reserved, and nobody else holds it.
    pub(crate) fn is_unused(&self) -> bool {
        let mut state = self.lock();
        let taken = state.spent.at(Instant::now()) + state.reserved;
        taken == Amount::default() && Arc::strong_count(&self.0) == 1
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
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

/// What an LM call under way has reserved. Dropped, it is released.
#[derive(Debug)]
pub(crate) struct BudgetReservation {
    budget: Budget,
    amount: Amount,
}

impl BudgetReservation {
    /// Puts what was spent in the place of the reservation: what the provider `counted`, and an
    /// estimate of what it did not.
    pub(crate) fn settle(mut self, counted: Amount, estimated: Amount) {
        let mut state = self.budget.lock();
        let reserved = std::mem::take(&mut self.amount);
        state.reserved = state.reserved.saturating_sub(reserved);
        state.spent.add(Instant::now(), counted + estimated);
        state.estimated = state.estimated + estimated;
        drop(state);
    }
}

impl Drop for BudgetReservation {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        state.reserved = state.reserved.saturating_sub(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(tokens: u64) -> Amount {
        Amount {
            tokens,
            ..Amount::default()
        }
    }

    #[test]
    fn a_budget_is_passed_by_one_estimate_at_most() {
        let budget = Budget::new(BudgetLimits::new().with_tokens(1000));
        let reserve = || budget.reserve(300, None);
        let granted: Vec<_> = (0..64).filter_map(|_| reserve().ok()).collect();
        assert_eq!(granted.len(), 4);
        assert_eq!(
            (budget.spent().refused, budget.remaining().tokens),
            (60, Some(0))
        );
        for reservation in granted {
            reservation.settle(tokens(200), Amount::default());
        }
        assert_eq!(budget.remaining().tokens, Some(200));
        let last = reserve().expect("200 are left");
        assert!(reserve().is_err());
        last.settle(Amount::default(), tokens(250));
        let spent = budget.spent();
        assert_eq!((spent.tokens, spent.estimated_tokens), (1050, 250));
        assert!(reserve().is_err());
    }

    #[test]
    fn a_reservation_that_is_dropped_is_released() {
        let budget = Budget::new(BudgetLimits::new().with_usd(Usd::new(1.0)));
        drop(
            budget
                .reserve(1, Some(Usd::new(2.0)))
                .expect("nothing is spent"),
        );
        assert_eq!(budget.spent(), BudgetSpent::default());
    }

    #[test]
    fn a_limit_of_money_refuses_an_unknown_price() {
        let budget = Budget::new(BudgetLimits::new().with_usd(Usd::new(1.0)));
        assert!(budget.reserve(1, None).expect_err("no price").unpriced);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_spent_leaves_the_window() {
        let minute = Duration::from_secs(60);
        let limits = BudgetLimits::new().with_tokens(100).with_window(minute);
        let budget = Budget::new(limits);
        let spend = |amount| {
            let granted = budget.reserve(amount, None).expect("some is left");
            granted.settle(tokens(amount), Amount::default());
        };
        spend(60);
        tokio::time::advance(minute / 2).await;
        spend(60);
        let refused = budget.reserve(1, None).expect_err("all is spent");
        let wait = refused.retry_after.expect("it has a window");
        assert!(
            wait >= minute / 2 && wait <= minute / 2 + Duration::from_secs(2),
            "{wait:?}"
        );
        tokio::time::advance(wait).await;
        assert_eq!(budget.spent().tokens, 60);
        assert!(budget.reserve(1, None).is_ok());
    }

    #[test]
    fn a_soft_share_says_when_to_wrap_up() {
        let limits = BudgetLimits::new().with_tokens(100).with_soft_share(0.8);
        let budget = Budget::new(limits);
        let spend = |amount| {
            let granted = budget.reserve(amount, None).expect("some is left");
            granted.settle(tokens(amount), Amount::default());
        };
        spend(79);
        assert!(!budget.remaining().wrap_up);
        spend(1);
        assert!(budget.remaining().wrap_up);
    }
}
