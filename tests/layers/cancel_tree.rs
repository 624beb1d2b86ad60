//! The nodes that carry a cancellation and its cause.

use tokio_util::sync::CancellationToken;
use tower_dspy::{Cancel, Cause};

#[test]
fn a_node_without_a_cancel_is_not_cancelled() {
    let none = Cancel::none();
    assert!(!none.cancel(Cause::Caller));
    assert!(!none.is_cancelled());
    assert_eq!(none.cause(), None);
}

#[test]
fn a_cancel_by_a_plain_token_has_the_cause_caller() {
    let token = CancellationToken::new();
    let call = Cancel::from(token.clone()).child();
    token.cancel();
    assert_eq!(call.cause(), Some(Cause::Caller));
}

#[test]
fn a_cancelled_child_keeps_its_own_cause_and_leaves_its_parent_alone() {
    let call = Cancel::new();
    let attempt = call.child();
    assert!(attempt.cancel(Cause::Elapsed));
    assert!(!call.is_cancelled());
    call.cancel(Cause::Deadline);
    assert_eq!(attempt.cause(), Some(Cause::Elapsed));
}

#[test]
fn a_cause_is_fixed_by_its_first_reader() {
    let token = CancellationToken::new();
    let root = Cancel::from(token.clone());
    let leaf = root.child().child();
    token.cancel();
    assert_eq!(leaf.cause(), Some(Cause::Caller));
    assert!(!root.cancel(Cause::Shutdown));
    assert_eq!(leaf.cause(), Some(Cause::Caller));
}

#[test]
fn racing_causes_have_one_winner() {
    for _ in 0..500 {
        let cancel = Cancel::new();
        let child = cancel.child();
        let barrier = std::sync::Barrier::new(2);
        let race = |cause| {
            barrier.wait();
            (cause, cancel.cancel(cause), child.cause())
        };
        let results = std::thread::scope(|scope| {
            let a = scope.spawn(|| race(Cause::Elapsed));
            let b = scope.spawn(|| race(Cause::ClientGone));
            [a.join(), b.join()].map(|joined| joined.expect("no panic in a racer"))
        });
        let winners: Vec<_> = results.iter().filter(|result| result.1).collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(cancel.cause(), Some(winners[0].0));
        assert_eq!(child.cause(), Some(winners[0].0));
    }
}
