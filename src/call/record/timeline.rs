//! The timeline of a call: a reading of its record.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::Serialize;

use super::{
    BlockTimeline, LmCall, ToolTimeline,
    seconds::{rfc3339, seconds, seconds_or_null},
};
use crate::call::{CallId, CallStatus, Cause, Cost, ErrorKind, Usage};

/// What one call did, and when: a reading of its record, taken while the call runs or later.
///
/// All times are counted from the arrival of the call at its [`TrackLayer`](crate::TrackLayer).
/// Nothing of inputs, prompts and answers is in it.
///
/// As JSON, times are numbers of seconds, [`arrived`](Self::arrived) is a text as in RFC 3339, and what
/// is not known is null.
///
/// [`Tracker::timeline`](crate::Tracker::timeline) returns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CallTimeline {
    /// The call's id.
    pub id: Option<CallId>,
    /// The label of the layer that tracks it.
    pub label: Option<Arc<str>>,
    /// The program that ran it: the last, where a fallback asks another one.
    pub program: Option<Arc<str>>,
    /// The trace that the call belongs to: the trace id of W3C Trace Context, 32 hexadecimal digits.
    pub trace_id: Option<Arc<str>>,
    /// When it arrived, by the clock of the system.
    #[serde(serialize_with = "rfc3339")]
    pub arrived: SystemTime,
    /// When this reading was taken.
    #[serde(serialize_with = "seconds")]
    pub read: Duration,
    /// The deadline of the whole call: the earliest that a layer enforced, or that it came with.
    #[serde(serialize_with = "seconds_or_null")]
    pub deadline: Option<Duration>,
    /// When its work was signalled to stop for good; `None` if it never was.
    pub stopped: Option<StopSignal>,
    /// How it was answered; `None` while it is under way.
    pub answered: Option<CallAnswer>,
    /// When it was answered and all its work had ended; `None` while work goes on.
    #[serde(serialize_with = "seconds_or_null")]
    pub settled: Option<Duration>,
    /// The attempts, in the order in which they began: a bounded number of them.
    pub attempts: Vec<AttemptTimeline>,
    /// How many attempts there were beyond those in `attempts`.
    pub attempts_not_kept: u64,
    /// The LM calls, those that have ended before those under way: a bounded number of them.
    pub lm_calls: Vec<LmCallTimeline>,
    /// How many LM calls there were beyond those in `lm_calls`.
    pub lm_calls_not_kept: u64,
    /// The calls of tools, in the order in which they began: a bounded number of them.
    pub tools: Vec<ToolTimeline>,
    /// How many calls of tools there were beyond those in `tools`.
    pub tools_not_kept: u64,
    /// The times in which its code blocked the loop: a bounded number of them.
    pub blocks: Vec<BlockTimeline>,
    /// The tokens of all LM calls that ended before their attempt did.
    pub usage: Usage,
    /// What these LM calls cost, by the prices of their LMs.
    pub cost: Cost,
    /// Of the tokens in `usage`, those of attempts that came to no answer.
    pub wasted_tokens: u64,
    /// Tokens of LM calls that were answered after the end of their attempt; they are not in `usage`.
    pub late_tokens: u64,
}

/// The signal to the work of a call to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StopSignal {
    /// When it was sent.
    #[serde(serialize_with = "seconds")]
    pub at: Duration,
    /// Why.
    pub cause: Cause,
}

/// The outcome of a call, as its caller got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CallAnswer {
    /// When it was returned; of a stream, when that ended.
    #[serde(serialize_with = "seconds")]
    pub at: Duration,
    /// How the call ended.
    #[serde(flatten)]
    pub status: CallStatus,
    /// The sort of its error; `None` if it was answered, or dropped.
    pub kind: Option<ErrorKind>,
    /// What answered it.
    pub source: AnswerSource,
    /// Its future was dropped, so nobody got an answer.
    pub dropped: bool,
}

/// What answered a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AnswerSource {
    /// The service itself.
    #[default]
    Service,
    /// A fallback: a value, a function or another service.
    Fallback,
    /// An earlier answer to the same inputs.
    Stale,
}

/// Why an attempt was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AttemptKind {
    /// It is the first.
    #[default]
    First,
    /// Another one failed before.
    Retry,
    /// It runs beside a slow attempt.
    Hedge,
    /// A fallback asks another service, or the same one with another request.
    Fallback,
}

/// The stages of one attempt. It waits for a permit from `begun` to `queued`, in the queue of the host
/// until `started`, and runs until `ended`; its clean-up lasts from `signalled` to `settled`. An attempt
/// that waits for the end of another's work, by
/// [`RetryLayer::after_settled`](crate::RetryLayer::after_settled), is `begun` after that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AttemptTimeline {
    /// How many attempts came before it.
    pub number: u32,
    /// Why it was made.
    pub kind: AttemptKind,
    /// When a layer, or the service, began it.
    #[serde(serialize_with = "seconds")]
    pub begun: Duration,
    /// When the limit of this attempt passes; `None` if only the deadline of the call limits it.
    #[serde(serialize_with = "seconds_or_null")]
    pub limit: Option<Duration>,
    /// When it was handed to the host, and waited for Python.
    #[serde(serialize_with = "seconds_or_null")]
    pub queued: Option<Duration>,
    /// When Python began to run it.
    #[serde(serialize_with = "seconds_or_null")]
    pub started: Option<Duration>,
    /// When its work was signalled to stop.
    #[serde(serialize_with = "seconds_or_null")]
    pub signalled: Option<Duration>,
    /// Why it was signalled to stop, or ended without an answer or an error of its own.
    pub cause: Option<Cause>,
    /// How long its work may clean up after the signal, as far as a layer gives it that time; see
    /// [`DeadlineLayer::with_grace`](crate::DeadlineLayer::with_grace).
    #[serde(serialize_with = "seconds")]
    pub grace: Duration,
    /// When its outcome was returned.
    #[serde(serialize_with = "seconds_or_null")]
    pub ended: Option<Duration>,
    /// Whether that was an answer.
    pub is_answered: bool,
    /// When all its work had ended.
    #[serde(serialize_with = "seconds_or_null")]
    pub settled: Option<Duration>,
    /// The names of the tasks and threads that it left behind: a bounded number of them.
    pub strays: Vec<Arc<str>>,
}

/// One LM call on a timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LmCallTimeline {
    /// The LM call; its times are counted from the arrival of the call.
    #[serde(flatten)]
    pub call: LmCall,
    /// The index of its attempt in [`CallTimeline::attempts`], if that is kept.
    pub attempt_index: Option<usize>,
    /// It is under way: its `duration` is that so far, and its `outcome` has no meaning yet.
    pub is_open: bool,
}

impl CallTimeline {
    /// The name to show: the label, else the program.
    #[must_use]
    pub fn name(&self) -> &str {
        let name = self.label.as_deref().or(self.program.as_deref());
        name.unwrap_or("unnamed")
    }

    /// How long work went on that nobody waited for any more: from the answer to the settlement, or
    /// to this reading. Zero for a call that is under way.
    #[must_use]
    pub fn unwanted(&self) -> Duration {
        let answered = self.answered.map_or(self.read, |answer| answer.at);
        self.settled.unwrap_or(self.read).saturating_sub(answered)
    }
}
