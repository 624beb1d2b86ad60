//! The instants of a call's parts, with those that are not recorded filled in.

use std::time::Duration;

use crate::call::{
    Cause, LmOutcome,
    record::timeline::{AttemptKind, AttemptTimeline, CallTimeline, LmCallTimeline},
};

/// A span of time; open if it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Duration,
    pub(super) to: Duration,
    pub(super) is_open: bool,
}

impl Span {
    /// A span that has ended.
    pub(super) fn new(from: Duration, to: Duration) -> Self {
        Self {
            from,
            to: to.max(from),
            is_open: false,
        }
    }

    /// A span until `to`, or that goes on at `now`.
    pub(super) fn until(from: Duration, to: Option<Duration>, now: Duration) -> Self {
        Self {
            is_open: to.is_none(),
            ..Self::new(from, to.unwrap_or(now))
        }
    }

    pub(super) const fn length(&self) -> Duration {
        self.to.saturating_sub(self.from)
    }
}

/// When the picture of a call ends: at its settlement, or now; later if something ended later.
pub(super) fn end(call: &CallTimeline) -> Duration {
    let settled = call.settled.unwrap_or(call.read);
    let answered = call.answered.map(|answer| answer.at);
    let attempts = call.attempts.iter();
    let attempts = attempts.flat_map(|attempt| {
        let begun = Some(attempt.begun);
        [begun, attempt.signalled, attempt.ended, attempt.settled]
    });
    let lm_calls = call.lm_calls.iter().map(|lm| Some(lm_end(lm)));
    let tools = call.tools.iter().map(|tool| tool.ended);
    let ends = attempts
        .chain(lm_calls)
        .chain(tools)
        .flatten()
        .chain(answered);
    ends.fold(settled, Duration::max)
}

/// When an LM call ended, or until when it has come.
pub(super) fn lm_end(lm: &LmCallTimeline) -> Duration {
    lm.call.started + lm.call.duration
}

/// The attempt that an LM call was made for, and its place among the attempts.
pub(super) fn attempt_of<'a>(
    call: &'a CallTimeline,
    lm: &LmCallTimeline,
) -> Option<(usize, &'a AttemptTimeline)> {
    let index = lm.attempt_index?;
    Some((index, call.attempts.get(index)?))
}

/// The signal to stop that ended an LM call, and the time from it to the end.
pub(super) fn lm_after_stop(
    call: &CallTimeline,
    lm: &LmCallTimeline,
) -> Option<(Option<Cause>, Duration)> {
    let ended_by_stop = matches!(lm.call.outcome, LmOutcome::Cancelled | LmOutcome::Elapsed);
    if lm.is_open || !ended_by_stop {
        return None;
    }
    let attempt = attempt_of(call, lm).map(|(_, attempt)| attempt);
    let told = attempt.and_then(|attempt| Some((attempt.cause, attempt.signalled?)));
    let stopped = call.stopped.map(|stop| (Some(stop.cause), stop.at));
    let (cause, at) = told.or(stopped)?;
    Some((cause, lm_end(lm).checked_sub(at)?))
}

/// The stages of one attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttemptSpans {
    /// It waited for a permit.
    pub(super) permit: Option<Span>,
    /// It waited in the queue of the host.
    pub(super) queue: Option<Span>,
    /// From then until its outcome was returned; from its beginning, if no host ran it.
    pub(super) run: Option<Span>,
    /// Python ran it, until the signal to stop.
    pub(super) python: Option<Span>,
    /// From the signal to stop to the end of all its work.
    pub(super) clean_up: Option<Span>,
}

impl AttemptSpans {
    pub(super) fn of(call: &CallTimeline, at: usize, attempt: &AttemptTimeline) -> Self {
        let now = call.read;
        let ended = attempt_end(call, at, attempt);
        let until = |from: Duration, next: Option<Duration>| {
            Span::until(from, [next, ended].into_iter().flatten().min(), now)
        };
        let some = |span: Span| (span.is_open || !span.length().is_zero()).then_some(span);
        let Some(queued) = attempt.queued else {
            let span = Some(until(attempt.begun, None));
            // A program has hosts, which hand out permits; another service has none.
            let waits = call.program.is_some() && ended.is_none();
            let (permit, run) = if waits { (span, None) } else { (None, span) };
            return Self {
                permit,
                queue: None,
                run,
                python: None,
                clean_up: None,
            };
        };
        let work_end = attempt.settled.or(call.settled);
        let clean_up = attempt
            .signalled
            .filter(|_| attempt.started.is_some())
            .map(|told| Span::until(told, work_end, now));
        let python = attempt.started.map(|started| {
            let stopped = [attempt.signalled, work_end];
            Span::until(started, stopped.into_iter().flatten().min(), now)
        });
        Self {
            permit: some(until(attempt.begun.min(queued), Some(queued))),
            queue: some(until(queued, attempt.started)),
            run: attempt.started.map(|started| until(started, None)),
            python,
            clean_up,
        }
    }
}

/// When the outcome of an attempt was returned, or all its work had ended without one. That of one that
/// no service took is not recorded: it had ended when the next one began, unless that runs beside it,
/// and when the call was answered.
fn attempt_end(call: &CallTimeline, at: usize, attempt: &AttemptTimeline) -> Option<Duration> {
    if attempt.queued.is_some() {
        return attempt.ended.or(attempt.settled);
    }
    let next = call.attempts.get(at + 1);
    let next = next.filter(|next| next.kind != AttemptKind::Hedge);
    let answered = call.answered.map(|answer| answer.at);
    attempt.ended.or(next.map(|next| next.begun)).or(answered)
}

/// How an attempt ended, in a phrase; `None` while it goes on.
pub(super) fn attempt_outcome(
    call: &CallTimeline,
    attempt: &AttemptTimeline,
) -> Option<&'static str> {
    if attempt.is_answered {
        return Some("answered");
    }
    if let Some(cause) = attempt.cause {
        return Some(match cause {
            Cause::Caller => "cancelled",
            Cause::ClientGone => "client gone",
            Cause::Elapsed => "limit passed",
            Cause::Deadline => "deadline passed",
            Cause::Shutdown => "ended by shutdown",
            Cause::Dropped => "dropped",
            Cause::Superseded => "superseded",
        });
    }
    let is_over = match attempt.queued {
        Some(_) => attempt.settled.is_some(),
        None => call.answered.is_some(),
    };
    match attempt.ended {
        Some(_) => Some("failed"),
        None => is_over.then_some("ended"),
    }
}
