//! Cancellation: the cause is set before the token fires, the first cause wins, and all readers
//! agree. And the end of the work below a node: no end is missed, and no work begins after it.

use loom::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use crate::call::{Cancel, Cause};

#[test]
fn every_observer_of_a_cancellation_sees_its_cause() {
    loom::model(|| {
        let call = Cancel::new();
        let attempt = call.child();
        let cancels = call.clone();
        let canceller = thread::spawn(move || {
            assert!(cancels.cancel(Cause::ClientGone));
        });
        // Whenever it fires, on the node or below it, the cause is there.
        if attempt.is_cancelled() {
            assert_eq!(attempt.cause(), Some(Cause::ClientGone));
        }
        if call.is_cancelled() {
            assert_eq!(call.cause(), Some(Cause::ClientGone));
        }
        canceller.join().unwrap();
        assert_eq!(attempt.cause(), Some(Cause::ClientGone));
    });
}

#[test]
fn the_first_of_two_causes_wins_for_every_reader() {
    loom::model(|| {
        let call = Cancel::new();
        let attempt = call.child();
        let other = call.clone();
        let canceller = thread::spawn(move || other.cancel(Cause::Shutdown));
        let mine = call.cancel(Cause::Deadline);
        let seen = attempt.cause();
        let others = canceller.join().unwrap();
        assert!(mine ^ others);
        let winner = if mine {
            Cause::Deadline
        } else {
            Cause::Shutdown
        };
        assert_eq!(seen, Some(winner));
        assert_eq!((call.cause(), attempt.cause()), (seen, seen));
    });
}

/// A node of its own below one that is cancelled at the same time.
#[test]
fn a_cause_that_was_read_never_changes() {
    loom::model(|| {
        let call = Cancel::new();
        let attempt = call.child();
        let (above, below) = (call.clone(), attempt.clone());
        let shutdown = thread::spawn(move || above.cancel(Cause::Shutdown));
        let limit = thread::spawn(move || below.cancel(Cause::Elapsed));
        let first = attempt.cause();
        shutdown.join().unwrap();
        limit.join().unwrap();
        let last = attempt.cause();
        assert!(matches!(last, Some(Cause::Shutdown | Cause::Elapsed)));
        assert!(first.is_none() || first == last, "{first:?}, then {last:?}");
        assert_eq!(call.cause(), Some(Cause::Shutdown));
    });
}

/// If it missed the end of the last work it would wait for ever, which loom reports.
#[test]
fn waiting_for_the_end_of_work_misses_none() {
    loom::model(|| {
        let call = Cancel::new();
        let works = [call.child().begin_work(), call.begin_work()];
        let ending = thread::spawn(move || drop(works));
        loom::future::block_on(call.settled());
        ending.join().unwrap();
    });
}

/// Work begins at the node that `below` makes of another, which is cancelled at the same time.
fn no_work_begins_after_the_end(below: fn(&Cancel) -> Cancel) {
    loom::model(move || {
        let call = Cancel::new();
        let attempt = below(&call);
        let began = Arc::new(AtomicBool::new(false));
        let begins = began.clone();
        let service = thread::spawn(move || {
            let _work = attempt.begin_work();
            if !attempt.is_cancelled() {
                begins.store(true, Ordering::SeqCst);
            }
        });
        call.cancel(Cause::Caller);
        loom::future::block_on(call.settled());
        let began_by_then = began.load(Ordering::SeqCst);
        service.join().unwrap();
        assert_eq!(began_by_then, began.load(Ordering::SeqCst));
    });
}

#[test]
fn no_work_begins_once_a_cancelled_node_has_settled() {
    no_work_begins_after_the_end(Cancel::child);
}

#[test]
fn no_work_begins_once_a_cancelled_node_that_layers_pass_on_has_settled() {
    no_work_begins_after_the_end(|layer| Cancel::new().child_sharing(layer));
}

#[test]
fn a_node_that_layers_pass_on_waits_for_the_work_of_their_calls() {
    loom::model(|| {
        let layer = Cancel::new();
        let work = Cancel::new().child_sharing(&layer).begin_work();
        let ended = Arc::new(AtomicBool::new(false));
        let ends = ended.clone();
        let ending = thread::spawn(move || {
            ends.store(true, Ordering::SeqCst);
            drop(work);
        });
        loom::future::block_on(layer.settled());
        assert!(ended.load(Ordering::SeqCst));
        ending.join().unwrap();
    });
}
