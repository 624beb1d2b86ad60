//! The events of processes, sent to the pool's thread.

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::host::workers::{
    numbers::WorkerId,
    wire::{FromWorker, FromZygote},
};

/// Events that wait for the pool's thread; past that, the processes wait.
pub(in crate::host::workers) const EVENTS: usize = 1024;

/// The sender of events to the pool's thread.
pub(in crate::host::workers) type EventSender = mpsc::Sender<PoolEvent>;

/// An event of a worker or of the zygote.
pub(in crate::host::workers) enum PoolEvent {
    Worker(WorkerId, ProcessEvent<FromWorker>),
    Zygote(ProcessEvent<FromZygote>),
}

/// An event of a process that sends messages `M`.
pub(in crate::host::workers) enum ProcessEvent<M> {
    Message(M, Bytes),
    /// The process closed its socket, or sent a malformed frame: what is wrong with it.
    Broken(Option<String>),
    /// The process has exited, and how. Its last event.
    Exited(String),
}
