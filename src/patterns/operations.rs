//! What runs at this moment.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::call::CallId;

/// An operation that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    id: CallId,
    since: Instant,
}

impl Operation {
    /// Names it within this process; later operations have larger ones.
    #[must_use]
    pub const fn id(&self) -> CallId {
        self.id
    }

    /// How long ago it started.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}

/// The operations of one executor, each from its start until it is gone.
#[derive(Debug, Default)]
pub(super) struct Operations {
    state: Mutex<State>,
    idle: Notify,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    running: BTreeMap<CallId, Instant>,
    /// Those that were stopped after they had been asked to end by themselves.
    cut: Vec<CallId>,
}

impl Operations {
    /// Counts an operation in, unless no more are taken.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Entry> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let id = CallId::next();
        state.running.insert(id, Instant::now());
        Some(Entry {
            operations: self.clone(),
            id,
        })
    }

    /// All that run, oldest first.
    pub(super) fn running(&self) -> Vec<Operation> {
        Self::list(&self.lock())
    }

    /// Takes no more operations, and tells which are left.
    pub(super) fn close(&self) -> Vec<Operation> {
        let mut state = self.lock();
        state.closed = true;
        Self::list(&state)
    }

    /// Which of `operations` were cut short, and which still run.
    pub(super) fn sort(&self, operations: Vec<Operation>) -> (usize, Vec<Operation>) {
        let state = self.lock();
        let cut = |operation: &&Operation| state.cut.contains(&operation.id);
        let runs = |operation: &Operation| state.running.contains_key(&operation.id);
        let number = operations.iter().filter(cut).count();
        (number, operations.into_iter().filter(runs).collect())
    }

    /// Waits until nothing runs.
    pub(super) async fn idle(&self) {
        loop {
            // Made before the look at the list, so that no end is missed between the two.
            let ended = self.idle.notified();
            if self.lock().running.is_empty() {
                return;
            }
            ended.await;
        }
    }

    fn list(state: &State) -> Vec<Operation> {
        let running = state.running.iter();
        running
            .map(|(&id, &since)| Operation { id, since })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One operation in the list, until this is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    operations: Arc<Operations>,
    id: CallId,
}

impl Entry {
    pub(super) const fn id(&self) -> CallId {
        self.id
    }

    /// Notes that the operation did not end by itself.
    pub(super) fn cut(&self) {
        self.operations.lock().cut.push(self.id);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut state = self.operations.lock();
        state.running.remove(&self.id);
        let idle = state.running.is_empty();
        drop(state);
        if idle {
            self.operations.idle.notify_waiters();
        }
    }
}
