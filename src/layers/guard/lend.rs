//! One timer for all limits within each other.
//!
//! To arm a timer costs as much as all else that a stack does for a call that waits. So a limit has
//! one only if there is none around it. One that is polled by another leaves it to that one's timer
//! to wake the task, and reads the clock at its next polls.
//!
//! It has to be the same task: what a layer between polls with a waker of its own, and may poll
//! again only when that was woken, has a timer of its own. And the other limit has to own what it
//! polls: a future that was lent to it may go on without it, and be woken by nobody.
//!
//! Not the other way round: a limit that relied on the timer of an inner one would sleep for ever
//! once a foreign layer drops the inner future.

use std::{
    cell::Cell,
    ptr,
    task::{Context, RawWakerVTable, Waker},
};

use tokio::time::Instant;

/// What makes up a waker: only compared, and only while the waker is borrowed.
type Task = (*const (), Option<&'static RawWakerVTable>);

struct Lending {
    /// Whom the timer wakes.
    task: Cell<Task>,
    /// The earliest instant that it was asked to wake it at.
    at: Cell<Option<Instant>>,
}

thread_local! {
    static LENDING: Lending = const {
        Lending {
            task: Cell::new((ptr::null(), None)),
            at: Cell::new(None),
        }
    };
}

fn task(waker: &Waker) -> Task {
    (waker.data(), Some(waker.vtable()))
}

fn is_one((data, vtable): Task, (other_data, other_vtable): Task) -> bool {
    let (Some(vtable), Some(other_vtable)) = (vtable, other_vtable) else {
        return false;
    };
    data == other_data && ptr::eq(vtable, other_vtable)
}

/// For as long as what it returns is held, limits within may leave it to the caller to wake the
/// task. `None` if they do already, for a layer around the caller.
#[inline(always)]
pub(super) fn lend(cx: &Context<'_>) -> Option<Lent> {
    let mine = task(cx.waker());
    LENDING.with(|lending| {
        let outer = lending.task.get();
        if is_one(mine, outer) {
            return None;
        }
        lending.task.set(mine);
        Some(Lent {
            task: outer,
            at: lending.at.take(),
        })
    })
}

#[must_use = "the timer is lent no longer when this is dropped"]
pub(super) struct Lent {
    task: Task,
    at: Option<Instant>,
}

impl Lent {
    /// When the task has to be woken.
    pub(super) fn asked(self) -> Option<Instant> {
        LENDING.with(|lending| lending.at.get())
    }
}

impl Drop for Lent {
    #[inline(always)]
    fn drop(&mut self) {
        LENDING.with(|lending| {
            lending.task.set(self.task);
            lending.at.set(self.at);
        });
    }
}

/// Has the task woken at `at` by the limit around, if there is one that can.
pub(super) fn ask(at: Instant, cx: &Context<'_>) -> bool {
    LENDING.with(|lending| {
        let is_lent = is_one(task(cx.waker()), lending.task.get());
        if is_lent {
            let earlier = lending.at.get().filter(|earlier| *earlier <= at);
            lending.at.set(earlier.or(Some(at)));
        }
        is_lent
    })
}
