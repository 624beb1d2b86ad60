//! The tool calls in the record of a call.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::seconds::{seconds, seconds_or_null};

/// How many tool calls a record keeps.
#[cfg(any(feature = "_host", test))]
const MOST: usize = 64;
/// How many of the others are timed at once, for the metrics alone.
#[cfg(any(feature = "_host", test))]
const MOST_TIMED: usize = 1024;

/// One call of a tool by a program: of a function in Rust, or of a `dspy.Tool` in Python.
///
/// Its instants are counted from the arrival of the program's call. It holds no argument and no
/// result.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct ToolTimeline {
    /// The name of the tool, at most [`NAME`](Self::NAME) characters of it.
    pub name: Arc<str>,
    /// Which attempt of the program's call made it: 0 for the first.
    pub attempt: u32,
    /// The index of that attempt in [`CallTimeline::attempts`](super::timeline::CallTimeline::attempts),
    /// if it is kept.
    pub attempt_index: Option<usize>,
    /// When it began.
    #[serde(serialize_with = "seconds")]
    pub started: Duration,
    /// When it ended; `None` while it goes on.
    #[serde(serialize_with = "seconds_or_null")]
    pub ended: Option<Duration>,
    /// It ended with an error, or its end is not known: with the work of its call, or its process.
    pub failed: bool,
}

impl ToolTimeline {
    /// How many characters of a name are kept.
    pub const NAME: usize = 64;
}

/// The tool calls of a record: the first ones, and how many came after them.
#[derive(Default)]
pub(super) struct ToolRecords {
    kept: Vec<ToolRecord>,
    /// Those that are not kept, until they end.
    #[cfg_attr(
        not(any(feature = "_host", test)),
        expect(dead_code, reason = "only a host has tools")
    )]
    timed: Vec<ToolRecord>,
    pub(super) not_kept: u64,
}

#[cfg_attr(
    not(any(feature = "_host", test)),
    expect(dead_code, reason = "only a host has tools")
)]
struct ToolRecord {
    /// The key of its attempt.
    attempt: u64,
    id: ToolId,
    number: u32,
    name: Arc<str>,
    started: Instant,
    /// And whether it failed.
    ended: Option<(Instant, bool)>,
}

/// The number of a tool call within its attempt, by the side that counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(any(feature = "_host", test)),
    expect(dead_code, reason = "only a host has tools")
)]
pub(crate) enum ToolId {
    /// A function in Rust.
    Host(u64),
    /// A `dspy.Tool`.
    Python(u64),
}

impl ToolRecords {
    /// The tool calls that are kept, in the order in which they began, counted from `origin`. `index`
    /// returns the place of an attempt by its key.
    pub(super) fn timelines(
        &self,
        origin: Instant,
        index: impl Fn(u64) -> Option<usize>,
    ) -> Vec<ToolTimeline> {
        let since = |at: Instant| at.saturating_duration_since(origin);
        let timeline = |tool: &ToolRecord| ToolTimeline {
            name: tool.name.clone(),
            attempt: tool.number,
            attempt_index: index(tool.attempt),
            started: since(tool.started),
            ended: tool.ended.map(|(at, _)| since(at)),
            failed: tool.ended.is_some_and(|(_, failed)| failed),
        };
        self.kept.iter().map(timeline).collect()
    }

    /// A tool call begins, in the attempt of this key and number.
    #[cfg(any(feature = "_host", test))]
    pub(super) fn begin(&mut self, (attempt, number): (u64, u32), id: ToolId, name: &str) {
        let calls = if self.kept.len() < MOST {
            &mut self.kept
        } else {
            self.not_kept += 1;
            if self.timed.len() >= MOST_TIMED {
                return;
            }
            &mut self.timed
        };
        calls.push(ToolRecord {
            attempt,
            id,
            number,
            name: first_chars(name, ToolTimeline::NAME).into(),
            started: Instant::now(),
            ended: None,
        });
    }

    /// A tool call has ended. Returns its name and how long it took, the first time.
    #[cfg(any(feature = "_host", test))]
    pub(super) fn end(
        &mut self,
        attempt: u64,
        id: ToolId,
        failed: bool,
    ) -> Option<(Arc<str>, Duration)> {
        let is_it =
            |tool: &ToolRecord| tool.attempt == attempt && tool.id == id && tool.ended.is_none();
        let now = Instant::now();
        if let Some(tool) = self.kept.iter_mut().find(|tool| is_it(tool)) {
            tool.ended = Some((now, failed));
            return Some((
                tool.name.clone(),
                now.saturating_duration_since(tool.started),
            ));
        }
        let index = self.timed.iter().position(is_it)?;
        let tool = self.timed.swap_remove(index);
        Some((tool.name, now.saturating_duration_since(tool.started)))
    }

    /// Ends the tool calls of an attempt whose end was not reported.
    #[cfg(any(feature = "_host", test))]
    pub(super) fn end_all(&mut self, attempt: u64) {
        let now = Instant::now();
        for tool in self.kept.iter_mut().filter(|tool| tool.attempt == attempt) {
            tool.ended.get_or_insert((now, true));
        }
        self.timed.retain(|tool| tool.attempt != attempt);
    }
}

/// The first `most` characters of a text.
#[cfg(any(feature = "_host", test))]
pub(super) fn first_chars(text: &str, most: usize) -> &str {
    let end = text.char_indices().nth(most);
    end.map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_tool_call_has_its_times_and_its_attempt() {
        let (mut tools, origin) = (ToolRecords::default(), Instant::now());
        advance(SECOND).await;
        tools.begin((10, 0), ToolId::Python(1), "search");
        tools.begin((11, 1), ToolId::Python(1), "search");
        tools.begin((11, 1), ToolId::Host(1), "clock");
        advance(SECOND).await;
        tools.end(11, ToolId::Python(1), false);
        tools.end(11, ToolId::Python(1), true);
        tools.end(11, ToolId::Host(2), true);
        let seen = tools.timelines(origin, |_| None).into_iter();
        let seen: Vec<_> = seen
            .map(|tool| (tool.attempt, tool.started, tool.ended, tool.failed))
            .collect();
        let open = |attempt| (attempt, SECOND, None, false);
        let ended = (1, SECOND, Some(2 * SECOND), false);
        assert_eq!(seen, [open(0), ended, open(1)]);
    }

    #[test]
    fn a_tool_call_whose_end_is_not_reported_ends_with_the_work_of_its_attempt() {
        let mut tools = ToolRecords::default();
        for attempt in [10, 11] {
            tools.begin((attempt, 0), ToolId::Python(1), "search");
        }
        tools.end_all(10);
        let ends = tools.timelines(Instant::now(), |_| None).into_iter();
        let ends: Vec<_> = ends
            .map(|tool| (tool.ended.is_some(), tool.failed))
            .collect();
        assert_eq!(ends, [(true, true), (false, false)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tool_call_that_is_not_kept_is_timed_until_it_ends() {
        let mut tools = ToolRecords::default();
        let most = MOST as u64;
        for n in 0..most + 2 {
            tools.begin((1, 0), ToolId::Host(n), "search");
        }
        advance(SECOND).await;
        let ended = tools.end(1, ToolId::Host(most), false);
        assert_eq!(ended, Some(("search".into(), SECOND)));
        assert_eq!(tools.end(1, ToolId::Host(most), false), None);
        tools.end_all(1);
        assert_eq!(tools.end(1, ToolId::Host(most + 1), false), None);
        assert_eq!(tools.not_kept, 2);
    }

    #[test]
    fn tool_calls_and_their_names_are_bounded() {
        let mut tools = ToolRecords::default();
        let most = MOST + MOST_TIMED;
        for n in 0..most as u64 + 3 {
            tools.begin((1, 0), ToolId::Host(n), &"ä".repeat(1000));
        }
        assert_eq!(tools.not_kept as usize, MOST_TIMED + 3);
        assert_eq!(tools.timed.len(), MOST_TIMED);
        let tools = tools.timelines(Instant::now(), |_| None);
        assert_eq!(tools.len(), MOST);
        assert_eq!(tools[0].name.chars().count(), ToolTimeline::NAME);
    }
}
