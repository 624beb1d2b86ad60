//! A deadline around an attempt limit around a retry around an attempt limit.

use super::rig::{
    Row,
    Work::{Deaf, Takes, Tidies},
    check,
};

/// Without a grace: each order of the three limits.
#[rustfmt::skip]
const NO_GRACE: &[Row] = &[
    // All attempts fit.
    ("deadline 60 > * > attempt 50 > retry 2 > * > attempt 3", Deaf, "@9 attempt of 3, running",
        &["0-3 dropped elapsed", "3-6 dropped elapsed", "6-9 dropped elapsed"]),
    ("deadline 60 > * > attempt 50 > retry 2 > * > attempt 3", Takes(3), "@3 answer", &["0-3 done"]),
    // The outer attempt's limit comes first, in the third attempt and with the second.
    ("deadline 60 > * > attempt 7 > retry 2 > * > attempt 3", Deaf, "@7 attempt of 7, running",
        &["0-3 dropped elapsed", "3-6 dropped elapsed", "6-7 dropped elapsed"]),
    ("deadline 60 > * > attempt 6 > retry 2 > * > attempt 3", Deaf, "@6 attempt of 6, running",
        &["0-3 dropped elapsed", "3-6 dropped elapsed"]),
    // The deadline comes first.
    ("deadline 7 > * > attempt 50 > retry 2 > * > attempt 3", Deaf, "@7 deadline of 7, running",
        &["0-3 dropped elapsed", "3-6 dropped elapsed", "6-7 dropped deadline"]),
    ("deadline 6 > * > attempt 50 > retry 2 > * > attempt 3", Deaf, "@6 deadline of 6, running",
        &["0-3 dropped elapsed", "3-6 dropped deadline"]),
    ("deadline 7 > * > attempt 7 > retry 2 > * > attempt 3", Deaf, "@7 deadline of 7, running",
        &["0-3 dropped elapsed", "3-6 dropped elapsed", "6-7 dropped deadline"]),
    ("deadline 6 > * > attempt 7 > retry 2 > * > attempt 4", Deaf, "@6 deadline of 6, running",
        &["0-4 dropped elapsed", "4-6 dropped deadline"]),
    // It is the inner limit that is the latest: there is one attempt.
    ("deadline 3 > * > attempt 3 > retry 2 > * > attempt 3", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("deadline 3 > * > attempt 9 > retry 2 > * > attempt 6", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("deadline 3 > * > attempt 6 > retry 2 > * > attempt 9", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    ("deadline 9 > * > attempt 3 > retry 2 > * > attempt 3", Deaf, "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    ("deadline 6 > * > attempt 3 > retry 2 > * > attempt 9", Deaf, "@3 attempt of 3, running", &["0-3 dropped elapsed"]),
    // Of the two limits within the retry the outer one is named, and is worth another attempt.
    ("retry 1 > attempt 3 > * > attempt 4", Deaf, "@6 attempt of 3, running", &["0-3 dropped elapsed", "3-6 dropped elapsed"]),
    ("retry 1 > attempt 3 > * > attempt 3", Deaf, "@6 attempt of 3, running", &["0-3 dropped elapsed", "3-6 dropped elapsed"]),
    ("retry 1 > attempt 3 > * > deadline context", Deaf, "@6 attempt of 3, running", &["0-3 dropped elapsed", "3-6 dropped elapsed"]),
    ("retry 1 > attempt 4 > * > attempt 3", Deaf, "@6 attempt of 3, running", &["0-3 dropped elapsed", "3-6 dropped elapsed"]),
    // A deadline is not.
    ("retry 1 > attempt 4 > * > deadline 3", Deaf, "@3 deadline of 3, running", &["0-3 dropped deadline"]),
    // The deadline came with the request, and only the attempt enforces it.
    ("wire 3 > retry 2 > * > attempt 2", Deaf, "@3 deadline of 1, running", &["0-2 dropped elapsed", "2-3 dropped deadline"]),
    ("wire 2 > retry 2 > * > attempt 2", Deaf, "@2 deadline of 2, running", &["0-2 dropped deadline"]),
    ("wire 7 > * > attempt 50 > retry 2 > * > attempt 3", Deaf, "@7 deadline of 7, running",
        &["0-3 dropped elapsed", "3-6 dropped elapsed", "6-7 dropped deadline"]),
];

/// One, two or all three of the limits give a grace.
#[rustfmt::skip]
const GRACE: &[Row] = &[
    // The deadline.
    ("deadline 7+5 > * > attempt 50 > retry 2 > * > attempt 3", Deaf, "@12 deadline of 7, running",
        &["0-3 dropped elapsed", "3-6 dropped elapsed", "6-12 told deadline at 7, dropped deadline"]),
    ("deadline 7+5 > * > attempt 50 > retry 2 > * > attempt 3", Tidies(2), "@9 deadline of 7, running",
        &["0-3 dropped elapsed", "3-6 dropped elapsed", "6-9 told deadline at 7, done"]),
    ("deadline 3+5 > * > attempt 3 > retry 2 > * > attempt 3", Tidies(2), "@5 deadline of 3, running", &["0-5 told deadline at 3, done"]),
    ("deadline 3+5 > * > attempt 9 > retry 2 > * > attempt 6", Deaf, "@8 deadline of 3, running", &["0-8 told deadline at 3, dropped deadline"]),
    // The outer attempt.
    ("deadline 60 > * > attempt 7+5 > retry 2 > * > attempt 3", Deaf, "@12 attempt of 7, running",
        &["0-3 dropped elapsed", "3-6 dropped elapsed", "6-12 told elapsed at 7, dropped elapsed"]),
    ("deadline 9 > * > attempt 7+5 > retry 2 > * > attempt 3", Deaf, "@9 deadline of 9, running",
        &["0-3 dropped elapsed", "3-6 dropped elapsed", "6-9 told elapsed at 7, dropped deadline"]),
    ("deadline 7 > * > attempt 7+5 > retry 2 > * > attempt 3", Deaf, "@7 deadline of 7, running",
        &["0-3 dropped elapsed", "3-6 dropped elapsed", "6-7 dropped deadline"]),
    ("deadline 60 > * > attempt 6+5 > retry 2 > * > attempt 3", Tidies(2), "@8 attempt of 6, running",
        &["0-3 dropped elapsed", "3-8 told elapsed at 6, done"]),
    // The inner attempt, at each of its limits.
    ("deadline 60 > * > attempt 50 > retry 1 > * > attempt 2+3", Deaf, "@10 attempt of 2, running",
        &["0-5 told elapsed at 2, dropped elapsed", "5-10 told elapsed at 7, dropped elapsed"]),
    ("deadline 60 > * > attempt 50 > retry 1 > * > attempt 2+3", Tidies(1), "@6 attempt of 2, running",
        &["0-3 told elapsed at 2, done", "3-6 told elapsed at 5, done"]),
    ("deadline 7 > * > attempt 50 > retry 2 > * > attempt 2+9", Deaf, "@7 deadline of 7, running",
        &["0-7 told elapsed at 2, dropped deadline"]),
    ("deadline 60 > * > attempt 7 > retry 2 > * > attempt 2+9", Deaf, "@7 attempt of 7, running",
        &["0-7 told elapsed at 2, dropped elapsed"]),
    ("deadline 6 > * > attempt 50 > retry 2 > * > attempt 3+2", Deaf, "@6 deadline of 6, running",
        &["0-5 told elapsed at 3, dropped elapsed", "5-6 dropped deadline"]),
    // Deadline and outer attempt.
    ("deadline 8+2 > * > attempt 6+5 > retry 2 > * > attempt 9", Deaf, "@10 deadline of 8, running",
        &["0-10 told elapsed at 6, dropped deadline"]),
    ("deadline 8+2 > * > attempt 6+5 > retry 2 > * > attempt 9", Tidies(3), "@9 deadline of 8, running",
        &["0-9 told elapsed at 6, done"]),
    ("deadline 8+9 > * > attempt 6+5 > retry 2 > * > attempt 9", Deaf, "@11 deadline of 8, running",
        &["0-11 told elapsed at 6, dropped elapsed"]),
    // Outer and inner attempt.
    ("deadline 60 > * > attempt 6+5 > retry 2 > * > attempt 4+1", Deaf, "@11 attempt of 6, running",
        &["0-5 told elapsed at 4, dropped elapsed", "5-11 told elapsed at 6, dropped elapsed"]),
    // What ends within a grace is not followed by another attempt.
    ("deadline 60 > * > attempt 6+5 > retry 2 > * > attempt 4+3", Deaf, "@7 attempt of 6, running",
        &["0-7 told elapsed at 4, dropped elapsed"]),
    // Deadline and inner attempt.
    ("deadline 6+5 > * > attempt 50 > retry 2 > * > attempt 4+3", Deaf, "@7 deadline of 6, running",
        &["0-7 told elapsed at 4, dropped elapsed"]),
    ("deadline 6+5 > * > attempt 50 > retry 2 > * > attempt 4+1", Tidies(1), "@7 deadline of 6, running",
        &["0-5 told elapsed at 4, done", "5-7 told deadline at 6, done"]),
    // All three.
    ("deadline 8+2 > * > attempt 6+5 > retry 2 > * > attempt 4+1", Deaf, "@10 deadline of 8, running",
        &["0-5 told elapsed at 4, dropped elapsed", "5-10 told elapsed at 6, dropped deadline"]),
    ("deadline 8+2 > * > attempt 6+5 > retry 2 > * > attempt 4+1", Tidies(1), "@7 attempt of 6, running",
        &["0-5 told elapsed at 4, done", "5-7 told elapsed at 6, done"]),
    ("deadline 3+5 > * > attempt 3+4 > retry 2 > * > attempt 3+1", Deaf, "@8 deadline of 3, running",
        &["0-8 told deadline at 3, dropped deadline"]),
    // From the wire, with the first layer's grace.
    ("wire 7 > attempt 50+5 > retry 2 > * > attempt 3", Deaf, "@12 deadline of 7, running",
        &["0-3 dropped elapsed", "3-6 dropped elapsed", "6-12 told deadline at 7, dropped deadline"]),
    ("wire 3 > retry 2 > * > attempt 2+5", Deaf, "@7 attempt of 2, running", &["0-7 told elapsed at 2, dropped elapsed"]),
];

#[tokio::test(start_paused = true)]
async fn attempts_without_a_grace_end_by_the_earliest_limit_around_them() {
    check(NO_GRACE).await;
}

#[tokio::test(start_paused = true)]
async fn the_grace_of_each_limit_is_bounded_by_those_around_it() {
    check(GRACE).await;
}
