//! Tests of the files that the models in `tests/models` compile as well.

use std::sync::{Arc, Weak};

use tokio_test::{assert_pending, assert_ready, task};

use super::in_flight::InFlight;

fn registry<T>() -> Arc<InFlight<T>> {
    Arc::default()
}

#[test]
fn calls_are_listed_from_their_entry_until_their_ticket_is_dropped() {
    let calls = registry();
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
    let calls = registry();
    let ticket = calls.enter(1);
    calls.close();
    assert!(calls.enter(2).is_none());
    assert_eq!((calls.list(), calls.entered()), (vec![1], 1));
    drop(ticket);
    assert!(calls.is_empty());
}

#[test]
fn a_waiter_is_woken_only_by_the_last_call() {
    let calls = registry();
    assert_ready!(task::spawn(calls.wait_empty()).poll());
    let (first, second) = (calls.enter(1), calls.enter(2));
    let mut waiter = task::spawn(calls.wait_empty());
    assert_pending!(waiter.poll());
    drop(first);
    assert!(!waiter.is_woken());
    drop(second);
    // The registry was empty once: a later call does not prolong the wait.
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
fn the_resources_of_a_call_are_dropped_outside_the_lock() {
    let calls = registry();
    let asks = || Arc::new(Asks(Arc::downgrade(&calls)));
    drop(calls.enter(asks()));
    calls.close();
    assert!(calls.enter(asks()).is_none());
}

#[test]
fn the_account_changes_with_the_calls_and_each_leaves_once() {
    let calls: Arc<InFlight<&str, Vec<&str>>> = Arc::default();
    let mut first = calls.enter_with("first", |account| account.push("entered"));
    let ticket = first.as_mut().unwrap();
    ticket.update(|call, account| {
        *call = "changed";
        account.push("changed");
    });
    assert_eq!(calls.list(), ["changed"]);
    let left = |call: &&'static str, account: &mut Vec<_>| {
        account.push("left");
        *call
    };
    assert_eq!(ticket.leave(left), Some("changed"));
    assert_eq!(ticket.leave(left), None);
    drop(first);
    let account = calls.inspect(|calls, account| (calls.count(), account.clone()));
    assert_eq!(account, (0, vec!["entered", "changed", "left"]));
}
