//! The budgets of a call.

use std::sync::Arc;

use super::{
    Amount, Budget, RemainingBudget,
    reservation::{BudgetRefusal, BudgetReservations, reserve_in_all},
};
use crate::call::Usd;

/// The budgets that a call's LM calls are charged to; the default has none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budgets(Option<Arc<BudgetNode>>);

#[derive(Debug)]
struct BudgetNode {
    budget: Budget,
    outer: Budgets,
}

impl Budgets {
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Adds a budget, once.
    pub(crate) fn add(&mut self, budget: &Budget) {
        if !self.iter().any(|known| known.is_same(budget)) {
            let outer = self.clone();
            let budget = budget.clone();
            self.0 = Some(Arc::new(BudgetNode { budget, outer }));
        }
    }

    /// The last that was added comes first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Budget> {
        let first = self.0.as_deref();
        let nodes = std::iter::successors(first, |node| node.outer.0.as_deref());
        nodes.map(|node| &node.budget)
    }

    /// Reserves an estimate in all of them, or in none.
    pub(crate) fn reserve(
        &self,
        tokens: u64,
        usd: Option<Usd>,
    ) -> Result<BudgetReservations, Box<BudgetRefusal>> {
        let amount = Amount {
            tokens,
            usd: usd.unwrap_or_default(),
        };
        reserve_in_all(self.iter().collect(), amount, usd.is_some())
    }

    /// The least that is left of any; `None` without a budget.
    pub(crate) fn remaining(&self) -> Option<RemainingBudget> {
        fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
            one.into_iter().chain(other).min()
        }
        let all = self.iter().map(Budget::remaining);
        all.reduce(|one, other| RemainingBudget {
            tokens: least(one.tokens, other.tokens),
            usd: least(one.usd, other.usd),
            wrap_up: one.wrap_up || other.wrap_up,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::BudgetLimits, *};

    #[test]
    fn all_budgets_are_charged_or_none() {
        let large = Budget::new(BudgetLimits::new().with_tokens(1000));
        let small = Budget::new(BudgetLimits::new().with_tokens(100));
        let mut budgets = Budgets::none();
        for budget in [&small, &large, &small] {
            budgets.add(budget);
        }
        assert_eq!(budgets.iter().count(), 2);
        let granted = budgets.reserve(150, None).expect("nothing is spent");
        let refused = budgets
            .reserve(150, None)
            .expect_err("the small one is used up");
        assert!(refused.budget.is_same(&small));
        assert_eq!(large.spent().reserved_tokens, 150);
        assert_eq!(budgets.remaining().and_then(|left| left.tokens), Some(0));
        let counted = Amount {
            tokens: 90,
            usd: Usd::ZERO,
        };
        granted.settle(counted, Amount::default());
        assert_eq!((large.spent().tokens, small.spent().tokens), (90, 90));
        assert_eq!(large.spent().reserved_tokens, 0);
    }
}
