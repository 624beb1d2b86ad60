//! What a call spent, as a pure type.

use std::time::Duration;

use serde_json::json;

use super::{LmCall, LmOutcome, Spent};

#[test]
fn costs_add_up_and_the_lm_calls_stay_in_order_and_bounded() {
    let calls = |range: std::ops::Range<u64>, step: u64| {
        let mut spent = Spent::default();
        for i in range {
            let mut call = LmCall::new("openai", "m", LmOutcome::Answered);
            call.started = Duration::from_secs(i * step);
            spent.lm_calls.push(call);
        }
        spent.usage.total_tokens = 5;
        spent.lm_calls_not_kept = 1;
        spent
    };
    let mut both = calls(1..200, 2);
    both.add(&calls(0..100, 1), 256);
    assert_eq!((both.lm_calls.len(), both.lm_calls_not_kept), (256, 2 + 43));
    assert!(both.lm_calls.is_sorted_by_key(|call| call.started));
    assert_eq!(both.usage.total_tokens, 10);
}

#[test]
fn debug_shows_no_answer() {
    let mut spent = Spent::default();
    assert!(spent.is_nothing());
    spent.partial = json!({"answer": "a secret"}).as_object().cloned();
    assert!(!spent.is_nothing());
    let shown = format!("{spent:?}");
    assert!(
        shown.contains("answer") && !shown.contains("secret"),
        "{shown}"
    );
}
