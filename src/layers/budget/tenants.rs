//! A budget for each tenant.
//!
//! Invariants:
//! 1. What a tenant has spent in its own budget is forgotten with its window, and never before.
//! 2. At most `max_tenants` have a budget of their own, so that no number of tenants takes more memory.
//!    Tenants beyond share one; what they spent there does not count for the budget of their own that
//!    they get once there is room.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::source::BudgetSource;
use crate::{
    call::{Budget, BudgetLimits},
    request::{PredictRequest, Tenant},
};

/// How many tenants have a budget of their own by default. Each takes up to some 3 KiB.
const MAX_TENANTS: usize = 10_000;

/// The shortest time between two searches for budgets that can be forgotten.
const BETWEEN_SEARCHES: Duration = Duration::from_secs(1);

/// The budgets of tenants: one for each, and one for the calls of none. Clones share them.
///
/// A budget that is unused is forgotten where there are many: nothing of it is spent or reserved, as
/// after its window. Give the limits a window for that: what is spent for good is kept for good.
///
/// ```
/// use std::time::Duration;
/// use tower_dspy::{BudgetLayer, BudgetLimits, Tenant, layers::TenantBudgets};
///
/// let minute = Duration::from_secs(60);
/// let limits = BudgetLimits::new().with_tokens(100_000).with_window(minute);
/// let budgets = TenantBudgets::new(limits).with_max_tenants(500);
/// let layer = BudgetLayer::new(budgets.clone());
/// # let _ = layer;
/// let left = budgets.of(Some(&Tenant::new("acme"))).remaining();
/// assert_eq!(left.tokens, Some(100_000));
/// ```
#[derive(Clone)]
pub struct TenantBudgets {
    limits: BudgetLimits,
    max_tenants: usize,
    state: Arc<Mutex<TenantState>>,
    /// Of the tenants beyond the most.
    others: Budget,
}

#[derive(Default)]
struct TenantState {
    budgets: HashMap<Option<Tenant>, Budget>,
    /// When unused budgets were last searched for.
    searched: Option<Instant>,
}

impl TenantBudgets {
    /// Budgets with these limits. One without a name has that of `tenant`: the name of the tenant
    /// itself stays out of errors and logs.
    #[must_use]
    pub fn new(mut limits: BudgetLimits) -> Self {
        limits.name.get_or_insert_with(|| "tenant".into());
        Self {
            others: Budget::new(limits.clone()),
            limits,
            max_tenants: MAX_TENANTS,
            state: Arc::default(),
        }
    }

    /// How many tenants have a budget of their own, 10 000 by default: at least 1. Tenants beyond
    /// them share one budget until others are forgotten.
    #[must_use]
    pub fn with_max_tenants(mut self, tenants: usize) -> Self {
        self.max_tenants = tenants.max(1);
        self
    }

    /// The budget of `tenant`, or of calls without a tenant.
    #[must_use]
    pub fn of(&self, tenant: Option<&Tenant>) -> Budget {
        let mut state = self.lock();
        let tenant = tenant.cloned();
        if let Some(known) = state.budgets.get(&tenant) {
            return known.clone();
        }
        if state.budgets.len() >= self.max_tenants {
            state.forget_unused();
            if state.budgets.len() >= self.max_tenants {
                return self.others.clone();
            }
        }
        let fresh = Budget::new(self.limits.clone());
        state.budgets.insert(tenant, fresh.clone());
        fresh
    }

    fn lock(&self) -> MutexGuard<'_, TenantState> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TenantState {
    /// Forgets the budgets that are as good as new, at most once in a while: it looks at each.
    fn forget_unused(&mut self) {
        let now = Instant::now();
        let next = self.searched.map(|last| last + BETWEEN_SEARCHES);
        if next.is_none_or(|next| next <= now) {
            self.searched = Some(now);
            self.budgets.retain(|_, budget| !budget.is_unused());
        }
    }
}

impl BudgetSource<PredictRequest> for TenantBudgets {
    fn budget(&self, request: &PredictRequest) -> Option<Budget> {
        Some(self.of(request.tenant()))
    }
}

/// The tenant is among the request's extensions.
impl<B> BudgetSource<http::Request<B>> for TenantBudgets {
    fn budget(&self, request: &http::Request<B>) -> Option<Budget> {
        Some(self.of(request.extensions().get()))
    }
}

impl fmt::Debug for TenantBudgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantBudgets")
            .field("limits", &self.limits)
            .field("max_tenants", &self.max_tenants)
            .field("tenants", &self.lock().budgets.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::call::{Amount, Budgets};

    const MINUTE: Duration = Duration::from_secs(60);

    fn budgets(max_tenants: usize) -> TenantBudgets {
        let limits = BudgetLimits::new().with_tokens(100).with_window(MINUTE);
        TenantBudgets::new(limits).with_max_tenants(max_tenants)
    }

    fn spend(budget: &Budget, tokens: u64) {
        let counted = Amount {
            tokens,
            ..Amount::default()
        };
        let mut budgets = Budgets::none();
        budgets.add(budget);
        let reservation = budgets.reserve(tokens, None).expect("some is left");
        reservation.settle(counted, Amount::default());
    }

    fn left(budgets: &TenantBudgets, tenant: &'static str) -> Option<u64> {
        budgets.of(Some(&Tenant::new(tenant))).remaining().tokens
    }

    #[tokio::test(start_paused = true)]
    async fn tenants_beyond_the_most_share_one_budget_and_nothing_spent_is_forgotten() {
        let budgets = budgets(2);
        let of = |tenant| budgets.of(Some(&Tenant::new(tenant)));
        for tenant in ["a", "b", "c"] {
            spend(&of(tenant), 60);
            advance(2 * BETWEEN_SEARCHES).await;
        }
        assert_eq!(left(&budgets, "a"), Some(40));
        assert_eq!(left(&budgets, "b"), Some(40));
        assert_eq!(
            (left(&budgets, "c"), left(&budgets, "d")),
            (Some(40), Some(40))
        );
        assert!(of("c").is_same(&of("d")));
        // With its window the first one's spending ends, and a new tenant takes the place.
        advance(MINUTE + MINUTE / 60 - 5 * BETWEEN_SEARCHES).await;
        assert_eq!(left(&budgets, "d"), Some(100));
        assert!(!of("d").is_same(&of("c")));
        assert_eq!(left(&budgets, "b"), Some(40));
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_that_a_call_holds_is_not_forgotten() {
        let budgets = budgets(1);
        let held = budgets.of(None);
        advance(2 * MINUTE).await;
        assert!(!budgets.of(Some(&Tenant::new("a"))).is_same(&held));
        assert!(budgets.of(None).is_same(&held));
    }

    #[test]
    fn the_name_of_a_tenant_is_in_no_name_of_a_budget() {
        let budget = budgets(1).of(Some(&Tenant::new("acme")));
        assert_eq!(budget.limits().name.as_deref(), Some("tenant"));
        assert!(!format!("{budget:?}").contains("acme"));
    }
}
