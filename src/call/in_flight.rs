//! The registry of the calls in flight.
//!
//! Invariants:
//! 1. A call enters under the lock under which the registry closes: once [`close`](InFlight::close)
//!    has returned, the calls in the registry are all that there will ever be.
//! 2. A call leaves once: with its [`InFlightTicket`], which its future owns.
//! 3. The calls and the account change under one lock, so that they always agree.
//! 4. No foreign code runs under the lock: a call is dropped, and what [`list`](InFlight::list)
//!    returned is used, after the lock was released. The closures that methods take touch nothing
//!    but the calls and the account.
//! 5. No end is missed: a waiter is registered before it looks at the registry, and notified after
//!    the last call has left.

use std::{
    collections::{BTreeMap, btree_map::Values},
    sync::Arc,
};

use crate::sync::{Mutex, MutexGuard, Notify, PoisonError};

/// The calls in flight, each with its entry `T`, and an account of them all. Clones of an entry are
/// cheap and run no foreign code.
#[derive(Debug)]
pub(crate) struct InFlight<T, A = ()> {
    state: Mutex<InFlightState<T, A>>,
    empty: Notify,
}

#[derive(Debug)]
struct InFlightState<T, A> {
    closed: bool,
    entered: u64,
    calls: BTreeMap<u64, T>,
    account: A,
}

impl<T, A: Default> Default for InFlight<T, A> {
    fn default() -> Self {
        Self {
            state: Mutex::new(InFlightState {
                closed: false,
                entered: 0,
                calls: BTreeMap::new(),
                account: A::default(),
            }),
            empty: Notify::default(),
        }
    }
}

impl<T, A> InFlight<T, A> {
    /// Enters a call; `None` once the registry is closed.
    pub(crate) fn enter(self: &Arc<Self>, call: T) -> Option<InFlightTicket<T, A>> {
        self.enter_with(call, |_| ())
    }

    /// As [`enter`](Self::enter), and changes the account with it.
    pub(crate) fn enter_with(
        self: &Arc<Self>,
        call: T,
        change: impl FnOnce(&mut A),
    ) -> Option<InFlightTicket<T, A>> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let number = state.entered;
        state.entered += 1;
        state.calls.insert(number, call);
        change(&mut state.account);
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

    /// Reads the calls in flight, the first to enter first, and reads or changes the account.
    pub(crate) fn inspect<R>(&self, inspect: impl FnOnce(Values<'_, u64, T>, &mut A) -> R) -> R {
        let InFlightState { calls, account, .. } = &mut *self.lock();
        inspect(calls.values(), account)
    }

    /// Waits until no call is in flight. Once there was such a moment it has waited long enough,
    /// although new calls may have entered since.
    pub(crate) async fn wait_empty(&self) {
        let empty = self.empty.notified();
        if !self.is_empty() {
            empty.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, InFlightState<T, A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a call in the registry. Dropping it makes the call leave.
#[derive(Debug)]
#[must_use = "the call leaves when its ticket is dropped"]
pub(crate) struct InFlightTicket<T, A = ()> {
    in_flight: Arc<InFlight<T, A>>,
    number: u64,
}

impl<T, A> InFlightTicket<T, A> {
    /// Changes the call's entry and the account together.
    pub(crate) fn update(&self, update: impl FnOnce(&mut T, &mut A)) {
        let InFlightState { calls, account, .. } = &mut *self.in_flight.lock();
        if let Some(call) = calls.get_mut(&self.number) {
            update(call, account);
        }
    }

    /// Makes the call leave, and changes the account with it; `None` if it has left before.
    pub(crate) fn leave<R>(&mut self, change: impl FnOnce(&T, &mut A) -> R) -> Option<R> {
        let mut state = self.in_flight.lock();
        let call = state.calls.remove(&self.number)?;
        let changed = change(&call, &mut state.account);
        let is_empty = state.calls.is_empty();
        drop(state);
        drop(call);
        if is_empty {
            self.in_flight.empty.notify_waiters();
        }
        Some(changed)
    }
}

impl<T, A> Drop for InFlightTicket<T, A> {
    fn drop(&mut self) {
        self.leave(|_, _| ());
    }
}
