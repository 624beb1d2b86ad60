//! Cancellation: the cause is set before the token fires, the first cause wins, and all readers
//! agree.

use loom::thread;

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
