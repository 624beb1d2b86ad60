//! A loaded program, shared by the clones of its service.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Semaphore;

use super::Schema;
use crate::Host;

#[derive(Debug)]
pub(super) struct Program {
    pub(super) host: Host,
    pub(super) name: Box<str>,
    pub(super) target: u64,
    pub(super) schema: Schema,
    pub(super) max_in_flight: usize,
    pub(super) max_waiting: usize,
    /// It is sync: its calls take a thread each.
    pub(super) blocking: bool,
    pub(super) permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl Program {
    pub(super) fn new(
        host: Host,
        name: &str,
        target: u64,
        schema: Schema,
        blocking: bool,
        max_in_flight: usize,
        max_waiting: usize,
    ) -> Self {
        Self {
            host,
            name: name.into(),
            target,
            schema,
            blocking,
            max_in_flight,
            max_waiting,
            permits: Arc::new(Semaphore::new(max_in_flight)),
            waiting: Arc::default(),
        }
    }

    /// A place among those that wait for a permit; `None` if there is none left.
    pub(super) fn wait(&self) -> Option<Waiting> {
        let max = self.max_waiting;
        self.waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |waiting| {
                (waiting < max).then_some(waiting + 1)
            })
            .ok()
            .map(|_| Waiting(self.waiting.clone()))
    }
}

/// Held while waiting for a permit.
#[derive(Debug)]
pub(super) struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
