//! [`Lost`]: what ran the call is gone.

use std::sync::Arc;

use super::{
    Classify, Costs, ErrorKind, Stage,
    costs::{ErrorCosts, call_id_in_field, costs_in_field},
    debug_as_display,
};
use crate::call::{CallId, Spent};

/// The interpreter that was to run the call, or ran it, is gone; or the server that did cannot be
/// reached.
///
/// Two are equal when their reasons and stages are, whatever was [spent](Self::spent).
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} ({}); the call cannot be answered", .0.what, .0.reason)]
pub struct Lost(Box<LostFields>);

#[derive(Clone, PartialEq, Eq)]
struct LostFields {
    what: &'static str,
    reason: Box<str>,
    stage: Stage,
    spent: ErrorCosts,
}

impl Lost {
    /// The host is gone because of `reason`, as a mock in a test says.
    pub fn new(reason: impl Into<Box<str>>) -> Self {
        Self::saying("the Python host is gone", reason.into())
    }

    /// The worker process that ran the call, or was to run it, failed because of `reason`.
    #[cfg(feature = "workers")]
    pub(crate) fn worker(reason: impl Into<Box<str>>) -> Self {
        Self::saying("the worker process of the call failed", reason.into())
    }

    /// The server that was to answer cannot, because of `reason`.
    #[cfg(feature = "tonic")]
    pub(crate) fn server(reason: impl Into<Box<str>>) -> Self {
        Self::saying("the server is gone", reason.into())
    }

    fn saying(what: &'static str, reason: Box<str>) -> Self {
        Self(Box::new(LostFields {
            what,
            reason,
            stage: Stage::Running,
            spent: ErrorCosts::NONE,
        }))
    }

    /// The same, for a call that had come so far: [`Stage::BeforeStart`] if it surely never began,
    /// and can be made elsewhere at no further cost. [`new`](Self::new) says [`Stage::Running`].
    #[must_use]
    pub fn with_stage(mut self, stage: Stage) -> Self {
        self.0.stage = stage;
        self
    }

    /// How far the call had come, as far as that is known.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.0.stage
    }

    /// What became of the host, or of the server.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.0.reason
    }
}

impl Classify for Lost {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Lost
    }

    fn may_have_started(&self) -> bool {
        self.0.stage == Stage::Running
    }
}

costs_in_field!(Lost, 0.spent);

debug_as_display!(Lost);
