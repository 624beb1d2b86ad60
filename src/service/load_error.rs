//! [`LoadError`]: why a program was not loaded.

use std::fmt;

use crate::host::core::fault::{Fault, FaultKind};

/// A program that could not be loaded.
///
/// `Debug` is the sentence of `Display` and, where the program's own code raised, Python's traceback
/// below it: an error that `main` returns can be read.
#[derive(thiserror::Error)]
#[error("`{target}` was not loaded: {problem}")]
pub struct LoadError {
    kind: LoadErrorKind,
    target: String,
    problem: String,
    traceback: String,
}

/// The kind of a [`LoadError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LoadErrorKind {
    /// The target is neither `package.module:attribute` nor a signature that DSPy can read.
    Target,
    /// There is no such module, or no such attribute in it.
    NotFound,
    /// The target is no module, no class of one and no factory of one; or, where a function was to
    /// be loaded, no async function.
    NotAProgram,
    /// The program's own code raised while it was imported or made.
    Raised,
    /// The program's fields cannot be known, bear a name that DSPy keeps for itself, or are not
    /// those of the program that is to be replaced.
    Schema,
    /// The program's LM cannot be used, or it has none and needs one.
    Lm,
    /// The state cannot be loaded into the program.
    State,
    /// A tool cannot be offered to the program.
    Tool,
    /// A Python module that the program imports, or a package that it needs, is not installed.
    Package,
    /// The program cannot take the place of the other: the host is embedded, or is another one.
    Replacement,
    /// An option of the load is out of its range, as `max_in_flight(0)`.
    Option,
    /// Loading took longer than the `load_limit` of the host's settings.
    Elapsed,
    /// The host, or the worker process that loaded the program, is gone.
    Lost,
    /// A failure of none of these kinds.
    Other,
}

/// The class of the failures that Python's side raises itself.
const HOST_ERROR: &str = "tower_dspy.faults.HostError";

impl fmt::Debug for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)?;
        match self.traceback.trim_end() {
            "" => Ok(()),
            traceback => write!(f, "\n\n{traceback}"),
        }
    }
}

impl LoadErrorKind {
    fn of(fault: &FaultKind) -> Self {
        match fault {
            FaultKind::Lm { .. } => Self::Lm,
            #[cfg(feature = "workers")]
            FaultKind::Lost => Self::Lost,
            FaultKind::Raised => Self::Raised,
            FaultKind::Named { kind } => match &**kind {
                "elapsed" => Self::Elapsed,
                "lm" | "own_lm" | "predictor_lm" => Self::Lm,
                "not_found" => Self::NotFound,
                "not_a_program" => Self::NotAProgram,
                "package" => Self::Package,
                "schema" => Self::Schema,
                "signature" => Self::Target,
                "replacement" => Self::Replacement,
                "state" => Self::State,
                _ => Self::Other,
            },
            FaultKind::Cancelled | FaultKind::InvalidInput { .. } => Self::Other,
        }
    }
}

impl LoadError {
    pub(super) fn new(kind: LoadErrorKind, target: &str, problem: impl Into<String>) -> Self {
        Self {
            kind,
            target: target.to_owned(),
            problem: problem.into(),
            traceback: String::new(),
        }
    }

    pub(super) fn of_fault(target: &str, fault: Fault) -> Self {
        let kind = LoadErrorKind::of(&fault.kind);
        let problem = match fault.kind {
            #[cfg(feature = "workers")]
            FaultKind::Lost => fault.message,
            FaultKind::Named { .. } => fault.message,
            // A failure that the host raises itself has told all.
            FaultKind::Lm { .. } if &*fault.python_type == HOST_ERROR => fault.message,
            _ if fault.raised_at.is_empty() => format!("{}: {}", fault.python_type, fault.message),
            _ => format!(
                "{}: {} (at {})",
                fault.python_type, fault.message, fault.raised_at
            ),
        };
        Self {
            kind,
            target: target.to_owned(),
            problem,
            traceback: fault.traceback.into(),
        }
    }

    /// The kind of the failure.
    #[must_use]
    pub const fn kind(&self) -> LoadErrorKind {
        self.kind
    }

    /// What was to be loaded.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Python's traceback, where loading raised; else empty.
    #[must_use]
    pub fn traceback(&self) -> &str {
        &self.traceback
    }
}
