//! The functions of metrics without feature `metrics`: each does nothing.

#![allow(
    dead_code,
    reason = "which of them are called depends on the other features"
)]

use std::time::Duration;

use super::{EndedCall, TokenFate};
use crate::call::{LmCall, Usd};

pub(crate) const fn call_ended(_: &EndedCall<'_>) {}

pub(crate) const fn lm_call_ended(_: &str, _: &LmCall) {}

pub(crate) const fn lm_loaded(_: &str, _: &str) {}

pub(crate) const fn lm_abort_ended(_: (&str, &str), _: bool) {}

pub(crate) const fn lm_tokens(_: &str, _: &LmCall) {}

pub(crate) const fn late_cost(_: &str, _: (&str, &str), _: Usd) {}

pub(crate) const fn attempt_ended(_: &str, _: Duration, _: Option<&'static str>) {}

pub(crate) const fn attempt_settled(_: &str, _: Duration) {}

pub(crate) const fn tool_ended(_: &str, _: Duration, _: bool) {}

pub(crate) const fn tokens(_: &str, _: (&str, &str), _: TokenFate, _: u64) {}

pub(crate) const fn retried() {}

pub(crate) const fn retry_refused() {}

pub(crate) const fn hedge_sent() {}

pub(crate) const fn hedge_won() {}

pub(crate) const fn worker_restarted(_: &'static str) {}

#[derive(Debug)]
pub(crate) struct ChunkIntervals;

impl ChunkIntervals {
    pub(crate) const fn new(_: &str, _: &str) -> Self {
        Self
    }

    pub(crate) const fn chunk(&self, _: Duration) {}
}
