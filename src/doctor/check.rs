//! [`Check`]: a finding of the doctor.

use std::fmt;

/// How a [`Check`] came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CheckOutcome {
    /// It is as it should be.
    Ok,
    /// It works, but may not be what was meant, or may fail later.
    Warning,
    /// It does not work.
    Wrong,
    /// It could not be checked, because of something else.
    Skipped,
}

impl CheckOutcome {
    /// The word of a printed line, such as `warning`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
            Self::Skipped => "skipped",
        }
    }
}

impl fmt::Display for CheckOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One finding: what was looked at, how it is, and what mends it. An application
/// [adds](super::Diagnosis::push) its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    name: &'static str,
    outcome: CheckOutcome,
    text: String,
}

impl Check {
    /// It is as it should be.
    #[must_use]
    pub fn ok(name: &'static str, found: impl fmt::Display) -> Self {
        Self::new(name, CheckOutcome::Ok, found)
    }

    /// It works, but may fail later: `problem` says why, and what mends it.
    #[must_use]
    pub fn warning(name: &'static str, problem: impl fmt::Display) -> Self {
        Self::new(name, CheckOutcome::Warning, problem)
    }

    /// It does not work: `problem` says why, and what mends it.
    #[must_use]
    pub fn wrong(name: &'static str, problem: impl fmt::Display) -> Self {
        Self::new(name, CheckOutcome::Wrong, problem)
    }

    /// It could not be checked, for this reason.
    #[must_use]
    pub fn skipped(name: &'static str, reason: impl fmt::Display) -> Self {
        Self::new(name, CheckOutcome::Skipped, reason)
    }

    fn new(name: &'static str, outcome: CheckOutcome, text: impl fmt::Display) -> Self {
        let text = text.to_string();
        Self {
            name,
            outcome,
            text,
        }
    }

    /// What was looked at, such as `venv`: one of the names in the table of
    /// [the module](crate::doctor). Programs and LMs have a check each, of one name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// How it came out.
    #[must_use]
    pub const fn outcome(&self) -> CheckOutcome {
        self.outcome
    }

    /// What was found; where something is wrong, with the remedy. It holds no key and no prompt.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A line, with the further lines of the text below its first.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.text.trim_end().lines();
        let first = lines.next().unwrap_or_default();
        write!(f, "{:<8} {:<12} {first}", self.outcome, self.name)?;
        for line in lines {
            write!(f, "\n{:<8} {:<12} {line}", "", "")?;
        }
        Ok(())
    }
}
