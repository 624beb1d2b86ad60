//! The metrics of this crate that are no tracked calls: tokens, settlements, layers, workers.

use std::time::Duration;

use super::{
    TokenFate,
    emit::{count, label, lm_label, program_label, record_seconds},
};
use crate::telemetry::metric_names::{
    CALL_SETTLE, HEDGE_SENT, HEDGE_WON, LM_ABORTS, RETRY_ATTEMPTS, RETRY_REFUSED, TOKENS_BY_FATE,
    WORKER_RESTARTS,
};

/// It is known what became of tokens of an LM, spent for `program`.
pub(crate) fn tokens(program: &str, (provider, model): (&str, &str), fate: TokenFate, n: u64) {
    let fate = match fate {
        TokenFate::Used => "used",
        TokenFate::Late => "late",
        TokenFate::Wasted => "wasted",
    };
    let labels = vec![
        label("program", program_label(program)),
        label("lm", lm_label(provider, model)),
        label("fate", fate),
    ];
    count(&TOKENS_BY_FATE, labels, n);
}

/// The work of an attempt has ended, so long after it was told to stop.
pub(crate) fn attempt_settled(program: &str, after: Duration) {
    let labels = vec![label("program", program_label(program))];
    record_seconds(&CALL_SETTLE, labels, after);
}

/// A provider was asked to abort an LM call.
pub(crate) fn lm_abort_ended((provider, model): (&str, &str), is_accepted: bool) {
    let outcome = match is_accepted {
        true => "accepted",
        false => "failed",
    };
    let labels = vec![
        label("lm", lm_label(provider, model)),
        label("outcome", outcome),
    ];
    count(&LM_ABORTS, labels, 1);
}

/// A retry layer makes another attempt.
pub(crate) fn retried() {
    count(&RETRY_ATTEMPTS, vec![], 1);
}

/// A retry layer made no other attempt, as the budget was used up.
pub(crate) fn retry_refused() {
    count(&RETRY_REFUSED, vec![], 1);
}

/// Has the counters of retries count from 0, so that the first are seen as an increase.
pub(crate) fn watch_retries() {
    for metric in [&RETRY_ATTEMPTS, &RETRY_REFUSED] {
        count(metric, vec![], 0);
    }
}

/// A hedge layer has sent a second attempt.
pub(crate) fn hedge_sent() {
    count(&HEDGE_SENT, vec![], 1);
}

/// A second attempt answered first.
pub(crate) fn hedge_won() {
    count(&HEDGE_WON, vec![], 1);
}

/// The reasons for which workers are started anew.
#[cfg(feature = "_host")]
const RESTARTS: [&str; 4] = ["lost", "overdue", "recycled", "not_started"];

/// Has each reason counted from 0, so that the first is seen as an increase.
#[cfg(feature = "_host")]
pub(crate) fn watch_worker_restarts() {
    for reason in RESTARTS {
        count(&WORKER_RESTARTS, vec![label("reason", reason)], 0);
    }
}

/// A worker has ended, or was not started, for this reason.
pub(crate) fn worker_restarted(reason: &'static str) {
    count(&WORKER_RESTARTS, vec![label("reason", reason)], 1);
}
