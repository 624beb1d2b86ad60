//! Which of the layers around each other ends the work, when more than one is to.
//!
//! The work is polled before the clock, so of two limits at one instant the inner one would always
//! be first; but it is the outer one that should end the work:
//! - A limit that was merged with the one around it passes at the same instant. The outer layer
//!   knows what that limit is called: an attempt within a fallback's reserve has not run into the
//!   deadline, and an attempt within an attempt is still worth a retry.
//! - What the inner layer drops at once can make no use of the grace of the outer one, and each
//!   last attempt's limit is merged with the deadline.
//!
//! A layer therefore says, around the poll of its work, from when on it sees to the end itself, and
//! inner ones leave it that. It is a thread-local because the layers between may be foreign. It
//! lasts as long as the poll, in which the outer layer goes on to arm or poll an alarm of its own:
//! whoever leaves the end to it does not have to wake anybody.

use std::cell::Cell;

use tokio::time::Instant;

use crate::{call::Cancel, error::Stage};

/// The nodes of which a layer that cancels waits for one.
pub(crate) type Nodes = [Cancel; 2];

/// When an enclosing layer ends what is being polled, and how.
#[derive(Clone, Copy)]
pub(crate) struct End {
    pub(crate) at: Instant,
    /// With a grace, not at once.
    pub(crate) grace: bool,
    /// The grace has begun.
    pub(crate) begun: bool,
}

thread_local! {
    static END: Cell<Option<End>> = const { Cell::new(None) };
    /// What the nearest enclosing layer waits for that gives a grace once the call is cancelled. It
    /// cannot say when, but what is below a node further out is below this one too.
    static WATCHED: Cell<Option<Nodes>> = const { Cell::new(None) };
}

/// Runs `poll`, for a layer that sees to the `end` of what it polls unless an enclosing one does so
/// no later.
pub(crate) fn with<T>(end: Option<End>, poll: impl FnOnce() -> T) -> T {
    let _seeing = see_to(end);
    poll()
}

/// As [`with`], for as long as what it returns is held.
pub(crate) fn see_to(end: Option<End>) -> Option<SeeingTo> {
    let end = end?;
    let outer = END.get();
    if outer.is_some_and(|outer| outer.at <= end.at) {
        return None;
    }
    END.set(Some(end));
    Some(SeeingTo { outer })
}

#[must_use = "the end is forgotten when this is dropped"]
pub(crate) struct SeeingTo {
    outer: Option<End>,
}

impl Drop for SeeingTo {
    fn drop(&mut self) {
        END.set(self.outer);
    }
}

/// Runs `poll`, for a layer that gives what it polls a grace once one of the `nodes` is cancelled.
pub(crate) fn watched<T>(nodes: Option<Nodes>, poll: impl FnOnce() -> T) -> T {
    struct Restore(Option<Nodes>);
    impl Drop for Restore {
        fn drop(&mut self) {
            replace(self.0.take());
        }
    }
    let _restore = nodes.map(|nodes| Restore(replace(Some(nodes))));
    poll()
}

fn replace(nodes: Option<Nodes>) -> Option<Nodes> {
    // None any more at the end of a thread: then no layer gives way to another.
    WATCHED
        .try_with(|watched| watched.replace(nodes))
        .ok()
        .flatten()
}

/// Whether an enclosing layer sees to the end of a call that was cancelled in `stage`.
///
/// The work is polled first, so it may see the cancellation before the layer does. One that the
/// layer does not see, of a token that only an inner layer knows, is for the inner one to end.
pub(super) fn sees_to_cancel(stage: Stage) -> bool {
    stage == Stage::Running && is_watched_and_cancelled() || sees_to(Instant::now(), stage, false)
}

fn is_watched_and_cancelled() -> bool {
    let nodes = replace(None);
    let cancelled = nodes
        .as_ref()
        .is_some_and(|nodes| nodes.iter().any(Cancel::is_cancelled));
    replace(nodes);
    cancelled
}

/// Whether an enclosing layer sees to what is to end at `at` in `stage`; `merged` if that is the
/// enclosing limit itself.
pub(crate) fn sees_to(at: Instant, stage: Stage, merged: bool) -> bool {
    END.get().is_some_and(|end| {
        // What waits has no use for a grace, and must not start in it.
        end.at <= at && (merged && !end.begun || end.grace && stage == Stage::Running)
    })
}
