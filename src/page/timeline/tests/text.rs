//! The timeline as plain text.

use super::{
    builders::{attempt, call, lm},
    samples::{all, deadline_passed, hostile},
};
use crate::{
    call::{CallStatus, Cause, LmOutcome, record::timeline::AttemptKind},
    page::timeline_text,
};

#[test]
fn the_picture_is_100_columns_wide_and_nothing_leaves_its_line() {
    for (name, call) in all() {
        let text = timeline_text(&call);
        let rows: Vec<_> = text.lines().filter(|line| line.ends_with('|')).collect();
        assert!(!rows.is_empty(), "{name}");
        for row in rows {
            assert_eq!(row.chars().count(), 100, "{name}: {row}");
        }
    }
}

#[test]
fn names_keep_no_control_characters() {
    let text = timeline_text(&hostile());
    let control = |c: char| c.is_control() && c != '\n';
    assert!(!text.contains(control), "{text:?}");
    assert!(text.contains("</svg><script>"), "it is no HTML");
    assert!(text.lines().all(|line| !line.starts_with("[31m")));
}

#[test]
fn it_has_the_call_its_picture_and_its_story() {
    let text = timeline_text(&deadline_passed());
    for part in [
        "qa\n",
        "arrived 2026-09-21T14:13:20.000Z\n",
        "Timed out after 4 s; deadline 4 s",
        "LM 2 gpt-4o",
        "D deadline +4.000 s",
        "\n +4.000 s  deadline passed: told to stop\n",
        "2 LM calls: 943 tokens, 943 wasted",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let ruler = text.lines().find(|line| line.ends_with('|'));
    assert!(ruler.is_some_and(|ruler| ruler.contains("DAS")), "{text}");
}

#[test]
fn an_lm_call_names_its_own_attempt_where_two_have_one_number() {
    // A hedge within a retry: each counts its attempts by itself.
    let hedge = attempt(1, AttemptKind::Hedge, 300.0).stopped(600.0, Cause::Elapsed, 601.0);
    let mut of_retry = lm(710.0, 980.0, LmOutcome::Answered)
        .content(900.0)
        .for_attempt(1);
    of_retry.attempt_index = Some(2);
    let timeline = call(1100.0)
        .with_answer(1000.0, CallStatus::Completed)
        .with_settlement(1000.0)
        .with_attempt(attempt(0, AttemptKind::First, 0.0).stopped(600.0, Cause::Elapsed, 601.0))
        .with_attempt(hedge)
        .with_attempt(attempt(1, AttemptKind::Retry, 700.0).answered(1000.0))
        .with_lm_call(of_retry);
    let text = timeline_text(&timeline);
    assert!(text.contains("attempt 3: "), "{text}");
    assert!(!text.contains("attempt 2: "), "{text}");
}
