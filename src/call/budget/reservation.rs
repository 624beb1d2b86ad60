//! What an LM call reserves in budgets before it is sent, and why that may be refused.

use std::{mem, sync::MutexGuard, time::Duration};

use tokio::time::Instant;

use super::{AccountState, Amount, Budget};

/// Why a reservation was not granted.
#[derive(Clone, Debug)]
pub(crate) struct BudgetRefusal {
    pub(crate) budget: Budget,
    /// The time until some of it is free again, if it has a window: [`SOON`] where LM calls under way
    /// have reserved the rest. `None` also where no price is known.
    #[cfg_attr(
        all(feature = "lm", not(any(feature = "_host", test))),
        expect(dead_code, reason = "a host says it in its errors")
    )]
    pub(crate) retry_after: Option<Duration>,
    /// A limit of money, and the LM has no price.
    pub(crate) unpriced: bool,
}

/// The wait for a reservation to end, of which nobody knows how long it takes.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// A budget under its lock, for a reservation in several.
struct LockedBudget<'a> {
    budget: &'a Budget,
    state: MutexGuard<'a, AccountState>,
}

impl<'a> LockedBudget<'a> {
    fn new(budget: &'a Budget) -> Self {
        let state = budget.lock();
        Self { budget, state }
    }

    /// Whether an estimate may be reserved. `has_price` is false where no price is known.
    fn check(&mut self, has_price: bool) -> Result<(), BudgetRefusal> {
        let limits = self.budget.limits();
        let now = Instant::now();
        let spent = self.state.spent.at(now);
        let unpriced = limits.usd.is_some() && !has_price;
        if !unpriced && !limits.is_reached_by(spent + self.state.reserved) {
            return Ok(());
        }
        self.state.refused += 1;
        let free_again = match limits.is_reached_by(spent) {
            true => self
                .state
                .spent
                .time_while(now, |left| limits.is_reached_by(left)),
            false => Some(SOON),
        };
        Err(BudgetRefusal {
            budget: self.budget.clone(),
            retry_after: free_again.filter(|_| limits.window.is_some() && !unpriced),
            unpriced,
        })
    }

    fn grant(mut self, amount: Amount) -> BudgetReservation {
        self.state.reserved = self.state.reserved + amount;
        BudgetReservation {
            budget: self.budget.clone(),
            amount,
        }
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
        let reserved = mem::take(&mut self.amount);
        state.reserved = state.reserved.saturating_sub(reserved);
        let now = Instant::now();
        state.spent.add(now, counted + estimated);
        state.estimated.add(now, estimated);
        drop(state);
    }
}

impl Drop for BudgetReservation {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        state.reserved = state.reserved.saturating_sub(self.amount);
    }
}

/// Reserves an amount in all of these, or in none. `has_price` is false where no price is known.
pub(super) fn reserve_in_all(
    mut budgets: Vec<&Budget>,
    amount: Amount,
    has_price: bool,
) -> Result<BudgetReservations, Box<BudgetRefusal>> {
    // Two threads that lock several do so in one order.
    budgets.sort_by_key(|budget| budget.address());
    let mut locked: Vec<_> = budgets.into_iter().map(LockedBudget::new).collect();
    for budget in &mut locked {
        budget.check(has_price)?;
    }
    let granted = locked.into_iter().map(|budget| budget.grant(amount));
    Ok(BudgetReservations(granted.collect()))
}

/// What an LM call under way has reserved in the budgets of its call. Dropped, it is released.
#[derive(Debug, Default)]
pub(crate) struct BudgetReservations(Vec<BudgetReservation>);

impl BudgetReservations {
    /// Puts what was spent in the place of the reservations.
    pub(crate) fn settle(self, counted: Amount, estimated: Amount) {
        for reservation in self.0 {
            reservation.settle(counted, estimated);
        }
    }
}
