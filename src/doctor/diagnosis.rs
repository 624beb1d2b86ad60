//! [`Diagnosis`]: all findings of the doctor, and the host that was started for them.

use std::{fmt, process::ExitCode};

use super::check::{Check, CheckOutcome};
use crate::host::Host;

/// What a [`Doctor`](super::Doctor) found.
///
/// Its `Display` has a line for each check, and a last line that counts what is wrong. As an
/// [`ExitCode`] it is a success if [nothing is wrong](Self::is_well).
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is printed by itself"]
pub struct Diagnosis {
    checks: Vec<Check>,
    host: Option<Host>,
}

impl Diagnosis {
    /// Adds a check of the application's own, such as whether its database answers.
    ///
    /// ```
    /// use tower_dspy::doctor::{Check, Diagnosis};
    ///
    /// let mut diagnosis = Diagnosis::default();
    /// diagnosis.push(Check::wrong("database", "no answer: start it by `docker compose up db`"));
    /// assert!(!diagnosis.is_well());
    /// ```
    pub fn push(&mut self, check: Check) {
        self.checks.push(check);
    }

    pub(super) fn extend(&mut self, checks: impl IntoIterator<Item = Check>) {
        self.checks.extend(checks);
    }

    pub(super) fn set_host(&mut self, host: Host) {
        self.host = Some(host);
    }

    /// Whether nothing is wrong. Warnings, and what was skipped, do not count.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.count(CheckOutcome::Wrong) == 0
    }

    /// The checks, in the order in which they were made.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// The host that was started, or given; `None` if it did not start. It runs on: load programs
    /// in it, or [stop](Host::stop) it.
    #[must_use]
    pub const fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    fn count(&self, outcome: CheckOutcome) -> usize {
        let of = |check: &&Check| check.outcome() == outcome;
        self.checks.iter().filter(of).count()
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            writeln!(f, "{check}")?;
        }
        let warnings = match self.count(CheckOutcome::Warning) {
            0 => String::new(),
            1 => ", with 1 warning".to_owned(),
            n => format!(", with {n} warnings"),
        };
        match self.count(CheckOutcome::Wrong) {
            0 => writeln!(f, "\nall is well{warnings}"),
            n => writeln!(f, "\n{n} wrong{warnings}; mend the first and look again"),
        }
    }
}

impl From<&Diagnosis> for ExitCode {
    fn from(diagnosis: &Diagnosis) -> Self {
        match diagnosis.is_well() {
            true => Self::SUCCESS,
            false => Self::FAILURE,
        }
    }
}

impl From<Diagnosis> for ExitCode {
    fn from(diagnosis: Diagnosis) -> Self {
        Self::from(&diagnosis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnosis(checks: impl IntoIterator<Item = Check>) -> Diagnosis {
        let mut diagnosis = Diagnosis::default();
        diagnosis.extend(checks);
        diagnosis
    }

    #[test]
    fn a_line_a_check_with_further_lines_below_the_first() {
        let text = diagnosis([
            Check::ok("Python", "3.11.7"),
            Check::wrong("venv", "there is none.\nMake one"),
            Check::warning("LM", "slow"),
        ]);
        assert_eq!(
            text.to_string(),
            "ok       Python       3.11.7\n\
             wrong    venv         there is none.\n                      Make one\n\
             warning  LM           slow\n\n\
             1 wrong, with 1 warning; mend the first and look again\n"
        );
        assert!(!text.is_well());
    }

    #[test]
    fn warnings_and_skipped_checks_leave_all_well() {
        let well = diagnosis([
            Check::warning("LM", "slow"),
            Check::skipped("host", "no venv"),
        ]);
        assert!(well.is_well());
        assert!(
            well.to_string()
                .ends_with("\nall is well, with 1 warning\n"),
            "{well}"
        );
        // `ExitCode` has no `PartialEq`.
        let code = |diagnosis: &Diagnosis| format!("{:?}", ExitCode::from(diagnosis));
        assert_eq!(code(&well), format!("{:?}", ExitCode::SUCCESS));
        let ill = diagnosis([Check::wrong("LM", "no key")]);
        assert_eq!(code(&ill), format!("{:?}", ExitCode::FAILURE));
    }
}
