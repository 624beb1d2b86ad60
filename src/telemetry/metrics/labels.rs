//! What metrics are told of a call.

use std::time::Duration;

/// How a tracked call ended: the labels of its metrics. An empty one is no label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "metrics"),
    expect(dead_code, reason = "metrics read it")
)]
pub(crate) struct CallLabels {
    pub(crate) outcome: &'static str,
    /// Of a call that was cancelled.
    pub(crate) cause: &'static str,
    /// Of a call that an error answered.
    pub(crate) kind: &'static str,
}

/// A tracked call that has ended.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "metrics"),
    expect(dead_code, reason = "metrics read it")
)]
pub(crate) struct EndedCall<'a> {
    /// The label of its layer, else the name of its program; empty if there is neither.
    pub(crate) program: &'a str,
    pub(crate) labels: CallLabels,
    pub(crate) duration: Duration,
    /// Of its deadline, if it had one.
    pub(crate) time_left: Option<Duration>,
    /// Past its deadline.
    pub(crate) overshoot: Duration,
}

/// What became of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "_host"), expect(dead_code, reason = "a host emits it"))]
pub(crate) enum TokenFate {
    /// Their attempt came to an answer.
    Used,
    /// Their LM's answer came after the end of their attempt.
    Late,
    /// Their attempt came to no answer.
    Wasted,
}
