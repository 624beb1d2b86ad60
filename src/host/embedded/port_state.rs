//! The state that the port of a host shares with its calls, its exchanges and the dispatch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::event_listeners::EventListeners;
use crate::host::core::{
    counters::GaugeGuard, host_core::HostCore, loop_monitor::LoopMonitor, registry::Registration,
};

/// The state of one port.
pub(super) struct PortState {
    pub(super) core: HostCore,
    pub(super) monitor: Arc<LoopMonitor>,
    pub(super) listeners: EventListeners,
    /// Of the LMs that the program that is being loaded brought along; one is loaded at a time.
    adopted: Mutex<Vec<Registration>>,
    abandoned_threads: Mutex<Vec<GaugeGuard>>,
}

impl PortState {
    pub(super) fn new(core: HostCore, monitor: Arc<LoopMonitor>) -> Arc<Self> {
        Arc::new(Self {
            core,
            monitor,
            listeners: EventListeners::default(),
            adopted: Mutex::default(),
            abandoned_threads: Mutex::default(),
        })
    }

    pub(super) fn adopted(&self) -> MutexGuard<'_, Vec<Registration>> {
        self.adopted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn abandoned_threads(&self) -> MutexGuard<'_, Vec<GaugeGuard>> {
        let guards = self.abandoned_threads.lock();
        guards.unwrap_or_else(PoisonError::into_inner)
    }
}
