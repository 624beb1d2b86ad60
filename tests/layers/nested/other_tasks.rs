//! Limits with a task between them, or with a request that has lost its context.
//!
//! An outer limit that ends a task's handle does not end the task: the work in it goes on until a
//! limit inside the task ends it. None hangs, and the outer limit always answers on time.

use super::rig::{
    Row,
    Work::{Deaf, Takes, Tidies},
    check,
};

/// `tokio::spawn` lies between.
#[rustfmt::skip]
const SPAWNED: &[Row] = &[
    ("deadline 3 > spawn > attempt 9", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("deadline 3 > spawn > attempt 3", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("deadline 9 > spawn > attempt 3", Deaf, "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("deadline 9+5 > spawn > attempt 3", Tidies(1), "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("deadline 9 > spawn > attempt 3+2", Deaf, "@5 attempt of 3, running", &["0-5 told elapsed at 3, dropped elapsed"]),
    ("deadline 9+5 > spawn > attempt 3+2", Tidies(1), "@4 attempt of 3, running", &["0-4 told elapsed at 3, done"]),
    ("deadline 3 > spawn > deadline context", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("deadline 3 > spawn > map > spawn > attempt 9", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("attempt 9 > spawn > attempt 3", Deaf, "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("attempt 9 > spawn > deadline 3", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("wire 3 > spawn > attempt 9", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("wire 3 > spawn > attempt 9+2", Deaf, "@5 deadline of 3, running", &["0-5 told deadline at 3, dropped deadline"]),
    ("wire 9 > spawn > attempt 3", Deaf, "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("wire 3 > spawn > attempt 9+5 > attempt 9", Tidies(2), "@5 deadline of 3, running", &["0-5 told deadline at 3, done"]),
    ("deadline 3 > spawn > attempt 9", Takes(2), "@2 answer", &["0-2 done"]),
    // Only the outer limit has a grace, and no limit lies inside: the handle goes, the work stays.
    ("deadline 3+5 > spawn", Tidies(2), "@5 deadline of 3, running", &["0-5 told deadline at 3, done"]),
    ("deadline 3+5 > spawn", Deaf, "@8 deadline of 3, running", &["0-60 told deadline at 3, done"]),
    ("deadline 3 > spawn", Deaf, "@3 deadline of 3, running", &["0-60 done"]),
    // Attempts.
    ("deadline 60 > spawn > retry 1 > spawn > attempt 3", Deaf, "@6 attempt of 3, running", &["0-3 dropped elapsed", "3-6 dropped elapsed"]),
    ("deadline 5 > retry 2 > spawn > attempt 3", Deaf, "@5 deadline of 5, running", &["0-3 dropped elapsed", "3-5 dropped deadline"]),
    ("deadline 5 > spawn > retry 2 > attempt 3", Deaf, "@5 deadline of 5, running", &["0-3 dropped elapsed", "3-5 dropped deadline"]),
    // A cancellation reaches the task, and a limit in it ends the work if nothing else does.
    ("gone 1 > cancel > spawn > attempt 3", Deaf, "@1 cancelled, client gone", &["0-3 told client gone at 1, dropped elapsed"]),
    ("gone 1 > cancel+5 > spawn > attempt 9", Tidies(2), "@3 cancelled, client gone", &["0-3 told client gone at 1, done"]),
    ("gone 1 > cancel+5 > spawn > attempt 9", Deaf, "@6 cancelled, client gone", &["0-9 told client gone at 1, dropped elapsed"]),
    ("gone 1 > deadline 9 > spawn > cancel", Deaf, "@1 cancelled, client gone", &["0-1 told client gone at 1, dropped client gone"]),
    ("gone 1 > deadline 9+5 > spawn > cancel+2", Deaf, "@3 cancelled, client gone", &["0-3 told client gone at 1, dropped client gone"]),
    ("gone 4 > deadline 20 > cancel > spawn > retry 2 > attempt 3", Deaf, "@4 cancelled, client gone",
        &["0-3 dropped elapsed", "3-6 told client gone at 4, dropped elapsed"]),
];

/// A layer between makes a request of its own: its limits know nothing of those around it.
#[rustfmt::skip]
const LOST: &[Row] = &[
    ("deadline 3 > fresh > attempt 9", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("deadline 3 > fresh > attempt 9+5", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("deadline 9 > fresh > attempt 3", Deaf, "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("deadline 9+5 > fresh > attempt 3", Deaf, "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("deadline 9 > fresh > attempt 3+2", Deaf, "@5 attempt of 3, running", &["0-5 told elapsed at 3, dropped elapsed"]),
    ("deadline 9+5 > fresh > attempt 3+2", Tidies(1), "@4 attempt of 3, running", &["0-4 told elapsed at 3, done"]),
    // Nothing tells the work to stop; it has the outer grace all the same.
    ("deadline 3+5 > fresh > attempt 9", Deaf, "@8 deadline of 3, running", &["0-8 dropped deadline"]),
    ("deadline 3+5 > fresh > attempt 9", Takes(4), "@4 deadline of 3, running", &["0-4 done"]),
    ("deadline 3+5 > fresh > deadline 9+5", Tidies(2), "@8 deadline of 3, running", &["0-8 dropped deadline"]),
    ("wire 3 > fresh > attempt 9", Deaf, "@9 attempt of 9, running", &["0-9 dropped elapsed"]),
    ("deadline 3 > fresh > spawn > attempt 9", Deaf, "@3 deadline of 3, running", &["0-9 dropped elapsed"]),
    ("deadline 3+5 > fresh > spawn > attempt 9", Deaf, "@8 deadline of 3, running", &["0-9 dropped elapsed"]),
    ("deadline 9 > fresh > spawn > attempt 3", Deaf, "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("deadline 7 > fresh > retry 2 > attempt 3", Deaf, "@7 deadline of 7, running",
        &["0-3 dropped elapsed", "3-6 dropped elapsed", "6-7 dropped deadline"]),
    ("deadline 7 > retry 2 > fresh > attempt 3", Deaf, "@7 deadline of 7, running",
        &["0-3 dropped elapsed", "3-6 dropped elapsed", "6-7 dropped deadline"]),
    ("gone 1 > cancel > fresh > attempt 9", Deaf, "@1 cancelled, client gone", &["0-1 dropped client gone"]),
    ("gone 1 > cancel+5 > fresh > attempt 9", Deaf, "@6 cancelled, client gone", &["0-6 dropped client gone"]),
    ("gone 1 > deadline 9 > fresh > cancel", Deaf, "@9 deadline of 9, running", &["0-9 dropped deadline"]),
];

/// Each layer reads the limit in force, its owner and its grace in the context.
#[rustfmt::skip]
const WITH_THE_LIMIT_IN_THE_CONTEXT: &[Row] = &[
    // As without a task between: the outer layer ends the work and gives the grace.
    ("deadline 3+5 > spawn > attempt 9", Deaf, "@8 deadline of 3, running", &["0-8 told deadline at 3, dropped deadline"]),
    ("deadline 3+5 > spawn > attempt 9", Tidies(2), "@5 deadline of 3, running", &["0-5 told deadline at 3, done"]),
    ("deadline 3+5 > spawn > attempt 3", Tidies(2), "@5 deadline of 3, running", &["0-5 told deadline at 3, done"]),
    ("deadline 3+5 > spawn > attempt 9+2", Deaf, "@8 deadline of 3, running", &["0-8 told deadline at 3, dropped deadline"]),
    ("deadline 3 > spawn > attempt 9+2", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("deadline 3+5 > spawn > cancel", Tidies(2), "@5 deadline of 3, running", &["0-5 told deadline at 3, done"]),
    ("deadline 7+5 > spawn > retry 2 > attempt 3", Tidies(2), "@9 deadline of 7, running",
        &["0-3 dropped elapsed", "3-6 dropped elapsed", "6-9 told deadline at 7, done"]),
    ("gone 1 > cancel+5 > spawn > cancel", Tidies(2), "@3 cancelled, client gone", &["0-3 told client gone at 1, done"]),
    // The outer limit keeps its name, so there is another attempt.
    ("retry 1 > attempt 3 > spawn > attempt 4", Deaf, "@6 attempt of 3, running", &["0-3 dropped elapsed", "3-6 dropped elapsed"]),
    ("attempt 3 > spawn > attempt 9", Deaf, "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("attempt 3+5 > spawn > deadline context", Tidies(2), "@5 attempt of 3, running", &["0-5 told elapsed at 3, done"]),
    // A wait in the task is one.
    ("deadline 3+5 > spawn > deadline 60 > busy 4", Deaf, "@3 deadline of 3, waiting", &[]),
    ("attempt 3+9 > spawn > cancel > busy 4", Deaf, "@3 attempt of 3, waiting", &[]),
    // A limit that knows of no outer one ends its work itself, and is the first to answer.
    ("deadline 3+5 > fresh > attempt 6", Deaf, "@6 deadline of 3, running", &["0-6 dropped elapsed"]),
    ("deadline 3+5 > fresh > attempt 3", Deaf, "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("gone 1 > cancel+9 > fresh > attempt 3", Deaf, "@3 cancelled, client gone", &["0-3 dropped elapsed"]),
];

#[tokio::test(start_paused = true)]
async fn a_limit_in_another_task_ends_its_own_work_and_the_outer_limit_answers_on_time() {
    check(SPAWNED).await;
}

#[tokio::test(start_paused = true)]
async fn a_limit_without_the_outer_context_ends_its_own_work_and_the_outer_limit_answers_on_time() {
    check(LOST).await;
}

#[tokio::test(start_paused = true)]
async fn the_limit_in_force_reaches_another_task_and_no_request_without_its_context() {
    check(WITH_THE_LIMIT_IN_THE_CONTEXT).await;
}
