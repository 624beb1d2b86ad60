//! The registry of the calls in flight.
//!
//! Invariants:
//! 1. A call enters under the lock under which the registry closes: once [`close`](InFlight::close)
//!    has returned, the calls in the registry are all that there will ever be.
//! 2. A call leaves once: with its [`InFlightTicket`], which its future owns.
//! 3. No foreign code runs under the lock: a call is dropped, and what [`list`](InFlight::list)
//!    returned is used, after the lock was released.
//! 4. No end is missed: a waiter is registered before it looks at the registry, and notified after
//!    the last call has left.

use std::{collections::BTreeMap, sync::Arc};

use crate::sync::{Mutex, MutexGuard, Notify, PoisonError};

/// The calls in flight, each with its entry `T`. Clones of an entry are cheap and run no foreign
/// code.
#[derive(Debug)]
pub(crate) struct InFlight<T> {
    state: Mutex<InFlightState<T>>,
    empty: Notify,
}

#[derive(Debug)]
struct InFlightState<T> {
    closed: bool,
    entered: u64,
    calls: BTreeMap<u64, T>,
}

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(InFlightState {
                closed: false,
                entered: 0,
                calls: BTreeMap::new(),
            }),
            empty: Notify::default(),
        }
    }
}

impl<T> InFlight<T> {
    /// Enters a call; `None` once the registry is closed.
    pub(crate) fn enter(self: &Arc<Self>, call: T) -> Option<InFlightTicket<T>> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let number = state.entered;
        state.entered += 1;
        state.calls.insert(number, call);
        Some(InFlightTicket {
            in_flight: self.clone(),
            number,
        })
    }

    /// Accepts no more calls.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    /// How many calls have entered so far.
    pub(crate) fn entered(&self) -> u64 {
        self.lock().entered
    }

    /// How many calls are in flight.
    pub(crate) fn len(&self) -> usize {
        self.lock().calls.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries of the calls in flight, the first to enter first.
    pub(crate) fn list(&self) -> Vec<T>
    where
        T: Clone,
    {
        self.lock().calls.values().cloned().collect()
    }

    /// Waits until no call is in flight. Once there was such a moment it has waited long enough,
    /// although new calls may have entered since.
    pub(crate) async fn wait_empty(&self) {
        let empty = self.empty.notified();
        if !self.is_empty() {
            empty.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, InFlightState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a call in the registry. Dropping it makes the call leave.
#[derive(Debug)]
#[must_use = "the call leaves when its ticket is dropped"]
pub(crate) struct InFlightTicket<T> {
    in_flight: Arc<InFlight<T>>,
    number: u64,
}

impl<T> Drop for InFlightTicket<T> {
    fn drop(&mut self) {
        let mut state = self.in_flight.lock();
        let call = state.calls.remove(&self.number);
        let is_empty = state.calls.is_empty();
        drop(state);
        drop(call);
        if is_empty {
            self.in_flight.empty.notify_waiters();
        }
    }
}
