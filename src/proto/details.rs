//! The `google.rpc` details of a status, written and read.

use std::{collections::HashMap, error::Error as StdError, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use tonic::{Code, Status, metadata::MetadataMap};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    call::{BudgetLimits, BudgetSpent, CallId, Cause, Cost, Spent, Usd},
    error::{
        BudgetExceeded, Cancelled, Elapsed, ErrorKind, InvalidInput, LmError, Lost, Overloaded,
        ProgramError, Scope, Stage, costs_of, cut, sources,
    },
};

/// The domain of the reasons.
const DOMAIN: &str = "tower-dspy";

/// The metadata of an `ErrorInfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts(HashMap<String, String>);

impl Facts {
    /// What the first among `error` and its sources tells that is one of this crate's.
    pub(crate) fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut facts = Self::default();
        for error in sources(error) {
            if facts.read(error) {
                break;
            }
        }
        if let Some(spent) = costs_of(error) {
            facts.spent(spent);
        }
        if let Some(id) = CallId::of(error) {
            facts.of_call(id);
        }
        facts
    }

    /// The id of the call, as this process counts.
    pub(crate) fn of_call(&mut self, id: CallId) {
        self.add("call_id", id.to_string());
    }

    fn read(&mut self, error: &(dyn StdError + 'static)) -> bool {
        if let Some(elapsed) = error.downcast_ref::<Elapsed>() {
            self.add("scope", word(elapsed.scope()));
            self.add("stage", word(elapsed.stage()));
            self.add("limit_ms", elapsed.limit().as_millis().to_string());
        } else if let Some(cancelled) = error.downcast_ref::<Cancelled>() {
            self.add("cause", word(cancelled.cause()));
            self.add("stage", word(cancelled.stage()));
        } else if let Some(input) = error.downcast_ref::<InvalidInput>() {
            self.add("problem", cut(input.problem()));
            self.add("expected", cut(input.expected()));
        } else if let Some(lm) = error.downcast_ref::<LmError>() {
            if let Some(status) = lm.status() {
                self.add("lm_status", status.to_string());
            }
        } else if let Some(exceeded) = error.downcast_ref::<BudgetExceeded>() {
            self.budget(exceeded);
        } else if let Some(lost) = error.downcast_ref::<Lost>() {
            self.add("stage", word(lost.stage()));
        } else {
            return error.is::<Overloaded>() || error.is::<ProgramError>();
        }
        true
    }

    /// Neither limits nor what is spent: a budget may be that of all clients.
    fn budget(&mut self, exceeded: &BudgetExceeded) {
        if exceeded.is_unpriced() {
            self.add("budget_unpriced", "true");
        }
    }

    fn spent(&mut self, spent: &Spent) {
        let calls = (spent.lm_calls.len() as u64).saturating_add(spent.lm_calls_not_kept);
        let counts = [
            ("prompt_tokens", spent.usage.prompt_tokens),
            ("completion_tokens", spent.usage.completion_tokens),
            ("total_tokens", spent.usage.total_tokens),
            ("cached_tokens", spent.usage.cached_tokens),
            ("reasoning_tokens", spent.usage.reasoning_tokens),
            ("cost_unknown_calls", spent.cost.unknown_calls),
            ("lm_calls", calls),
            ("lm_calls_bypassed", spent.lm_calls_bypassed),
            ("steps", spent.steps.into()),
        ];
        for (name, count) in counts {
            if count > 0 {
                self.add(name, count.to_string());
            }
        }
        let costs = [
            ("cost_usd", spent.cost.usd),
            ("cost_estimated_usd", spent.cost.estimated_usd),
        ];
        for (name, usd) in costs {
            if usd > Usd::ZERO {
                self.add(name, usd.as_f64().to_string());
            }
        }
    }

    fn add(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }
}

/// A status with the details that say what it is about.
pub(crate) fn status(
    code: Code,
    kind: ErrorKind,
    detail: &str,
    field: Option<&str>,
    retry_after: Option<Duration>,
    facts: Facts,
) -> Status {
    let reason = word(kind).to_uppercase();
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, facts.0);
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    let detail = cut(detail);
    if kind == ErrorKind::InvalidInput {
        details.add_bad_request_violation(field.unwrap_or_default(), &*detail);
    }
    Status::with_error_details(code, detail, details)
}

/// The details of a status that a server of this crate has sent.
#[derive(Debug)]
pub(crate) struct StatusDetails {
    pub(crate) kind: ErrorKind,
    pub(crate) field: Option<String>,
    facts: HashMap<String, String>,
}

impl StatusDetails {
    pub(crate) fn of(status: &Status) -> Option<Self> {
        if status.details().is_empty() {
            return None;
        }
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == DOMAIN)?;
        let violation = details
            .bad_request()
            .and_then(|bad| bad.field_violations.first());
        let field = violation.map(|violation| violation.field.clone());
        Some(Self {
            kind: from_word(&info.reason.to_lowercase())?,
            field: field.filter(|field| !field.is_empty()),
            facts: info.metadata.clone(),
        })
    }

    pub(crate) fn fact(&self, name: &str) -> Option<&str> {
        self.facts.get(name).map(String::as_str)
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.fact(name)?.parse().ok()
    }

    /// The id of the call, as its server counts.
    pub(crate) fn call_id(&self) -> Option<CallId> {
        self.number("call_id")
    }

    pub(crate) fn scope(&self) -> Option<Scope> {
        from_word(self.fact("scope")?)
    }

    pub(crate) fn stage(&self) -> Stage {
        let stage = self.fact("stage").and_then(from_word);
        stage.unwrap_or(Stage::Running)
    }

    pub(crate) fn limit(&self) -> Option<Duration> {
        self.number("limit_ms").map(Duration::from_millis)
    }

    pub(crate) fn cause(&self) -> Option<Cause> {
        from_word(self.fact("cause")?)
    }

    pub(crate) fn lm_error(&self, message: &str, retry_after: Option<Duration>) -> LmError {
        LmError::new("LMError", message, self.number("lm_status"), retry_after)
    }

    /// Its limits, and what is spent of them, are the server's to know.
    pub(crate) fn budget_exceeded(&self, retry_after: Option<Duration>) -> BudgetExceeded {
        let error = BudgetExceeded::saying(BudgetLimits::new(), BudgetSpent::default());
        let error = error.with_retry_after(retry_after);
        match self.fact("budget_unpriced") {
            Some(_) => error.into_unpriced(),
            None => error,
        }
    }

    /// What the call had spent on its server, the LM calls only by their number.
    pub(crate) fn spent(&self) -> Option<Arc<Spent>> {
        let mut spent = Spent::default();
        let count = |name| self.number(name).unwrap_or_default();
        spent.usage.prompt_tokens = count("prompt_tokens");
        spent.usage.completion_tokens = count("completion_tokens");
        spent.usage.total_tokens = count("total_tokens");
        spent.usage.cached_tokens = count("cached_tokens");
        spent.usage.reasoning_tokens = count("reasoning_tokens");
        let usd = |name| Usd::new(self.number(name).unwrap_or_default());
        spent.cost = Cost {
            usd: usd("cost_usd"),
            estimated_usd: usd("cost_estimated_usd"),
            unknown_calls: count("cost_unknown_calls"),
        };
        spent.lm_calls_not_kept = count("lm_calls");
        spent.lm_calls_bypassed = count("lm_calls_bypassed");
        spent.steps = self.number("steps").unwrap_or_default();
        (!spent.is_nothing()).then(|| Arc::new(spent))
    }
}

/// Reads bytes as the details of a status. For the fuzz target `grpc_details`.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn read_status_bytes(bytes: &[u8]) {
    let status = Status::with_details(Code::Unknown, "", bytes.to_vec().into());
    let wait = retry_after(&status);
    if let Some(details) = StatusDetails::of(&status) {
        let _ = (details.call_id(), details.scope(), details.stage());
        let _ = (details.limit(), details.cause(), details.spent());
        let _ = details.budget_exceeded(wait).to_string();
        assert!(details.lm_error("", wait).to_string().len() < 1_000);
    }
}

/// Puts the id of a call into the metadata of its response.
pub(crate) fn write_call_id(id: CallId, metadata: &mut MetadataMap) {
    metadata.insert("x-call-id", id.get().into());
}

pub(crate) fn retry_after(status: &Status) -> Option<Duration> {
    if status.details().is_empty() {
        return None;
    }
    status.get_details_retry_info()?.retry_delay
}

/// A kind, scope, stage or cause in snake case.
fn word(value: impl Serialize) -> String {
    let word = serde_json::to_value(value);
    let word = word.ok().and_then(|word| word.as_str().map(str::to_owned));
    word.unwrap_or_default()
}

fn from_word<T: DeserializeOwned>(word: &str) -> Option<T> {
    serde_json::from_value(word.into()).ok()
}
