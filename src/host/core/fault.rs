//! A failure on Python's side as owned Rust data: a `PyErr` never leaves Python's thread.

use std::time::Duration;

use serde::Deserialize;

use crate::{
    call::Cause,
    error::{Cancelled, Error, InvalidInput, LmError, ProgramError},
};

/// The description of an exception, by `faults.describe`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Fault {
    #[serde(flatten)]
    pub(crate) kind: FaultKind,
    #[serde(rename = "type", default)]
    pub(crate) python_type: Box<str>,
    #[serde(default)]
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) traceback: Box<str>,
    /// The frame that raised it, as `file:line function`.
    #[serde(default)]
    pub(crate) raised_at: Box<str>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum FaultKind {
    /// The call ended because it was cancelled.
    Cancelled,
    /// An LM call failed, and the program let that through.
    Lm {
        status: Option<u16>,
        /// In seconds.
        retry_after: Option<f64>,
        /// Not worth another try, whatever the status.
        #[serde(default)]
        rejected: bool,
        /// It was not sent, because a budget was used up.
        #[serde(default)]
        over_budget: bool,
    },
    /// An input does not fit its field's type.
    InvalidInput { field: String, expected: String },
    /// The process that ran the call is gone.
    #[cfg(feature = "workers")]
    #[serde(skip)]
    Lost,
    /// Any other exception.
    Raised,
    /// Another failure that this crate names itself.
    #[serde(untagged)]
    Named { kind: String },
}

impl Fault {
    /// The outcome of a call that was cancelled while it ran.
    #[cfg(feature = "python")]
    pub(crate) fn cancelled() -> Self {
        Self {
            kind: FaultKind::Cancelled,
            ..Self::new("CancelledError", "")
        }
    }

    /// The outcome of a call that was cancelled while it was queued.
    pub(crate) fn cancelled_before_start() -> Self {
        Self {
            kind: FaultKind::Cancelled,
            ..Self::new("CancelledError", "cancelled before it was started")
        }
    }

    /// A failure of a kind that this crate names itself.
    #[cfg(feature = "workers")]
    pub(crate) fn named(kind: &str, message: impl Into<String>) -> Self {
        Self {
            kind: FaultKind::Named { kind: kind.into() },
            ..Self::new("", message)
        }
    }

    /// A failure that Rust notices itself.
    pub(crate) fn new(python_type: impl Into<Box<str>>, message: impl Into<String>) -> Self {
        Self {
            kind: FaultKind::Raised,
            python_type: python_type.into(),
            message: message.into(),
            traceback: Box::default(),
            raised_at: Box::default(),
        }
    }

    /// Whether it says that an LM call was refused for a budget.
    pub(super) fn is_over_budget(&self) -> bool {
        matches!(self.kind, FaultKind::Lm { over_budget, .. } if over_budget)
    }

    /// Gives the failure of an LM that was not asked the wait that the refusal asked for.
    #[must_use]
    pub(super) fn or_retry_after(mut self, wait: Option<Duration>) -> Self {
        if let FaultKind::Lm {
            status: None,
            retry_after,
            ..
        } = &mut self.kind
        {
            *retry_after = retry_after.or(wait.map(|wait| wait.as_secs_f64()));
        }
        self
    }

    /// The error of a call of `program` that ended so; `cause` tells why it was cancelled, if it
    /// was.
    pub(crate) fn into_error(self, program: &str, cause: Cause) -> Error {
        match self.kind {
            FaultKind::Cancelled => Cancelled::new(cause).into(),
            FaultKind::Lm {
                status,
                retry_after,
                rejected,
                over_budget: _,
            } => {
                let python_type = short(&self.python_type);
                let retry_after =
                    retry_after.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                let error = LmError::new(python_type, self.message, status, retry_after);
                let error = error.with_advice(advice(python_type, status));
                if rejected {
                    error.into_rejected().into()
                } else {
                    error.into()
                }
            }
            FaultKind::InvalidInput { field, expected } => {
                let expected = format!("{field}: {expected}");
                InvalidInput::new(program, Some(&field), self.message, expected).into()
            }
            #[cfg(feature = "workers")]
            FaultKind::Lost => crate::error::Lost::worker(self.message).into(),
            FaultKind::Named { .. } | FaultKind::Raised => {
                ProgramError::new(self.python_type, self.message, self.traceback)
                    .with_raised_at(self.raised_at)
                    .into()
            }
        }
    }
}

/// What to do about an answer of the provider with this status, in terms of this crate.
fn advice(python_type: &str, status: Option<u16>) -> Option<&'static str> {
    let Some(status) = status else {
        return (python_type == "LMTransportError").then_some(
            "No answer came: check that a server listens at the LM's address, which `Lm::base_url` \
             sets, and that this machine can reach it",
        );
    };
    Some(match status {
        401 => {
            "The provider refuses the key: check the variable that the LM takes its key from, or give \
             another by `Lm::key_env` or `Lm::key`; `Lm::base_url` says whose key it has to be"
        }
        402 => "The account of the key has no credit left: add some at the provider's",
        403 => {
            "The key may not do this: check at the provider's that it may use the model, or give \
             another by `Lm::key_env` or `Lm::key`"
        }
        404 => {
            "Nothing answers by this model at this address: check the name that `Lm::new` was given, \
             and `Lm::base_url`, which for a server with OpenAI's API mostly ends in `/v1`"
        }
        429 => {
            "The provider wants fewer requests: try again later, as by a `RetryLayer`, or put a limit \
             around the LM by `Lm::layer`"
        }
        500..=599 => "The provider fails: try again later, as by a `RetryLayer`",
        _ => return None,
    })
}

/// `LMTransportError` of `dspy.utils.exceptions.LMTransportError`: the module is DSPy's own affair.
/// That of an exception of the program's own is not.
fn short(python_type: &str) -> &str {
    match python_type.strip_prefix("dspy.") {
        Some(path) => path.rsplit('.').next().unwrap_or(path),
        None => python_type,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_fault_without_its_texts_is_read() {
        let read = serde_json::from_value::<Fault>(json!({"kind": "raised"}));
        assert_eq!(read.expect("a fault"), Fault::new("", ""));
    }

    #[test]
    fn the_kind_is_read_with_its_fields() {
        let kind = |described: Value| {
            let mut fault = json!({"type": "E", "message": "m", "traceback": "t"});
            let fields = fault.as_object_mut().expect("an object");
            fields.extend(described.as_object().expect("an object").clone());
            serde_json::from_value::<Fault>(fault)
                .expect("a fault")
                .kind
        };
        assert_eq!(kind(json!({"kind": "cancelled"})), FaultKind::Cancelled);
        assert_eq!(kind(json!({"kind": "raised"})), FaultKind::Raised);
        let lm = json!({"kind": "lm", "status": 429, "retry_after": 2.5, "rejected": true});
        let read = FaultKind::Lm {
            status: Some(429),
            retry_after: Some(2.5),
            rejected: true,
            over_budget: false,
        };
        assert_eq!(kind(lm), read);
        let bare = FaultKind::Lm {
            status: None,
            retry_after: None,
            rejected: false,
            over_budget: false,
        };
        assert_eq!(
            kind(json!({"kind": "lm", "field": null, "expected": ""})),
            bare
        );
        let named = FaultKind::Named {
            kind: "schema".into(),
        };
        assert_eq!(kind(json!({"kind": "schema", "field": null})), named);
        let input = json!({"kind": "invalid_input", "field": "q", "expected": "str"});
        let read = FaultKind::InvalidInput {
            field: "q".into(),
            expected: "str".into(),
        };
        assert_eq!(kind(input), read);
    }
}
