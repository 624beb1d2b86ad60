//! A cancellation around and inside limits.

use super::rig::{
    Row,
    Work::{Deaf, Tidies},
    check,
};

#[rustfmt::skip]
const AROUND_A_LIMIT: &[Row] = &[
    ("gone 1 > cancel > * > attempt 3", Deaf, "@1 cancelled, client gone", &["0-1 told client gone at 1, dropped client gone"]),
    ("gone 1 > cancel > * > attempt 3+5", Tidies(2), "@1 cancelled, client gone", &["0-1 told client gone at 1, dropped client gone"]),
    ("gone 1 > cancel+5 > * > attempt 9", Deaf, "@6 cancelled, client gone", &["0-6 told client gone at 1, dropped client gone"]),
    ("gone 1 > cancel+5 > * > attempt 9", Tidies(2), "@3 cancelled, client gone", &["0-3 told client gone at 1, done"]),
    ("gone 1 > cancel+1 > * > attempt 3", Deaf, "@2 cancelled, client gone", &["0-2 told client gone at 1, dropped client gone"]),
    // A limit inside does not cut the grace.
    ("gone 1 > cancel+9 > * > attempt 3", Deaf, "@10 cancelled, client gone", &["0-10 told client gone at 1, dropped client gone"]),
    ("gone 1 > cancel+9 > * > attempt 3", Tidies(5), "@6 cancelled, client gone", &["0-6 told client gone at 1, done"]),
    ("gone 1 > cancel+9 > * > deadline 3", Deaf, "@10 cancelled, client gone", &["0-10 told client gone at 1, dropped client gone"]),
    ("wire 3 > gone 1 > cancel+9 > * > attempt 6", Tidies(5), "@6 cancelled, client gone", &["0-6 told client gone at 1, done"]),
    // A limit that passes first ends the call.
    ("gone 5 > cancel+9 > * > attempt 3", Deaf, "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("gone 5 > cancel > * > attempt 3+1", Deaf, "@4 attempt of 3, running", &["0-4 told elapsed at 3, dropped elapsed"]),
    // A cancellation ends the grace of a limit inside, and its own grace bounds it.
    ("gone 4 > cancel > * > deadline 3+5", Deaf, "@4 cancelled, client gone", &["0-4 told deadline at 3, dropped client gone"]),
    ("gone 4 > cancel > * > attempt 3+5", Tidies(2), "@4 cancelled, client gone", &["0-4 told elapsed at 3, dropped client gone"]),
    ("gone 4 > cancel+2 > * > deadline 3+5", Deaf, "@6 cancelled, client gone", &["0-6 told deadline at 3, dropped client gone"]),
    ("gone 4 > cancel+2 > * > deadline 3+5", Tidies(2), "@5 cancelled, client gone", &["0-5 told deadline at 3, done"]),
    ("gone 4 > cancel+9 > * > attempt 3+5", Deaf, "@8 cancelled, client gone", &["0-8 told elapsed at 3, dropped elapsed"]),
];

#[rustfmt::skip]
const INSIDE_A_LIMIT: &[Row] = &[
    ("gone 1 > deadline 3 > * > cancel", Deaf, "@1 cancelled, client gone", &["0-1 told client gone at 1, dropped client gone"]),
    ("gone 1 > deadline 3+5 > * > cancel", Tidies(2), "@1 cancelled, client gone", &["0-1 told client gone at 1, dropped client gone"]),
    ("gone 1 > deadline 9 > * > cancel+2", Deaf, "@3 cancelled, client gone", &["0-3 told client gone at 1, dropped client gone"]),
    // The limit bounds the grace.
    ("gone 1 > deadline 3 > * > cancel+5", Deaf, "@3 deadline of 3, running", &["0-3 told client gone at 1, dropped deadline"]),
    ("gone 1 > attempt 3 > * > cancel+5", Deaf, "@3 attempt of 3, running", &["0-3 told client gone at 1, dropped elapsed"]),
    ("gone 1 > deadline 3+2 > * > cancel+9", Deaf, "@5 deadline of 3, running", &["0-5 told client gone at 1, dropped deadline"]),
    ("gone 1 > deadline 3+5 > * > cancel+3", Deaf, "@4 deadline of 3, running", &["0-4 told client gone at 1, dropped client gone"]),
    // The node is cancelled by the limit, which ends the work itself.
    ("gone 9 > deadline 3+5 > * > cancel", Tidies(2), "@5 deadline of 3, running", &["0-5 told deadline at 3, done"]),
    ("gone 9 > deadline 3+5 > * > cancel", Deaf, "@8 deadline of 3, running", &["0-8 told deadline at 3, dropped deadline"]),
    ("gone 9 > deadline 3+5 > * > cancel+1", Deaf, "@8 deadline of 3, running", &["0-8 told deadline at 3, dropped deadline"]),
    ("deadline 3+5 > * > cancel", Tidies(2), "@5 deadline of 3, running", &["0-5 told deadline at 3, done"]),
    ("attempt 3+5 > * > cancel", Deaf, "@8 attempt of 3, running", &["0-8 told elapsed at 3, dropped elapsed"]),
    // The client goes away in the grace: the work has been told already.
    ("gone 4 > deadline 3+5 > * > cancel", Tidies(2), "@5 deadline of 3, running", &["0-5 told deadline at 3, done"]),
    ("gone 4 > deadline 3+5 > * > cancel > * > attempt 9", Deaf, "@8 deadline of 3, running", &["0-8 told deadline at 3, dropped deadline"]),
];

#[rustfmt::skip]
const WITHIN_ANOTHER: &[Row] = &[
    ("gone 1 > cancel > * > cancel", Deaf, "@1 cancelled, client gone", &["0-1 told client gone at 1, dropped client gone"]),
    ("gone 1 > cancel > * > cancel+5", Deaf, "@1 cancelled, client gone", &["0-1 told client gone at 1, dropped client gone"]),
    ("gone 1 > cancel+5 > * > cancel", Deaf, "@6 cancelled, client gone", &["0-6 told client gone at 1, dropped client gone"]),
    ("gone 1 > cancel+5 > * > cancel", Tidies(2), "@3 cancelled, client gone", &["0-3 told client gone at 1, done"]),
    ("gone 1 > cancel+5 > * > cancel+2", Tidies(3), "@4 cancelled, client gone", &["0-4 told client gone at 1, done"]),
    ("gone 1 > cancel+2 > * > cancel+5", Deaf, "@3 cancelled, client gone", &["0-3 told client gone at 1, dropped client gone"]),
];

#[rustfmt::skip]
const AROUND_A_RETRY: &[Row] = &[
    ("gone 4 > deadline 20 > cancel > * > retry 2 > attempt 3", Deaf, "@4 cancelled, client gone",
        &["0-3 dropped elapsed", "3-4 told client gone at 4, dropped client gone"]),
    // No further attempt in the grace.
    ("gone 4 > deadline 20 > cancel+5 > * > retry 2 > * > attempt 3", Deaf, "@9 cancelled, client gone",
        &["0-3 dropped elapsed", "3-9 told client gone at 4, dropped client gone"]),
    ("gone 4 > deadline 20 > cancel+5 > * > retry 2 > * > attempt 3", Tidies(3), "@7 cancelled, client gone",
        &["0-3 dropped elapsed", "3-7 told client gone at 4, done"]),
    ("gone 4 > deadline 6 > cancel+5 > * > retry 2 > * > attempt 3", Deaf, "@6 deadline of 6, running",
        &["0-3 dropped elapsed", "3-6 told client gone at 4, dropped deadline"]),
    // Inside it.
    ("gone 4 > deadline 20 > retry 2 > * > cancel > * > attempt 3", Deaf, "@4 cancelled, client gone",
        &["0-3 dropped elapsed", "3-4 told client gone at 4, dropped client gone"]),
    ("gone 4 > deadline 20 > retry 2 > * > cancel+1 > * > attempt 3", Deaf, "@5 cancelled, client gone",
        &["0-3 dropped elapsed", "3-5 told client gone at 4, dropped client gone"]),
    ("gone 4 > deadline 20 > retry 2 > * > attempt 3 > * > cancel", Deaf, "@4 cancelled, client gone",
        &["0-3 dropped elapsed", "3-4 told client gone at 4, dropped client gone"]),
    // An attempt's grace is not a cancellation of the call: there is another attempt.
    ("deadline 20 > retry 1 > * > attempt 3+5 > * > cancel", Tidies(1), "@8 attempt of 3, running",
        &["0-4 told elapsed at 3, done", "4-8 told elapsed at 7, done"]),
];

#[rustfmt::skip]
const WAITS: &[Row] = &[
    ("gone 1 > cancel > busy 9", Deaf, "@1 cancelled, client gone", &[]),
    ("gone 1 > cancel+5 > busy 3", Deaf, "@1 cancelled, client gone", &[]),
    ("gone 1 > cancel+5 > * > deadline 60 > busy 3", Deaf, "@1 cancelled, client gone", &[]),
    ("gone 1 > deadline 20+5 > * > cancel+5 > busy 3", Deaf, "@1 cancelled, client gone", &[]),
];

#[tokio::test(start_paused = true)]
async fn a_cancellation_around_a_limit_ends_the_work_with_its_own_grace() {
    check(AROUND_A_LIMIT).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_inside_a_limit_leaves_the_end_at_the_limit_to_the_limit() {
    check(INSIDE_A_LIMIT).await;
}

#[tokio::test(start_paused = true)]
async fn the_outer_of_two_cancel_layers_ends_the_work() {
    check(WITHIN_ANOTHER).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_makes_no_further_attempt() {
    check(AROUND_A_RETRY).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_wait_gets_no_grace() {
    check(WAITS).await;
}
