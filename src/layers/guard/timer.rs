//! The timers of the calls that have to wait.
//!
//! A timer is twice as large as all else that a layer keeps for a call, and the future of a call is
//! moved once for each layer around it before it is polled. So a timer lies outside of the future,
//! from when it is armed. Its room is used again: each thread keeps what the calls that ended on it
//! have left, up to a bound, and a call that waits allocates only if there is none.

use std::{
    cell::RefCell,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::clock::poll_sleep;

/// As many as a thread may keep: 32 KiB.
const KEPT: usize = 256;

type Room = Pin<Box<Option<Sleep>>>;

thread_local! {
    static ROOMS: RefCell<Vec<Room>> = const { RefCell::new(Vec::new()) };
}

/// A timer that may be armed; dropping it disarms it.
pub(super) struct Timer(Option<Room>);

impl Timer {
    pub(super) const UNARMED: Self = Self(None);

    pub(super) const fn is_armed(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn armed(at: Instant) -> Self {
        let kept = ROOMS.try_with(|rooms| rooms.try_borrow_mut().ok()?.pop());
        // No room at all at the end of a thread: then this is the usual allocation.
        let mut room = kept.ok().flatten().unwrap_or_else(|| Box::pin(None));
        room.set(Some(sleep_until(at)));
        Self(Some(room))
    }

    /// Ready once `at` has come: the instant that it was armed for, if it was.
    pub(super) fn poll_until(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_armed() {
            *self = Self::armed(at);
        }
        self.poll(cx)
    }

    /// Ready once the instant has come that it was armed for.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sleep()
            .map_or(Poll::Pending, |sleep| poll_sleep(sleep, cx))
    }

    fn sleep(&mut self) -> Option<Pin<&mut Sleep>> {
        self.0.as_mut()?.as_mut().as_pin_mut()
    }
}

impl Drop for Timer {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(room) = self.0.take() {
            give_back(room);
        }
    }
}

/// Disarms the timer, and keeps its room.
#[inline(never)]
fn give_back(mut room: Room) {
    // First, and outside of the borrow: it wakes up nobody, but locks the driver.
    room.set(None);
    let _ = ROOMS.try_with(|rooms| {
        if let Ok(mut rooms) = rooms.try_borrow_mut()
            && rooms.len() < KEPT
        {
            rooms.push(room);
        }
    });
}
