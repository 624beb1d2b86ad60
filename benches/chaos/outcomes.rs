//! What callers saw.

use std::{collections::BTreeMap, sync::Mutex};

use tower_dspy::ErrorKind;

/// The name under which the calls of the calm stretch are counted, of whatever program.
pub(crate) const CALM: &str = "calm";

/// What a call came to for its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    /// A wrong answer, or an outcome that the call cannot have.
    Wrong(String),
    Failed(String),
    /// The caller cancelled it, or left before there was an outcome.
    Cancelled,
    /// Its worker was lost.
    Lost,
    /// The connection ended in the middle of the answer.
    Cut(String),
    /// There was none in any time that a call may take.
    Silent,
}

impl Outcome {
    pub(crate) fn of_kind(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Lost => Self::Lost,
            ErrorKind::Cancelled => Self::Cancelled,
            kind => Self::Failed(text(kind)),
        }
    }
}

/// The name of a kind, as it is on the wire.
pub(crate) fn text(kind: ErrorKind) -> String {
    let name = serde_json::to_value(kind).ok();
    let name = name.and_then(|name| name.as_str().map(str::to_owned));
    name.unwrap_or_else(|| format!("{kind:?}"))
}

/// The counts of the callers of one host.
#[derive(Debug, Default)]
pub(crate) struct Outcomes(Mutex<OutcomeCounts>);

#[derive(Clone, Debug, Default)]
pub(crate) struct OutcomeCounts {
    pub(crate) made: u64,
    /// Those of them by HTTP or gRPC.
    pub(crate) remote: u64,
    pub(crate) answered: u64,
    /// Of each program, and of all in the calm stretch: calls that ended, and those answered.
    pub(crate) programs: BTreeMap<&'static str, (u64, u64)>,
    pub(crate) failed: BTreeMap<String, u64>,
    pub(crate) cancelled: u64,
    pub(crate) lost: u64,
    pub(crate) cut: u64,
    pub(crate) wrong: u64,
    pub(crate) silent: u64,
}

impl Outcomes {
    pub(crate) fn begin(&self, is_remote: bool) {
        self.change(|counts| {
            counts.made += 1;
            counts.remote += u64::from(is_remote);
        });
    }

    /// The outcome of a call of `program`.
    pub(crate) fn end(&self, what: &str, program: &'static str, outcome: Outcome) {
        match &outcome {
            Outcome::Wrong(text) => println!("{what}: a wrong answer: {text}"),
            Outcome::Cut(text) => println!("{what}: cut off: {text}"),
            Outcome::Silent => println!("{what}: no outcome"),
            _ => {}
        }
        self.change(|counts| {
            let (made, answered) = counts.programs.entry(program).or_default();
            *made += 1;
            *answered += u64::from(outcome == Outcome::Answered);
        });
        self.change(|counts| match outcome {
            Outcome::Answered => counts.answered += 1,
            Outcome::Wrong(_) => counts.wrong += 1,
            Outcome::Failed(kind) => *counts.failed.entry(kind).or_default() += 1,
            Outcome::Cancelled => counts.cancelled += 1,
            Outcome::Lost => counts.lost += 1,
            Outcome::Cut(_) => counts.cut += 1,
            Outcome::Silent => counts.silent += 1,
        });
    }

    pub(crate) fn read(&self) -> OutcomeCounts {
        self.0.lock().expect("no panic within").clone()
    }

    fn change(&self, change: impl FnOnce(&mut OutcomeCounts)) {
        change(&mut self.0.lock().expect("no panic within"));
    }
}

impl OutcomeCounts {
    /// The failures of these kinds.
    pub(crate) fn failed_as(&self, kinds: &[&str]) -> u64 {
        kinds.iter().filter_map(|kind| self.failed.get(*kind)).sum()
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Calls that are in none of the counts of outcomes.
    pub(crate) fn missing(&self) -> u64 {
        let ended = self.answered + self.failures() + self.cancelled + self.lost;
        self.made
            .abs_diff(ended + self.cut + self.wrong + self.silent)
    }
}
