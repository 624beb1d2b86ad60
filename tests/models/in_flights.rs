//! The registry of calls in flight: no call enters after the close, and no departure is missed.

use std::sync::Arc;

use loom::thread;

use crate::in_flight::InFlight;

fn registry() -> Arc<InFlight<u32>> {
    Arc::default()
}

#[test]
fn a_call_is_either_refused_or_seen_by_the_close() {
    loom::model(|| {
        let calls = registry();
        let callers = calls.clone();
        let caller = thread::spawn(move || callers.enter(1));
        calls.close();
        let known = calls.list();
        let ticket = caller.join().unwrap();
        assert_eq!(known.len(), usize::from(ticket.is_some()));
        assert_eq!(calls.entered(), known.len() as u64);
        assert!(calls.enter(2).is_none());
    });
}

/// If it missed the end of the last call it would wait for ever, which loom reports.
#[test]
fn waiting_for_an_empty_registry_misses_no_departure() {
    loom::model(|| {
        let calls = registry();
        let tickets = [calls.enter(1), calls.enter(2)];
        let leaving = thread::spawn(move || drop(tickets));
        loom::future::block_on(calls.wait_empty());
        assert!(calls.is_empty());
        leaving.join().unwrap();
    });
}

#[test]
fn each_call_leaves_the_registry_once_while_others_enter() {
    loom::model(|| {
        let calls = registry();
        let others = calls.clone();
        let first = calls.enter(1);
        let other = thread::spawn(move || others.enter(2));
        drop(first);
        let ticket = other.join().unwrap();
        assert_eq!((calls.list(), calls.entered()), (vec![2], 2));
        drop(ticket);
        assert!(calls.is_empty());
    });
}
