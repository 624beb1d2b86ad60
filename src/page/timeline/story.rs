//! The story of a call: what happened, in sentences with their offsets.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::{
    costs::costs,
    format::{UNWANTED_LEAST, count, length, unwanted},
    story_attempts::{attempt_lines, doing_now},
    story_line::StoryLine,
    story_lm::lm_lines,
    story_tools::{block_lines, tool_lines},
    verticals::{outcome, outcome_parts},
};
use crate::call::{
    Cause,
    record::timeline::{AnswerSource, CallTimeline},
};

/// What happened in a call, as sentences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TimelineStory {
    /// What happened, in the order of time.
    pub lines: Vec<StoryLine>,
    /// What it cost, a sentence for each LM call and one for their sum; none without LM calls.
    pub costs: Vec<String>,
}

/// Each sentence on a line of its own, the costs after an empty line.
impl fmt::Display for TimelineStory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offsets: Vec<_> = self.lines.iter().map(StoryLine::offset).collect();
        let wide = offsets.iter().map(String::len).max().unwrap_or_default();
        for (line, offset) in self.lines.iter().zip(offsets) {
            writeln!(f, "{offset:>wide$}  {}", line.text)?;
        }
        if !self.costs.is_empty() {
            writeln!(f)?;
        }
        for line in &self.costs {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// The story of `call` in sentences, and what it cost. It is bounded as the picture of
/// [`timeline_svg`](crate::page::timeline_svg) is. Names are bounded and not escaped.
///
/// ```
/// use tower_dspy::{page::timeline_story, timeline::CallTimeline};
///
/// fn print(call: &CallTimeline) {
///     for line in timeline_story(call).lines {
///         println!("{line}"); // +4.000 s deadline passed: told to stop
///     }
/// }
/// ```
#[must_use]
pub fn timeline_story(call: &CallTimeline) -> TimelineStory {
    let mut lines = vec![arrival(call)];
    lines.extend(deadline(call));
    let mut inner = lm_lines(call);
    inner.extend(tool_lines(call));
    inner.extend(block_lines(call));
    lines.extend(attempt_lines(call, inner));
    lines.extend(end(call));
    // Of one instant the lines stay in this order.
    lines.sort_by_key(|line| line.at);
    lines.extend(now(call));
    TimelineStory {
        lines,
        costs: costs(call),
    }
}

fn arrival(call: &CallTimeline) -> StoryLine {
    let text = match call.deadline {
        Some(deadline) => format!("arrived, deadline {}", length(deadline)),
        None => "arrived, no deadline".to_owned(),
    };
    StoryLine::new(Duration::ZERO, text)
}

/// The deadline, if it passed and no attempt was signalled to stop by it.
fn deadline(call: &CallTimeline) -> Option<StoryLine> {
    let deadline = call.deadline?;
    let end = call.answered.map_or(call.read, |answer| answer.at);
    let signalled = |cause: Option<Cause>| cause == Some(Cause::Deadline);
    let mut attempts = call.attempts.iter();
    let is_told = attempts.any(|one| signalled(one.cause) && one.signalled.is_some());
    (deadline <= end && !is_told).then(|| StoryLine::new(deadline, "deadline passed"))
}

/// The answer and the settlement.
fn end(call: &CallTimeline) -> Vec<StoryLine> {
    let Some(answer) = call.answered else {
        return Vec::new();
    };
    let text = match (answer.dropped, answer.source) {
        (true, _) => "dropped: its caller waits no more".to_owned(),
        (false, AnswerSource::Stale) => "answered by an earlier answer to the same inputs".into(),
        (false, _) => outcome(&answer),
    };
    let mut lines = vec![StoryLine::new(answer.at, text)];
    if let Some(settled) = call.settled {
        let time = call.unwanted();
        let text = if time < UNWANTED_LEAST {
            "settled: all its work had ended".to_owned()
        } else {
            format!(
                "settled: all its work had ended, {} for nobody",
                length(time)
            )
        };
        lines.push(StoryLine::new(settled, text));
    }
    lines
}

/// What goes on at the end of the reading.
fn now(call: &CallTimeline) -> Option<StoryLine> {
    if call.settled.is_some() {
        return None;
    }
    let doing = doing_now(call);
    let text = match call.answered {
        None => format!("now: {doing}"),
        Some(_) => format!(
            "now: work for nobody for {}: {doing}",
            length(call.unwanted())
        ),
    };
    Some(StoryLine::new(call.read, text))
}

/// The story in a sentence or two.
pub(crate) fn gist(call: &CallTimeline) -> String {
    let end = match call.answered {
        Some(answer) => {
            let (outcome, why) = outcome_parts(&answer);
            let after = length(answer.at);
            let why = why.map(|why| format!(": {why}"));
            format!(
                "{} after {after}{}",
                capitalized(outcome),
                why.unwrap_or_default()
            )
        }
        None => format!("Under way for {}: {}", length(call.read), doing_now(call)),
    };
    let deadline = match call.deadline {
        Some(deadline) => format!("deadline {}", length(deadline)),
        None => "no deadline".to_owned(),
    };
    let attempts = call.attempts.len() as u64 + call.attempts_not_kept;
    let lm_calls = call.lm_calls.len() as u64 + call.lm_calls_not_kept;
    let work = match (call.answered, call.settled) {
        (None, _) => String::new(),
        (_, Some(_)) => format!(" Work for nobody: {}.", unwanted(call.unwanted())),
        (_, None) => format!(
            " Work for nobody goes on, {} so far.",
            unwanted(call.unwanted())
        ),
    };
    format!(
        "{end}; {deadline}; {}, {}.{work}",
        count(attempts, "attempt"),
        count(lm_calls, "LM call"),
    )
}

/// The text with a capital letter at its beginning.
fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    let initial = chars.next().map(|initial| initial.to_ascii_uppercase());
    initial.into_iter().chain(chars).collect()
}
