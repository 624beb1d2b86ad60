//! The columns of the matrix: phases of live calls, classes of outcomes, classes of durations.

use crate::{
    call::record::OutcomeClass,
    layers::track::{LivePhase, ProgramCalls, TookClass},
};

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Live(LivePhase),
    /// Answered calls whose work goes on.
    Orphans,
    Outcome(OutcomeClass),
    Took(TookClass),
}

/// Columns under one head.
#[derive(Debug)]
pub(super) struct ColumnGroup {
    pub(super) head: &'static str,
    pub(super) columns: Vec<Column>,
}

/// The groups of columns: by the share of the deadline, or by the time that calls took.
pub(super) fn groups(by_time: bool) -> Vec<ColumnGroup> {
    use OutcomeClass::*;
    let group = |head, columns| ColumnGroup { head, columns };
    let outcomes = |head, classes: &[OutcomeClass]| {
        group(head, classes.iter().copied().map(Column::Outcome).collect())
    };
    let live = [LivePhase::Waiting, LivePhase::Running, LivePhase::Stopping].map(Column::Live);
    let now = group("now", [&live[..], &[Column::Orphans]].concat());
    if by_time {
        let took = group("took", TookClass::all().map(Column::Took).collect());
        return vec![now, took];
    }
    vec![
        now,
        outcomes(
            "answered, by share of the time to the deadline",
            &[
                Within25, Within50, Within75, Within90, Within100, NoDeadline,
            ],
        ),
        outcomes("fallback", &[FellBack, Stale]),
        outcomes(
            "stopped",
            &[Late, AttemptLimit, ClientGone, Cancelled, Shutdown],
        ),
        outcomes(
            "failed",
            &[InvalidInput, Overloaded, LmFailed, OverBudget, Failed, Lost],
        ),
    ]
}

impl Column {
    /// Its name in a link, and in JSON.
    pub(super) fn name(self) -> String {
        match self {
            Self::Live(LivePhase::Waiting) => "waiting".to_owned(),
            Self::Live(LivePhase::Running) => "running".to_owned(),
            Self::Live(LivePhase::Stopping) => "stopping".to_owned(),
            Self::Orphans => "orphans".to_owned(),
            Self::Took(class) => format!("from_{}_ms", class.from().as_millis()),
            Self::Outcome(class) => {
                let name = serde_json::to_value(class).unwrap_or_default();
                name.as_str().unwrap_or_default().to_owned()
            }
        }
    }

    /// Its head in the table.
    pub(super) fn head(self) -> String {
        use OutcomeClass::*;
        let head = match self {
            Self::Took(class) => return took_head(class),
            Self::Outcome(class) => match class {
                Within25 => "<25\u{a0}%",
                Within50 => "<50\u{a0}%",
                Within75 => "<75\u{a0}%",
                Within90 => "<90\u{a0}%",
                Within100 => "<100\u{a0}%",
                NoDeadline => "none set",
                FellBack => "fell back",
                Stale => "stale",
                Late => "late",
                AttemptLimit => "attempt limit",
                ClientGone => "client gone",
                Cancelled => "cancelled",
                Shutdown => "shutdown",
                InvalidInput => "invalid",
                Overloaded => "overloaded",
                LmFailed => "LM",
                OverBudget => "budget",
                Failed => "program",
                Lost => "lost",
            },
            live => return live.name(),
        };
        head.to_owned()
    }

    /// What its calls are, in words.
    pub(super) fn words(self) -> String {
        use OutcomeClass::*;
        let words = match self {
            Self::Live(LivePhase::Waiting) => "waiting for a service",
            Self::Live(LivePhase::Running) => "running",
            Self::Live(LivePhase::Stopping) => "signalled to stop and not answered yet",
            Self::Orphans => "answered and still at work",
            Self::Took(class) => return format!("that took {}", took_head(class)),
            Self::Outcome(class) => match class {
                Within25 => "answered within 25 % of the time to the deadline",
                Within50 => "answered within 50 % of the time to the deadline",
                Within75 => "answered within 75 % of the time to the deadline",
                Within90 => "answered within 90 % of the time to the deadline",
                Within100 => "answered in the last 10 % of the time to the deadline",
                NoDeadline => "answered, with no deadline",
                FellBack => "answered by a fallback",
                Stale => "answered by an earlier answer",
                Late => "ended by the deadline",
                AttemptLimit => "ended by the limit of an attempt",
                ClientGone => "ended because the client went away",
                Cancelled => "cancelled by the caller",
                Shutdown => "ended by a shutdown",
                InvalidInput => "refused for wrong inputs",
                Overloaded => "refused because of too many calls",
                LmFailed => "failed because of the LM",
                OverBudget => "ended because a budget was used up",
                Failed => "failed in the program",
                Lost => "lost with what ran them",
            },
        };
        words.to_owned()
    }

    /// Its name in the style sheet: how good it is to be there.
    pub(super) fn class(self) -> &'static str {
        use OutcomeClass::*;
        match self {
            Self::Live(LivePhase::Stopping) => "stops",
            Self::Live(_) | Self::Took(_) => "neutral",
            Self::Orphans => "bad",
            Self::Outcome(class) => match class {
                Within25 | Within50 | Within75 => "good",
                NoDeadline | ClientGone | Cancelled | Shutdown => "neutral",
                Within90 | Within100 | FellBack | Stale => "close",
                Late | AttemptLimit => "bad",
                InvalidInput | Overloaded | LmFailed | OverBudget | Failed | Lost => "bad",
            },
        }
    }

    /// How many calls of a program are in it.
    pub(super) fn count(self, program: &ProgramCalls) -> u64 {
        let finished = match self {
            Self::Live(LivePhase::Waiting) => return program.waiting,
            Self::Live(LivePhase::Running) => return program.running,
            Self::Live(LivePhase::Stopping) => return program.stopping,
            Self::Orphans => return program.orphans,
            Self::Outcome(class) => program.outcomes.get(&class),
            Self::Took(class) => program.took.get(&class),
        };
        finished.copied().unwrap_or_default()
    }

    /// The column of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let groups = [false, true].into_iter().flat_map(groups);
        let mut columns = groups.flat_map(|group| group.columns);
        columns.find(|column| column.name() == name)
    }
}

fn took_head(class: TookClass) -> String {
    let from = class.from().as_millis();
    match from {
        0 => "<50\u{a0}ms".to_owned(),
        1..1_000 => format!("≥{from}\u{a0}ms"),
        1_000..60_000 => format!("≥{}\u{a0}s", from / 1_000),
        _ => format!("≥{}\u{a0}min", from / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_class_has_one_column_with_a_name_of_its_own() {
        let columns: Vec<_> = [false, true]
            .into_iter()
            .flat_map(groups)
            .flat_map(|group| group.columns)
            .collect();
        for class in OutcomeClass::ALL {
            let of_it = columns.iter().filter(|&&it| it == Column::Outcome(class));
            assert_eq!(of_it.count(), 1, "{class:?}");
        }
        for class in TookClass::all() {
            assert!(columns.contains(&Column::Took(class)));
        }
        let names: BTreeSet<_> = columns.iter().map(|column| column.name()).collect();
        // Those of live calls are in both.
        assert_eq!(names.len() + 4, columns.len());
        for column in columns {
            assert_eq!(Column::named(&column.name()), Some(column));
        }
    }
}
