//! A deadline around the limit of an attempt.

use super::rig::{
    Row,
    Work::{Deaf, Takes, Tidies},
    check,
};

/// The deadline is the earlier one, or is at the same instant: it alone ends the work, and gives
/// the grace; that of the attempt is not used.
#[rustfmt::skip]
const THE_OUTER_ONE_ENDS_IT: &[Row] = &[
    ("deadline 3 > * > attempt 9", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("deadline 3 > * > attempt 9+2", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("deadline 3 > * > attempt 3", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("deadline 3 > * > attempt 3+2", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("deadline 3+5 > * > attempt 9", Deaf, "@8 deadline of 3, running", &["0-8 told deadline at 3, dropped deadline"]),
    ("deadline 3+5 > * > attempt 9+2", Deaf, "@8 deadline of 3, running", &["0-8 told deadline at 3, dropped deadline"]),
    ("deadline 3+5 > * > attempt 3", Deaf, "@8 deadline of 3, running", &["0-8 told deadline at 3, dropped deadline"]),
    ("deadline 3+5 > * > attempt 3+2", Deaf, "@8 deadline of 3, running", &["0-8 told deadline at 3, dropped deadline"]),
    ("deadline 3+5 > * > attempt 6", Deaf, "@8 deadline of 3, running", &["0-8 told deadline at 3, dropped deadline"]),
    ("deadline 3+5 > * > attempt 6+1", Deaf, "@8 deadline of 3, running", &["0-8 told deadline at 3, dropped deadline"]),

    ("deadline 3 > * > attempt 9", Tidies(2), "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("deadline 3 > * > attempt 9+2", Tidies(1), "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("deadline 3 > * > attempt 3+2", Tidies(1), "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("deadline 3+5 > * > attempt 9", Tidies(2), "@5 deadline of 3, running", &["0-5 told deadline at 3, done"]),
    ("deadline 3+5 > * > attempt 9+1", Tidies(2), "@5 deadline of 3, running", &["0-5 told deadline at 3, done"]),
    ("deadline 3+5 > * > attempt 3", Tidies(2), "@5 deadline of 3, running", &["0-5 told deadline at 3, done"]),
    ("deadline 3+5 > * > attempt 3+1", Tidies(2), "@5 deadline of 3, running", &["0-5 told deadline at 3, done"]),
    ("deadline 3+5 > * > attempt 4", Tidies(2), "@5 deadline of 3, running", &["0-5 told deadline at 3, done"]),
];

/// The attempt's limit is the earlier one: it ends the work, within the deadline and its grace.
#[rustfmt::skip]
const THE_INNER_ONE_ENDS_IT: &[Row] = &[
    ("deadline 9 > * > attempt 3", Deaf, "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("deadline 9+5 > * > attempt 3", Deaf, "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("deadline 9 > * > attempt 3+2", Deaf, "@5 attempt of 3, running", &["0-5 told elapsed at 3, dropped elapsed"]),
    ("deadline 9+5 > * > attempt 3+2", Deaf, "@5 attempt of 3, running", &["0-5 told elapsed at 3, dropped elapsed"]),
    ("deadline 9 > * > attempt 3", Tidies(2), "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("deadline 9+5 > * > attempt 3", Tidies(2), "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("deadline 9 > * > attempt 3+2", Tidies(1), "@4 attempt of 3, running", &["0-4 told elapsed at 3, done"]),
    ("deadline 9+5 > * > attempt 3+2", Tidies(1), "@4 attempt of 3, running", &["0-4 told elapsed at 3, done"]),
    // The attempt's grace is within the deadline, and the deadline's bounds it.
    ("deadline 9 > * > attempt 3+9", Deaf, "@9 deadline of 9, running", &["0-9 told elapsed at 3, dropped deadline"]),
    ("deadline 9 > * > attempt 3+9", Tidies(7), "@9 deadline of 9, running", &["0-9 told elapsed at 3, dropped deadline"]),
    ("deadline 9+2 > * > attempt 3+9", Deaf, "@11 deadline of 9, running", &["0-11 told elapsed at 3, dropped deadline"]),
    ("deadline 9+2 > * > attempt 3+9", Tidies(7), "@10 deadline of 9, running", &["0-10 told elapsed at 3, done"]),
    // The attempt's grace ends within the deadline's.
    ("deadline 9+5 > * > attempt 3+9", Deaf, "@12 deadline of 9, running", &["0-12 told elapsed at 3, dropped elapsed"]),
    ("deadline 9+5 > * > attempt 3+9", Tidies(7), "@10 deadline of 9, running", &["0-10 told elapsed at 3, done"]),
    ("deadline 9+5 > * > attempt 3+9", Tidies(2), "@5 attempt of 3, running", &["0-5 told elapsed at 3, done"]),
];

/// Two limits of attempts: the outer one's name is kept.
#[rustfmt::skip]
const ATTEMPTS_WITHIN_ATTEMPTS: &[Row] = &[
    ("attempt 3 > * > attempt 9", Deaf, "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("attempt 3 > * > attempt 3", Deaf, "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("attempt 9 > * > attempt 3", Deaf, "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("attempt 3 > * > deadline 9", Deaf, "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("attempt 3 > * > deadline context", Deaf, "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("attempt 9 > * > deadline 3", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("attempt 9+5 > * > deadline 3+2", Deaf, "@5 deadline of 3, running", &["0-5 told deadline at 3, dropped deadline"]),
    ("attempt 3+5 > * > attempt 9", Deaf, "@8 attempt of 3, running", &["0-8 told elapsed at 3, dropped elapsed"]),
    ("attempt 3+5 > * > deadline 9+2", Deaf, "@8 attempt of 3, running", &["0-8 told elapsed at 3, dropped elapsed"]),
    ("attempt 3+5 > * > attempt 9", Tidies(2), "@5 attempt of 3, running", &["0-5 told elapsed at 3, done"]),
    ("attempt 3+5 > * > deadline 3", Tidies(2), "@5 attempt of 3, running", &["0-5 told elapsed at 3, done"]),
];

/// The deadline came with the request, and no layer is known to enforce it: the first one does.
#[rustfmt::skip]
const FROM_THE_WIRE: &[Row] = &[
    ("wire 3 > * > attempt 9", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("wire 3 > * > attempt 3", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("wire 9 > * > attempt 3", Deaf, "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("wire 3 > * > attempt 9+2", Deaf, "@5 deadline of 3, running", &["0-5 told deadline at 3, dropped deadline"]),
    ("wire 3 > * > attempt 3+2", Deaf, "@5 deadline of 3, running", &["0-5 told deadline at 3, dropped deadline"]),
    ("wire 9 > * > attempt 3+2", Deaf, "@5 attempt of 3, running", &["0-5 told elapsed at 3, dropped elapsed"]),
    ("wire 3 > * > attempt 9+2", Tidies(1), "@4 deadline of 3, running", &["0-4 told deadline at 3, done"]),
    // Nothing ends the grace of the attempt at the deadline.
    ("wire 4 > * > attempt 3+2", Deaf, "@5 attempt of 3, running", &["0-5 told elapsed at 3, dropped elapsed"]),

    ("wire 3 > attempt 9+5 > * > attempt 9", Deaf, "@8 deadline of 3, running", &["0-8 told deadline at 3, dropped deadline"]),
    ("wire 3 > attempt 9+5 > * > attempt 9", Tidies(2), "@5 deadline of 3, running", &["0-5 told deadline at 3, done"]),
    ("wire 3 > attempt 9 > * > attempt 9+5", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("wire 3 > attempt 9 > * > deadline context", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("wire 3 > deadline 9+5 > * > attempt 9", Deaf, "@8 deadline of 3, running", &["0-8 told deadline at 3, dropped deadline"]),
    ("wire 3 > deadline context > * > attempt 3", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("wire 3 > deadline context+5 > * > attempt 3+1", Tidies(2), "@5 deadline of 3, running", &["0-5 told deadline at 3, done"]),
    ("wire 9 > deadline 6 > * > attempt 3", Deaf, "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("wire 9 > deadline 3 > * > attempt 6", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("wire 3 > deadline 9 > * > attempt 6", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
];

/// An answer that is ready at the instant of a limit wins; nothing is early or late.
#[rustfmt::skip]
const ANSWERS: &[Row] = &[
    ("deadline 3 > * > attempt 9", Takes(2), "@2 answer", &["0-2 done"]),
    ("deadline 3 > * > attempt 9", Takes(3), "@3 answer", &["0-3 done"]),
    ("deadline 3+5 > * > attempt 3+5", Takes(3), "@3 answer", &["0-3 done"]),
    ("deadline 9 > * > attempt 3", Takes(3), "@3 answer", &["0-3 done"]),
    ("wire 3 > * > attempt 9", Takes(3), "@3 answer", &["0-3 done"]),
    // The outcome is decided once the limit has passed, whatever is answered in the grace.
    ("deadline 3+5 > * > attempt 9", Takes(4), "@4 deadline of 3, running", &["0-4 told deadline at 3, done"]),
    ("deadline 9 > * > attempt 3+5", Takes(4), "@4 attempt of 3, running", &["0-4 told elapsed at 3, done"]),
    // A limit between that is not of this crate names no cause.
    ("deadline 9 > tower 2 > attempt 4", Deaf, "@2 tower's limit", &["0-2 dropped dropped"]),
    ("deadline 9+5 > tower 2 > attempt 4+5", Deaf, "@2 tower's limit", &["0-2 dropped dropped"]),
    ("deadline 2 > tower 9 > attempt 4", Deaf, "@2 deadline of 2, running", &["0-2 dropped deadline"]),
    ("deadline 2+5 > tower 4 > attempt 9", Deaf, "@4 deadline of 2, running", &["0-4 told deadline at 2, dropped deadline"]),
];

/// The inner service is not ready: there is nothing to give a grace to, and nothing starts late.
#[rustfmt::skip]
const WAITS: &[Row] = &[
    ("deadline 3 > busy 9", Deaf, "@3 deadline of 3, waiting", &[]),
    ("deadline 3+5 > busy 9", Deaf, "@3 deadline of 3, waiting", &[]),
    ("deadline 3+5 > busy 4", Deaf, "@3 deadline of 3, waiting", &[]),
    ("deadline 3+5 > * > deadline 60 > busy 4", Deaf, "@3 deadline of 3, waiting", &[]),
    ("deadline 60 > * > deadline 3+5 > busy 4", Deaf, "@3 deadline of 3, waiting", &[]),
    ("attempt 3+5 > * > deadline context > busy 4", Deaf, "@3 attempt of 3, waiting", &[]),
    ("attempt 3+9 > * > cancel > busy 4", Deaf, "@3 attempt of 3, waiting", &[]),
    ("wire 3 > deadline context+5 > * > deadline 9 > busy 4", Deaf, "@3 deadline of 3, waiting", &[]),
    // What it waits counts for the deadline, and not for the attempt.
    ("deadline 9 > * > deadline 60 > busy 4 > attempt 3", Deaf, "@7 attempt of 3, running", &["4-7 dropped elapsed"]),
    ("deadline 6 > * > deadline 60 > busy 4 > attempt 3", Deaf, "@6 deadline of 6, running", &["4-6 dropped deadline"]),
];

#[tokio::test(start_paused = true)]
async fn a_deadline_not_after_the_attempt_limit_ends_the_work_with_its_own_grace() {
    check(THE_OUTER_ONE_ENDS_IT).await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_limit_before_the_deadline_ends_the_work() {
    check(THE_INNER_ONE_ENDS_IT).await;
}

#[tokio::test(start_paused = true)]
async fn the_error_names_the_attempt_limit_that_ended_the_work() {
    check(ATTEMPTS_WITHIN_ATTEMPTS).await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_from_the_wire_is_enforced_by_the_first_layer() {
    check(FROM_THE_WIRE).await;
}

#[tokio::test(start_paused = true)]
async fn a_ready_answer_wins_and_a_late_answer_changes_nothing() {
    check(ANSWERS).await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_gets_no_grace_and_the_call_does_not_start_late() {
    check(WAITS).await;
}
