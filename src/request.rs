//! What goes into a program and what comes out.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::call::{Budget, CallContext, Cancel, Carrier, Cost, Deadline, LmCall, Usage};

/// The inputs of one prediction, with the context that it travels in.
///
/// Cloning is cheap, as a retry or a hedge does it for each attempt: the inputs are shared.
///
/// ```
/// use serde_json::json;
/// use std::time::Duration;
/// use tower_dspy::{Deadline, PredictRequest};
///
/// let request = PredictRequest::new(json!({"question": "Why is the sky blue?"}))
///     .with_deadline(Deadline::within(Duration::from_secs(10)));
/// assert_eq!(request.inputs()["question"], "Why is the sky blue?");
/// ```
#[derive(Clone)]
pub struct PredictRequest {
    inputs: Arc<Value>,
    pub(crate) context: CallContext,
    pub(crate) route: Route,
}

/// Which LM a call's LM calls go to, and on whose behalf.
#[derive(Clone, Debug, Default)]
pub(crate) struct Route {
    pub(crate) lm: Option<Arc<str>>,
    pub(crate) tenant: Option<Tenant>,
}

/// Whom a call is made for: a customer of yours with a key, or a budget, of its own.
///
/// It is in the extensions of each [LM request](crate::lm::LmRequest) of the call, for
/// [`Lm::key_with`](crate::Lm::key_with) and for layers of an [`Lm`](crate::Lm). What a tenant may spend
/// is limited by [`TenantBudgets`](crate::layers::TenantBudgets), how many calls it may have at once by
/// [`Load::max_in_flight_per_tenant`](crate::service::Load::max_in_flight_per_tenant). A layer of yours
/// around a program reads it by [`PredictRequest::tenant`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// The tenant of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// Keeps the name to itself: that of a customer must not reach a log by accident, by a request or the
/// call of a tool.
impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tenant(..)")
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PredictRequest {
    /// A request with `inputs`, a JSON object of the program's input fields.
    ///
    /// What is no object, or does not fit the program's schema, is answered with
    /// [`InvalidInput`](crate::InvalidInput) before anything runs.
    pub fn new(inputs: impl Into<Value>) -> Self {
        Self {
            inputs: Arc::new(inputs.into()),
            context: CallContext::new(),
            route: Route::default(),
        }
    }

    /// A request whose inputs are the fields of a serializable struct. A service with structs for both
    /// inputs and outputs is [`DspyService::typed`](crate::DspyService::typed).
    ///
    /// # Errors
    /// Whatever the value's `Serialize` implementation reports.
    pub fn from_fields<T: Serialize + ?Sized>(fields: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_value(fields).map(Self::new)
    }

    /// Makes this call end at `deadline`, unless it already ends earlier. No layer is needed: the
    /// program keeps the deadline of its request, and a [`DeadlineLayer`](crate::DeadlineLayer) around it
    /// only makes it earlier.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Deadline) -> Self {
        self.context.limit(deadline);
        self
    }

    /// Charges the LM calls of this call to `budget`: see [`BudgetLayer`](crate::BudgetLayer) for what
    /// that means. Several may be given, also to several requests: each LM call is charged to all of
    /// them.
    ///
    /// ```
    /// use serde_json::json;
    /// use tower_dspy::{Budget, BudgetLimits, PredictRequest};
    ///
    /// let budget = Budget::new(BudgetLimits::new().with_tokens(20_000));
    /// let request = PredictRequest::new(json!({"question": "..."})).with_budget(&budget);
    /// # let _ = request;
    /// ```
    #[must_use]
    pub fn with_budget(mut self, budget: &Budget) -> Self {
        self.context.add_budget(budget);
        self
    }

    /// Lets `cancel`, or a plain `CancellationToken`, stop the call. To stop it by its id, also over
    /// HTTP, see [`Tracker::cancel`](crate::Tracker::cancel) and
    /// `tower_dspy::inbound::axum::cancel_call`.
    #[must_use]
    pub fn with_cancel(mut self, cancel: impl Into<Cancel>) -> Self {
        self.context.cancel = cancel.into();
        self
    }

    /// Has the program call the LM that was loaded under this name, in place of its usual one: see
    /// [`Load::lms`](crate::service::Load::lms). A predictor with an LM of its own keeps that.
    ///
    /// A name that the program was not loaded with is answered with
    /// [`InvalidInput`](crate::InvalidInput) before anything runs.
    ///
    /// ```
    /// use serde_json::json;
    /// use tower_dspy::PredictRequest;
    ///
    /// let request = PredictRequest::new(json!({"question": "..."})).with_lm("cheap");
    /// assert_eq!(request.lm(), Some("cheap"));
    /// ```
    #[must_use]
    pub fn with_lm(mut self, name: impl Into<Arc<str>>) -> Self {
        self.route.lm = Some(name.into());
        self
    }

    /// Says whom the call is made for.
    #[must_use]
    pub fn with_tenant(mut self, tenant: Tenant) -> Self {
        self.route.tenant = Some(tenant);
        self
    }

    /// Puts the request into `context`, as when it arrived with one.
    #[must_use]
    pub fn with_context(mut self, context: CallContext) -> Self {
        self.context = context;
        self
    }

    /// The inputs.
    #[must_use]
    pub fn inputs(&self) -> &Value {
        &self.inputs
    }

    /// What is asked and for whom: two requests that agree in both may share an answer.
    #[cfg(feature = "stale")]
    pub(crate) fn question(&self) -> (Arc<Value>, Option<Tenant>) {
        (Arc::clone(&self.inputs), self.route.tenant.clone())
    }

    /// The name of the LM that was asked for; `None` for the program's usual one.
    #[must_use]
    pub fn lm(&self) -> Option<&str> {
        self.route.lm.as_deref()
    }

    /// Whom the call is made for, if that was said.
    #[must_use]
    pub const fn tenant(&self) -> Option<&Tenant> {
        self.route.tenant.as_ref()
    }

    /// The inputs and the context, apart.
    #[must_use]
    pub fn into_parts(self) -> (Arc<Value>, CallContext) {
        (self.inputs, self.context)
    }
}

impl Carrier for PredictRequest {
    fn context(&self) -> Option<&CallContext> {
        Some(&self.context)
    }

    fn context_mut(&mut self) -> &mut CallContext {
        &mut self.context
    }
}

/// Names the fields only: a prompt must not reach a log by accident.
impl fmt::Debug for PredictRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PredictRequest")
            .field("inputs", &FieldNames(&self.inputs))
            .field("context", &self.context)
            .field("lm", &self.route.lm)
            .field("tenant", &self.route.tenant)
            .finish()
    }
}

/// The answer of a program.
#[derive(Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Prediction {
    /// The program's output fields. Half of a surrogate pair, which an LM's answer that was cut
    /// short may end with, is U+FFFD in them, as it is in messages and log records.
    pub outputs: Map<String, Value>,
    /// The tokens of all LM calls, also of those made on other threads, as in `dspy.Parallel`. After
    /// a retry, those of the earlier attempts as well: it is what the answer cost, but for a hedged
    /// attempt that lost.
    pub usage: Usage,
    /// What these LM calls cost, by the prices of their LMs.
    pub cost: Cost,
    /// The LM calls, in the order in which they ended: at most 256 of them.
    pub lm_calls: Vec<LmCall>,
    /// How many LM calls there were beyond those in `lm_calls`.
    pub lm_calls_not_kept: u32,
    /// How many LM calls the program made past the host, by a client that it does not carry. They are
    /// neither in `lm_calls` nor in `usage`.
    pub lm_calls_bypassed: u32,
    /// From the moment the service was called to the answer.
    pub elapsed: Duration,
    /// How old the answer is, if it is an earlier one that stands in for a call that failed, as
    /// `layers::fallback::Stale` gives it; `None` if it is this call's own.
    ///
    /// What a stale answer cost was counted when it was made: its usage and its cost are zero.
    pub stale_age: Option<Duration>,
}

impl Prediction {
    /// An answer with these output fields, as a fallback or a test gives one.
    #[must_use]
    pub fn new(outputs: Map<String, Value>) -> Self {
        Self {
            outputs,
            ..Self::default()
        }
    }

    /// The output field `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.outputs.get(name)
    }

    /// The output fields as a struct.
    ///
    /// # Errors
    /// If a field is missing or of another type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(Value::Object(self.outputs.clone()))
    }
}

/// Names the fields only, as with [`PredictRequest`].
impl fmt::Debug for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prediction")
            .field("outputs", &self.outputs.keys().collect::<Vec<_>>())
            .field("usage", &self.usage)
            .field("cost", &self.cost)
            .field("lm_calls", &self.lm_calls.len())
            .field("lm_calls_bypassed", &self.lm_calls_bypassed)
            .field("elapsed", &self.elapsed)
            .field("stale_age", &self.stale_age)
            .finish_non_exhaustive()
    }
}

struct FieldNames<'a>(&'a Value);

impl fmt::Debug for FieldNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Object(fields) => f.debug_set().entries(fields.keys()).finish(),
            _ => f.write_str("(not an object)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn debug_shows_no_prompt() {
        let request = PredictRequest::new(json!({"question": "a secret"}));
        let shown = format!("{request:?}");
        assert!(
            shown.contains("question") && !shown.contains("secret"),
            "{shown}"
        );

        let outputs = json!({"answer": "a secret"});
        let prediction = Prediction::new(outputs.as_object().cloned().unwrap_or_default());
        let shown = format!("{prediction:?}");
        assert!(
            shown.contains("answer") && !shown.contains("secret"),
            "{shown}"
        );
    }

    #[test]
    fn clones_share_their_inputs() {
        let request = PredictRequest::new(json!({"question": "q"}));
        let clone = request.clone();
        assert!(Arc::ptr_eq(&request.inputs, &clone.inputs));
    }
}
