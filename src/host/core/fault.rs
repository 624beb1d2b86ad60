//! A failure on Python's side as owned Rust data: a `PyErr` never leaves Python's thread.

use std::{error::Error as StdError, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    call::Cause,
    error::{Cancelled, Error, InvalidInput, LmError, Lost, ProgramError},
};

/// The description of an exception, by `faults.describe`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "Value")]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) python_type: String,
    pub(crate) message: String,
    pub(crate) traceback: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FaultKind {
    /// The call ended because it was cancelled.
    Cancelled,
    /// An LM call failed, and the program let that through.
    Lm {
        status: Option<u16>,
        retry_after: Option<Duration>,
        /// Not worth another try, whatever the status.
        rejected: bool,
    },
    /// An input does not fit its field's type.
    InvalidInput { field: String, expected: String },
    /// The process that ran the call is gone.
    #[cfg(feature = "workers")]
    Lost,
    /// Another failure that this crate's Python code names itself.
    Named(String),
    /// Any other exception.
    Raised,
}

impl Fault {
    /// The outcome of a call that was cancelled while it was queued.
    pub(crate) fn cancelled_before_start() -> Self {
        Self {
            kind: FaultKind::Cancelled,
            ..Self::new("CancelledError", "cancelled before it was started")
        }
    }

    /// A failure that Rust notices itself.
    pub(crate) fn new(python_type: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind: FaultKind::Raised,
            python_type: python_type.into(),
            message: message.into(),
            traceback: String::new(),
        }
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
            } => {
                let python_type = short(&self.python_type);
                let error = LmError::new(python_type, self.message, status, retry_after);
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
            FaultKind::Lost => Lost::worker(self.message).into(),
            FaultKind::Named(_) | FaultKind::Raised => {
                ProgramError::new(self.python_type, self.message, self.traceback).into()
            }
        }
    }
}

/// Of the dict of `faults.describe`.
impl From<Value> for Fault {
    fn from(described: Value) -> Self {
        let text = |name: &str| {
            let text = described.get(name).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let kind = match described.get("kind").and_then(Value::as_str) {
            Some("cancelled") => FaultKind::Cancelled,
            Some("lm") => FaultKind::Lm {
                status: described
                    .get("status")
                    .and_then(Value::as_u64)
                    .and_then(|status| u16::try_from(status).ok()),
                retry_after: described
                    .get("retry_after")
                    .and_then(Value::as_f64)
                    .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
                rejected: described.get("rejected") == Some(&Value::Bool(true)),
            },
            Some("invalid_input") => FaultKind::InvalidInput {
                field: text("field"),
                expected: text("expected"),
            },
            None | Some("raised") => FaultKind::Raised,
            Some(named) => FaultKind::Named(named.to_owned()),
        };
        Self {
            kind,
            python_type: text("type"),
            message: text("message"),
            traceback: text("traceback"),
        }
    }
}

/// `LMTransportError` of `dspy.utils.exceptions.LMTransportError`: the module is DSPy's own affair.
/// That of an exception of the program's own is not.
fn short(python_type: &str) -> &str {
    match python_type.strip_prefix("dspy.") {
        Some(path) => path.rsplit('.').next().unwrap_or(path),
        None => python_type,
    }
}

/// The error of a call whose host went away.
pub(crate) fn lost(reason: &str) -> Error {
    Lost::new(reason).into()
}

const _: fn() = || {
    fn owned<T: StdError + Send + Sync + 'static>() {}
    owned::<Error>();
};
