//! [`BudgetLayer`]: a limit in tokens and money for the LM calls of a call.

mod source;
mod tenants;

use std::task::{Context, Poll};

use tower::{Layer, Service};

pub use self::{
    source::{BudgetFn, BudgetSource, EachCall},
    tenants::TenantBudgets,
};
use crate::call::{Budget, BudgetLimits, Carrier};

/// Charges the LM calls of each call to a [`Budget`].
///
/// The layer puts the budget into the request's context, and refuses nothing itself. An LM call
/// reserves an estimate of its tokens, and of what they cost, in all budgets of its call before it is
/// sent; while one of them is used up, no further LM call is. A program that lets that failure through
/// ends with [`BudgetExceeded`](crate::BudgetExceeded), which has what was spent and the partial answer;
/// a program that catches it can still answer.
///
/// ```
/// use serde_json::json;
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_dspy::{
///     BudgetLayer, BudgetLimits, Carrier, Error, PredictRequest, Prediction, RetryLayer, Usd,
/// };
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Error> {
/// let limits = BudgetLimits::new()
///     .with_tokens(50_000)
///     .with_usd(Usd::new(0.10))
///     .with_soft_share(0.8); // from here on `tower_dspy.remaining_budget().wrap_up`
/// let program = ServiceBuilder::new()
///     .layer(BudgetLayer::each(limits)) // for all attempts of a call together
///     .layer(RetryLayer::new(2))
///     .service_fn(|mut request: PredictRequest| async move {
///         let left = request.context_mut().remaining_budget();
///         assert_eq!(left.and_then(|left| left.tokens), Some(50_000));
///         Ok::<_, Error>(Prediction::new(Default::default()))
///     });
/// program.oneshot(PredictRequest::new(json!({"question": "..."}))).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Which budget
/// - [`each`](Self::each): a fresh one for each call;
/// - [`shared`](Self::shared): one for all calls, also those through other layers, as one with a window
///   for the bill of a day;
/// - [`per_tenant`](Self::per_tenant): one for each [`Tenant`](crate::Tenant);
/// - [`by`](Self::by): what a function says, as for limits that differ from tenant to tenant.
///
/// Several add up: each LM call is charged to all budgets of its call, and each of them can refuse it.
///
/// # What is not charged
/// LM calls that a program makes past the host, by a client that it does not carry
/// ([`Spent::lm_calls_bypassed`](crate::Spent::lm_calls_bypassed)), and programs on other nodes: a
/// budget does not cross the wire.
///
/// # What it demands of the inner service
/// Nothing. The request is a [`Carrier`]; for the budgets of tenants it is a
/// [`PredictRequest`](crate::PredictRequest), or an [`http::Request`] with the
/// [`Tenant`](crate::Tenant) in its extensions, such as one of an [`Lm`](crate::Lm): as a layer of that
/// it limits the calls of one LM.
///
/// # Where it belongs
/// Around retry, hedge and fallback: their attempts then share the budget of their call. Inside a
/// retry, [`each`](Self::each) would give a fresh one to each attempt. A retry is not made for the
/// error in any case, and a fallback by [`on_kinds`](crate::FallbackLayer::on_kinds) alone.
///
/// # How it differs from tower's layers
/// Tower's limits count requests. This one counts what the LM calls inside them cost, which nobody
/// knows before they have ended: hence estimate, reservation and settlement, see [`Budget`].
///
/// # Cancel safety
/// The response future is that of the inner service. What an LM call had reserved is released, and
/// what it spent is charged, also where its call is dropped.
#[derive(Clone, Debug)]
pub struct BudgetLayer<B> {
    source: B,
}

impl BudgetLayer<EachCall> {
    /// A fresh budget with these limits for each call.
    #[must_use]
    pub const fn each(limits: BudgetLimits) -> Self {
        Self::new(EachCall::new(limits))
    }
}

impl BudgetLayer<Budget> {
    /// This budget for all calls.
    #[must_use]
    pub fn shared(budget: &Budget) -> Self {
        Self::new(budget.clone())
    }
}

impl BudgetLayer<TenantBudgets> {
    /// A budget with these limits for each tenant, and one for the calls of none: see
    /// [`TenantBudgets`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_dspy::{BudgetLayer, BudgetLimits, Usd};
    ///
    /// let hour = Duration::from_secs(3600);
    /// let limits = BudgetLimits::new().with_usd(Usd::new(5.0)).with_window(hour);
    /// let layer = BudgetLayer::per_tenant(limits);
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn per_tenant(limits: BudgetLimits) -> Self {
        Self::new(TenantBudgets::new(limits))
    }
}

impl<F> BudgetLayer<BudgetFn<F>> {
    /// The budget that `f` returns for a request; none if that is `None`.
    ///
    /// ```
    /// use tower_dspy::{Budget, BudgetLayer, BudgetLimits, PredictRequest};
    ///
    /// let cheap = Budget::new(BudgetLimits::new().with_tokens(1_000_000));
    /// let layer = BudgetLayer::by(move |request: &PredictRequest| {
    ///     (request.lm() == Some("cheap")).then(|| cheap.clone())
    /// });
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub const fn by<R>(f: F) -> Self
    where
        F: Fn(&R) -> Option<Budget>,
    {
        Self::new(BudgetFn::new(f))
    }
}

impl<B> BudgetLayer<B> {
    /// The budgets that `source` returns.
    #[must_use]
    pub const fn new(source: B) -> Self {
        Self { source }
    }
}

impl<S, B: Clone> Layer<S> for BudgetLayer<B> {
    type Service = BudgetService<S, B>;

    fn layer(&self, inner: S) -> Self::Service {
        BudgetService::new(inner, self.clone())
    }
}

/// Charges the LM calls of each call to a budget; see [`BudgetLayer`].
#[derive(Clone, Debug)]
pub struct BudgetService<S, B> {
    inner: S,
    layer: BudgetLayer<B>,
}

impl<S, B> BudgetService<S, B> {
    /// Charges the LM calls of calls to `inner`, as `layer` says.
    #[must_use]
    pub const fn new(inner: S, layer: BudgetLayer<B>) -> Self {
        Self { inner, layer }
    }

    inner_service_accessors!();
}

impl<S, R, B> Service<R> for BudgetService<S, B>
where
    S: Service<R>,
    R: Carrier,
    B: BudgetSource<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: R) -> S::Future {
        if let Some(budget) = self.layer.source.budget(&request) {
            request.context_mut().add_budget(&budget);
        }
        self.inner.call(request)
    }
}
