//! The `google.rpc` details of a status, written and read.

use std::{collections::HashMap, error::Error as StdError, sync::Arc, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    call::{Cause, Spent},
    error::{
        Cancelled, Elapsed, ErrorKind, InvalidInput, LmError, Lost, Overloaded, ProgramError,
        Scope, Stage, costs_of, cut, sources,
    },
};

/// The domain of the reasons.
const DOMAIN: &str = "tower-dspy";

/// The metadata of an `ErrorInfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts(Vec<(&'static str, String)>);

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
        facts
    }

    fn read(&mut self, error: &(dyn StdError + 'static)) -> bool {
        if let Some(elapsed) = error.downcast_ref::<Elapsed>() {
            self.add("scope", word(&SCOPES, elapsed.scope()));
            self.add("stage", word(&STAGES, elapsed.stage()));
            self.add("limit_ms", elapsed.limit().as_millis().to_string());
        } else if let Some(cancelled) = error.downcast_ref::<Cancelled>() {
            self.add("cause", word(&CAUSES, cancelled.cause()));
            self.add("stage", word(&STAGES, cancelled.stage()));
        } else if let Some(input) = error.downcast_ref::<InvalidInput>() {
            self.add("problem", cut(input.problem()));
            self.add("expected", cut(input.expected()));
        } else if let Some(lm) = error.downcast_ref::<LmError>() {
            if let Some(status) = lm.status() {
                self.add("lm_status", status.to_string());
            }
        } else if let Some(lost) = error.downcast_ref::<Lost>() {
            self.add("stage", word(&STAGES, lost.stage()));
        } else {
            return error.is::<Overloaded>() || error.is::<ProgramError>();
        }
        true
    }

    fn spent(&mut self, spent: &Spent) {
        let calls = (spent.lm_calls.len() as u64).saturating_add(spent.lm_calls_not_kept);
        let counts = [
            ("prompt_tokens", spent.usage.prompt_tokens),
            ("completion_tokens", spent.usage.completion_tokens),
            ("total_tokens", spent.usage.total_tokens),
            ("lm_calls", calls),
            ("lm_calls_bypassed", spent.lm_calls_bypassed),
            ("steps", spent.steps.into()),
        ];
        for (name, count) in counts {
            if count > 0 {
                self.add(name, count.to_string());
            }
        }
    }

    fn add(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.push((name, value.into()));
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
    let facts = facts.0.into_iter();
    let facts: HashMap<_, _> = facts.map(|(name, fact)| (name.to_owned(), fact)).collect();
    let mut details = ErrorDetails::with_error_info(reason(kind), DOMAIN, facts);
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
            kind: ErrorKind::ALL
                .into_iter()
                .find(|kind| reason(*kind) == info.reason)?,
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

    pub(crate) fn scope(&self) -> Option<Scope> {
        value(&SCOPES, self.fact("scope")?)
    }

    pub(crate) fn stage(&self) -> Stage {
        let stage = self.fact("stage").and_then(|word| value(&STAGES, word));
        stage.unwrap_or(Stage::Running)
    }

    pub(crate) fn limit(&self) -> Option<Duration> {
        self.number("limit_ms").map(Duration::from_millis)
    }

    pub(crate) fn cause(&self) -> Option<Cause> {
        value(&CAUSES, self.fact("cause")?)
    }

    pub(crate) fn lm_error(&self, message: &str, retry_after: Option<Duration>) -> LmError {
        LmError::new("LMError", message, self.number("lm_status"), retry_after)
    }

    /// What the call had spent on its server, the LM calls only by their number.
    pub(crate) fn spent(&self) -> Option<Arc<Spent>> {
        let mut spent = Spent::default();
        let count = |name| self.number(name).unwrap_or_default();
        spent.usage.prompt_tokens = count("prompt_tokens");
        spent.usage.completion_tokens = count("completion_tokens");
        spent.usage.total_tokens = count("total_tokens");
        spent.lm_calls_not_kept = count("lm_calls");
        spent.lm_calls_bypassed = count("lm_calls_bypassed");
        spent.steps = self.number("steps").unwrap_or_default();
        (!spent.is_nothing()).then(|| Arc::new(spent))
    }
}

pub(crate) fn retry_after(status: &Status) -> Option<Duration> {
    if status.details().is_empty() {
        return None;
    }
    status.get_details_retry_info()?.retry_delay
}

/// The kind in upper case.
fn reason(kind: ErrorKind) -> String {
    serde_json::json!(kind)
        .as_str()
        .unwrap_or("other")
        .to_uppercase()
}

const SCOPES: [(Scope, &str); 4] = [
    (Scope::Attempt, "attempt"),
    (Scope::Deadline, "deadline"),
    (Scope::Reserve, "reserve"),
    (Scope::Share, "share"),
];

const STAGES: [(Stage, &str); 3] = [
    (Stage::BeforeStart, "before_start"),
    (Stage::Waiting, "waiting"),
    (Stage::Running, "running"),
];

const CAUSES: [(Cause, &str); 7] = [
    (Cause::Caller, "caller"),
    (Cause::ClientGone, "client_gone"),
    (Cause::Elapsed, "elapsed"),
    (Cause::Deadline, "deadline"),
    (Cause::Shutdown, "shutdown"),
    (Cause::Dropped, "dropped"),
    (Cause::Superseded, "superseded"),
];

fn word<T: PartialEq>(words: &[(T, &'static str)], value: T) -> &'static str {
    let known = words.iter().find(|(known, _)| *known == value);
    known.map_or("", |(_, word)| word)
}

fn value<T: Copy>(words: &[(T, &str)], word: &str) -> Option<T> {
    let known = words.iter().find(|(_, known)| *known == word);
    known.map(|(value, _)| *value)
}
