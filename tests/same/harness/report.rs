//! The findings of a run: the rows, and the differences between the host and plain DSPy.

use std::fmt;

use serde_json::{Value, json};

use super::{
    Outcome, Row, compare,
    hosted::{Hosted, Side},
    modules,
    plain::Run,
    server::{Seen, Server},
};

/// The comparison of all rows on all sides.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Compared>,
}

#[derive(Debug)]
struct Compared {
    name: String,
    reason: Option<String>,
    /// One for each side that ran the row.
    sides: Vec<SideCompared>,
}

#[derive(Debug)]
struct SideCompared {
    side: &'static str,
    requests: Vec<String>,
    outcome: Vec<String>,
    /// Tokens that the server told of and the host did not count.
    usage: Option<String>,
    /// Requests that came past the host.
    past_host: usize,
}

impl SideCompared {
    fn differs(&self) -> bool {
        !self.requests.is_empty()
            || !self.outcome.is_empty()
            || self.usage.is_some()
            || self.past_host > 0
    }
}

impl Report {
    pub(super) fn compared(
        &mut self,
        row: &Row,
        side: Side,
        plain: &Run,
        hosted: &Hosted,
        server: &Server,
    ) {
        let requests = |side| {
            let seen = server.seen(side, &row.name);
            modules::neutral(&requests(seen, row.concurrent), server, side, row)
        };
        let outcome = |side, outcome| modules::neutral(&value(outcome), server, side, row);
        let seen = server.seen(side.name(), &row.name).len();
        let told = server.told(side.name(), &row.name);
        let counted = (hosted.usage.prompt_tokens, hosted.usage.completion_tokens);
        let compared = SideCompared {
            side: side.name(),
            requests: compare::differences(&requests(plain.side()), &requests(side.name())),
            outcome: match (&plain.outcome, &hosted.outcome) {
                (Outcome::Error(expected), Outcome::Error(hosted))
                    if expected.is_as(hosted)
                        || plain
                            .wrapped
                            .as_ref()
                            .is_some_and(|inner| inner.is_as(hosted)) =>
                {
                    vec![]
                }
                (expected, hosted) => compare::differences(
                    &outcome(plain.side(), expected),
                    &outcome(side.name(), hosted),
                ),
            },
            // A body that is scripted as it is tells what it likes.
            usage: (!row.replies.iter().any(|reply| reply.body.is_some())
                && (told.prompt, told.completion) != counted)
                .then(|| format!("the server told {told:?}, the host counted {counted:?}")),
            past_host: seen.saturating_sub(hosted.lm_calls),
        };
        match self.rows.iter_mut().find(|known| known.name == row.name) {
            Some(known) => known.sides.push(compared),
            None => self.rows.push(Compared {
                name: row.name.clone(),
                reason: row.differs.clone(),
                sides: vec![compared],
            }),
        }
    }

    /// What is not as it should be, a line for each row.
    pub(crate) fn failures(&self) -> Vec<String> {
        let wrong = self.rows.iter().filter_map(|row| {
            let differs = row.sides.iter().any(SideCompared::differs);
            match (&row.reason, differs) {
                (None, true) => Some(format!("{} differs for no stated reason", row.name)),
                (Some(_), false) => Some(format!("{} does not differ any more", row.name)),
                _ => None,
            }
        });
        wrong.collect()
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Rows whose requests differ on a side, for no stated reason.
    pub(crate) fn requests_differ(&self) -> usize {
        self.unreasoned(|side| !side.requests.is_empty())
    }

    /// Rows whose outcome differs on a side, for no stated reason.
    pub(crate) fn outcomes_differ(&self) -> usize {
        self.unreasoned(|side| !side.outcome.is_empty() || side.usage.is_some())
    }

    /// Requests that reached the server and that the host did not count, for no stated reason.
    pub(crate) fn past_host(&self) -> usize {
        let rows = self.rows.iter().filter(|row| row.reason.is_none());
        let sides = rows.flat_map(|row| &row.sides);
        sides.map(|side| side.past_host).sum()
    }

    fn unreasoned(&self, wrong: impl Fn(&SideCompared) -> bool) -> usize {
        let rows = self.rows.iter().filter(|row| row.reason.is_none());
        rows.filter(|row| row.sides.iter().any(&wrong)).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            let sides: Vec<_> = row.sides.iter().filter(|side| side.differs()).collect();
            match &row.reason {
                _ if sides.is_empty() => writeln!(f, "same     {}", row.name)?,
                None => writeln!(f, "DIFFERS  {}", row.name)?,
                Some(reason) => writeln!(f, "differs  {}: {reason}", row.name)?,
            }
            for (difference, sides) in by_difference(&sides) {
                writeln!(f, "           {}: {difference}", sides.join(", "))?;
            }
        }
        write!(
            f,
            "{} rows, {} with other requests, {} with another outcome, {} requests past the host",
            self.rows(),
            self.requests_differ(),
            self.outcomes_differ(),
            self.past_host()
        )
    }
}

/// Each difference once, with the sides that have it.
fn by_difference(sides: &[&SideCompared]) -> Vec<(String, Vec<&'static str>)> {
    let mut grouped: Vec<(String, Vec<&'static str>)> = Vec::new();
    for side in sides {
        let requests = side.requests.iter().map(|at| format!("requests{at}"));
        let outcome = side.outcome.iter().map(|at| format!("outcome{at}"));
        let usage = side.usage.iter().map(|usage| format!("usage: {usage}"));
        let past = (side.past_host > 0).then(|| format!("past the host: {}", side.past_host));
        for difference in requests.chain(outcome).chain(usage).chain(past) {
            match grouped.iter_mut().find(|(known, _)| *known == difference) {
                Some((_, sides)) => sides.push(side.side),
                None => grouped.push((difference, vec![side.side])),
            }
        }
    }
    grouped
}

/// The requests as one value; those of a concurrent program in an order of their own.
fn requests(seen: Vec<Seen>, concurrent: bool) -> Value {
    let mut requests: Vec<_> = seen.iter().map(Seen::to_value).collect();
    if concurrent {
        requests.sort_by_key(Value::to_string);
    }
    requests.into()
}

fn value(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Outputs(outputs) => json!({"outputs": outputs}),
        Outcome::Error(failure) => json!({"error": {
            "type": failure.class, "status": failure.status, "retry_after": failure.retry_after,
        }}),
        Outcome::NotLoaded(problem) => json!({"not_loaded": problem}),
    }
}
