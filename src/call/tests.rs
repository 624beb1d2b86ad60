//! Tests of the files that the models in `tests/models` compile as well.

use std::sync::{Arc, Weak};

use tokio_test::{assert_pending, assert_ready, task};

use super::in_flight::InFlight;

#[test]
fn calls_are_listed_from_their_entry_until_their_ticket_is_dropped() {
    let calls = Arc::new(InFlight::default());
    let first = calls.enter("first").unwrap();
    let second = calls.enter("second").unwrap();
    assert_eq!(calls.list(), ["first", "second"]);
    drop(first);
    assert_eq!(calls.list(), ["second"]);
    assert_eq!((calls.len(), calls.entered()), (1, 2));
    drop(second);
    assert!(calls.is_empty());
}

#[test]
fn a_closed_registry_refuses_calls_and_keeps_those_in_flight() {
    let calls = Arc::new(InFlight::default());
    let ticket = calls.enter(1);
    calls.close();
    assert!(calls.enter(2).is_none());
    assert_eq!((calls.list(), calls.entered()), (vec![1], 1));
    drop(ticket);
    assert!(calls.is_empty());
}

#[test]
fn a_waiter_is_woken_by_the_last_call_and_not_before() {
    let calls = Arc::new(InFlight::default());
    assert_ready!(task::spawn(calls.wait_empty()).poll());
    let (first, second) = (calls.enter(1), calls.enter(2));
    let mut waiter = task::spawn(calls.wait_empty());
    assert_pending!(waiter.poll());
    drop(first);
    assert!(!waiter.is_woken());
    drop(second);
    // It has waited long enough, whoever comes now.
    let _third = calls.enter(3);
    assert!(waiter.is_woken());
    assert_ready!(waiter.poll());
}

/// A call whose drop uses the registry, as foreign code may.
struct Asks(Weak<InFlight<Arc<Asks>>>);

impl Drop for Asks {
    fn drop(&mut self) {
        if let Some(calls) = self.0.upgrade() {
            calls.list();
        }
    }
}

#[test]
fn what_a_call_holds_is_dropped_outside_of_the_lock() {
    let calls = Arc::new(InFlight::default());
    let asks = || Arc::new(Asks(Arc::downgrade(&calls)));
    drop(calls.enter(asks()));
    calls.close();
    assert!(calls.enter(asks()).is_none());
}
