//! The budget that a call is charged to.

use std::fmt;

use crate::call::{Budget, BudgetLimits};

/// Returns the budget that the LM calls of a request are charged to: [`EachCall`], one [`Budget`],
/// [`TenantBudgets`](super::TenantBudgets), or [a function](BudgetFn).
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no budget for a request of the type `{R}`",
    note = "the budgets of tenants are for `PredictRequest` and `http::Request`; for another type give the layer a function: `BudgetLayer::by(|request: &{R}| ..)`"
)]
pub trait BudgetSource<R> {
    /// The budget of `request`; `None` charges it to none.
    fn budget(&self, request: &R) -> Option<Budget>;
}

/// A fresh budget for each call.
#[derive(Clone, Debug)]
pub struct EachCall(BudgetLimits);

impl EachCall {
    /// Budgets with these limits.
    #[must_use]
    pub const fn new(limits: BudgetLimits) -> Self {
        Self(limits)
    }
}

impl<R> BudgetSource<R> for EachCall {
    fn budget(&self, _: &R) -> Option<Budget> {
        Some(Budget::new(self.0.clone()))
    }
}

impl<R> BudgetSource<R> for Budget {
    fn budget(&self, _: &R) -> Option<Budget> {
        Some(self.clone())
    }
}

impl<R, B: BudgetSource<R>> BudgetSource<R> for Option<B> {
    fn budget(&self, request: &R) -> Option<Budget> {
        self.as_ref()?.budget(request)
    }
}

/// The budget that a function returns.
#[derive(Clone, Copy)]
pub struct BudgetFn<F>(F);

impl<F> BudgetFn<F> {
    /// Asks `f` for each request.
    #[must_use]
    pub const fn new(f: F) -> Self {
        Self(f)
    }
}

impl<R, F: Fn(&R) -> Option<Budget>> BudgetSource<R> for BudgetFn<F> {
    fn budget(&self, request: &R) -> Option<Budget> {
        (self.0)(request)
    }
}

impl<F> fmt::Debug for BudgetFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BudgetFn")
    }
}
