//! The state that the calls of a layer share: the retry budget, the tracker.

use std::sync::Arc;

use loom::thread;

use self::{
    budget::{RetryBudget, RetryBudgetOptions},
    tracker::{TrackedCall, Tracker, leave, runs},
};
use crate::call::{CallEnd, CallId, Cancel, Cause, record::CallRecord};

#[path = "../../src/layers/retry/budget.rs"]
mod budget;
#[path = "../../src/layers/track/cancellation.rs"]
mod cancellation;
#[path = "../../src/layers/track/samples.rs"]
mod samples;
#[path = "../../src/layers/track/snapshot.rs"]
mod snapshot;
#[path = "../../src/layers/track/tracker.rs"]
mod tracker;
#[path = "../../src/layers/track/unsettled.rs"]
mod unsettled;

/// Far longer than a model runs: no slot of the budget ends meanwhile.
const TTL: std::time::Duration = std::time::Duration::from_secs(60);

#[test]
fn every_budget_deposit_is_spent_at_most_once_and_none_is_lost() {
    loom::model(|| {
        let budget = RetryBudget::new(
            RetryBudgetOptions::permille(1000)
                .with_reserve(0)
                .with_ttl(TTL),
        );
        let shared = budget.clone();
        // Each deposits a whole retry before it takes one: so each gets one.
        let other = thread::spawn(move || {
            shared.deposit();
            shared.reserve().expect("what was deposited").spend();
        });
        budget.deposit();
        budget.reserve().expect("what was deposited").spend();
        other.join().unwrap();
        assert_eq!(budget.available(), 0);
        assert!(budget.reserve().is_none());
    });
}

#[test]
fn the_last_retry_of_a_budget_goes_to_one_caller_and_is_returned_if_unsent() {
    loom::model(|| {
        let budget = RetryBudget::new(
            RetryBudgetOptions::permille(1000)
                .with_reserve(0)
                .with_ttl(TTL),
        );
        budget.deposit();
        let shared = budget.clone();
        let other = thread::spawn(move || {
            let reserved = shared.reserve();
            let got = reserved.is_some();
            // Not sent.
            drop(reserved);
            got
        });
        let sent = budget.reserve().map(|reserved| reserved.spend()).is_some();
        let other = other.join().unwrap();
        assert!(sent || other);
        assert_eq!(budget.available(), u64::from(!sent));
    });
}

#[test]
fn the_last_retry_of_a_budget_is_sent_once() {
    loom::model(|| {
        let budget = RetryBudget::new(
            RetryBudgetOptions::permille(1000)
                .with_reserve(0)
                .with_ttl(TTL),
        );
        budget.deposit();
        let shared = budget.clone();
        let send =
            |budget: RetryBudget| budget.reserve().map(|reserved| reserved.spend()).is_some();
        let other = thread::spawn(move || send(shared));
        assert!(send(budget) ^ other.join().unwrap());
    });
}

fn call(cancel: &Cancel) -> TrackedCall {
    TrackedCall {
        id: CallId::next(),
        label: None,
        since: tokio::time::Instant::now(),
        deadline: None,
        cancel: cancel.clone(),
        before: 0,
        record: Arc::new(CallRecord),
        is_outermost: true,
        runs: false,
    }
}

/// It runs and is dropped, while somebody stops all and somebody counts.
#[test]
fn a_call_has_one_terminal_status() {
    loom::model(|| {
        let tracker = Tracker::new().with_history(4);
        let node = Cancel::new();
        let mut entry = tracker.enter(call(&node)).unwrap();
        let other = thread::spawn(move || {
            runs(&entry);
            let left = leave(&mut entry, CallEnd::Dropped);
            assert!(leave(&mut entry, CallEnd::Completed).is_none());
            left
        });
        tracker.cancel_all(Cause::Shutdown);
        let counts = tracker.counts();
        let ended = counts.completed + counts.cancelled;
        assert_eq!(counts.accepted, counts.live() + ended);
        let left = other.join().unwrap();
        let counts = tracker.counts();
        assert_eq!((counts.live(), counts.completed + counts.cancelled), (0, 1));
        let history = tracker.history();
        assert_eq!(history.len(), 1);
        assert_eq!(history.first(), left.as_ref());
    });
}

/// If it missed the end of the last call it would wait for ever, which loom reports.
#[test]
fn waiting_for_an_idle_tracker_misses_no_end() {
    loom::model(|| {
        let tracker = Tracker::new();
        let mut entry = tracker.enter(call(&Cancel::none())).unwrap();
        let other = thread::spawn(move || leave(&mut entry, CallEnd::Completed));
        loom::future::block_on(tracker.wait_empty());
        assert!(tracker.is_empty());
        other.join().unwrap();
    });
}
