//! The way from any thread to Python's: lock-free queues and one wake-up a burst.
//!
//! Whoever pushes writes to the eventfd only if no wake-up is pending; the loop clears that flag
//! before it drains, so a push after the clearing wakes it again.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crossbeam_queue::SegQueue;
use rustix::event::{EventfdFlags, eventfd};
use serde_json::Value;
use tokio::sync::oneshot;
use tracing::Span;

use super::{
    call::{CallState, Outcome},
    clock,
    counters::{Counters, LmCounters},
    exchange::Event,
    fault::Fault,
    http::Unnamed,
    registry::{Leases, Registry},
    tool::Offered,
    watchdog::Watch,
};
use crate::{call::CallContext, lm::LmHandle, request::Route};

/// What travels with a call until all that it made has ended, such as a permit.
pub(crate) type Held = Option<Box<dyn Send>>;

/// A call that waits for its start.
pub(crate) struct Start {
    pub(crate) context: CallContext,
    pub(crate) route: Route,
    /// Of the service's call, for the spans of its LM calls.
    pub(crate) span: Span,
    pub(crate) sequence: u64,
    pub(crate) target: u64,
    pub(crate) inputs: Arc<Value>,
    pub(crate) remaining: Option<Duration>,
    pub(crate) queued_at: Duration,
    pub(crate) state: Arc<CallState>,
    pub(crate) outcome: oneshot::Sender<Outcome>,
    pub(crate) held: Held,
}

impl Start {
    /// Counts the start; `None` if the call was cancelled while it waited, and ends here.
    pub(crate) fn begin(self, counters: &Counters) -> Option<Self> {
        if !self.state.is_cancelled() {
            counters.started.add(1);
            return Some(self);
        }
        counters.never_started.add(1);
        drop(self.held);
        self.state.settle(counters);
        // Fails if nobody waits any more, and then nothing is owed.
        let _ = self.outcome.send(Err(Fault::cancelled_before_start()));
        None
    }

    /// What is left until the call's deadline, if it has one.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        let waited = now().saturating_sub(self.queued_at);
        self.remaining
            .map(|remaining| remaining.saturating_sub(waited))
    }
}

/// What came of a loading.
pub(crate) type Loaded = Result<(Value, Leases), Fault>;

/// All else that the loop is asked to do.
pub(crate) enum Control {
    Cancel(u64),
    Load {
        spec: Value,
        leases: Leases,
        reply: oneshot::Sender<Loaded>,
    },
    /// Loads it in place of `target`, in new worker processes.
    #[cfg(feature = "workers")]
    Replace {
        target: u64,
        spec: Value,
        leases: Leases,
        /// Told in the moment in which the new one takes over.
        taken_over: Box<dyn FnOnce(Leases) + Send>,
        reply: oneshot::Sender<Result<(), Fault>>,
    },
    /// Nobody calls a program or a function any more.
    Unload(u64),
    Stop {
        grace: Duration,
    },
}

/// The queues.
pub(crate) struct Inbox {
    starts: SegQueue<Start>,
    controls: SegQueue<Control>,
    deliveries: SegQueue<(u64, Event)>,
    wake: OwnedFd,
    wake_pending: AtomicBool,
    /// No call is taken any more; those in flight may still be cancelled.
    refusing: AtomicBool,
    /// The loop is gone: nobody reads the queues.
    gone: AtomicBool,
    reason: OnceLock<String>,
    sequence: AtomicU64,
    max_abandoned: usize,
    pub(crate) lms: Registry<LmHandle>,
    pub(crate) tools: Registry<Offered>,
    pub(crate) unnamed: Unnamed,
    // Of its own, because the account of a call adds to it and may outlive the call.
    pub(crate) lm_counters: Arc<LmCounters>,
    pub(crate) counters: Counters,
    pub(crate) watch: Watch,
}

impl Inbox {
    pub(crate) fn new(max_abandoned: usize) -> std::io::Result<Self> {
        Ok(Self {
            max_abandoned,
            starts: SegQueue::new(),
            controls: SegQueue::new(),
            deliveries: SegQueue::new(),
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            wake_pending: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            reason: OnceLock::new(),
            sequence: AtomicU64::new(1),
            lms: Registry::default(),
            tools: Registry::default(),
            unnamed: Unnamed::default(),
            lm_counters: Arc::default(),
            counters: Counters::default(),
            watch: Watch::default(),
        })
    }

    /// How many threads are abandoned, if no more may be.
    pub(crate) fn exhausted(&self) -> Option<u64> {
        let abandoned = self.counters.abandoned.get();
        (abandoned > 0 && abandoned >= self.max_abandoned as u64).then_some(abandoned)
    }

    /// A thread was given up, and maybe replaced.
    pub(crate) fn gave_up(&self, replaced: bool) {
        let counters = &self.counters;
        counters.abandoned.up();
        counters.replaced.add(replaced.into());
        tracing::warn!(
            target: "tower_dspy",
            abandoned = counters.abandoned.get(),
            replaced,
            "a thread did not stop within its grace and was given up; its call stays in flight"
        );
    }

    /// A number for a start: attempts of one call share its id, and each is started for itself.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn push_start(&self, start: Start) {
        if self.starts.is_empty() {
            self.counters.queue_head.set(start.queued_at);
        }
        self.starts.push(start);
        if self.refusing.load(Ordering::SeqCst) {
            // The loop may have drained for the last time before this push.
            self.discard_starts();
        } else {
            self.wake();
        }
    }

    pub(crate) fn push(&self, control: Control) {
        self.controls.push(control);
        if self.gone.load(Ordering::SeqCst) {
            self.discard_controls();
        } else {
            self.wake();
        }
    }

    /// Sends an event of an exchange to whatever reads these queues.
    pub(crate) fn deliver(&self, exchange: u64, event: Event) {
        self.deliveries.push((exchange, event));
        if self.gone.load(Ordering::SeqCst) {
            while self.deliveries.pop().is_some() {}
        } else {
            self.wake();
        }
    }

    fn wake(&self) {
        if !self.wake_pending.swap(true, Ordering::SeqCst) {
            // Fails only if the counter is full, and then the loop is about to wake anyway.
            let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        }
    }

    /// The loop has woken: pushes from now on wake it again.
    pub(crate) fn awake(&self) {
        let mut count = [0; 8];
        // Fails only if there was no wake-up, as in a turn that goes on with an earlier burst.
        let _ = rustix::io::read(&self.wake, &mut count);
        self.wake_pending.store(false, Ordering::SeqCst);
    }

    pub(crate) fn next_start(&self) -> Option<Start> {
        let start = self.starts.pop()?;
        self.counters.queue_head.set(start.queued_at);
        Some(start)
    }

    pub(crate) fn next_control(&self) -> Option<Control> {
        self.controls.pop()
    }

    pub(crate) fn next_delivery(&self) -> Option<(u64, Event)> {
        self.deliveries.pop()
    }

    /// Whether something is left for the loop's next turn.
    #[cfg(feature = "python")]
    pub(crate) fn has_more(&self) -> bool {
        !self.starts.is_empty() || !self.deliveries.is_empty()
    }

    pub(crate) fn queued(&self) -> usize {
        self.starts.len()
    }

    /// How long the oldest queued call has waited; an upper bound within one burst.
    pub(crate) fn queue_age(&self) -> Duration {
        if self.starts.is_empty() {
            Duration::ZERO
        } else {
            self.counters.queue_head.age()
        }
    }

    /// Takes no calls any more and asks the loop to stop; what has started has `grace` to end.
    pub(crate) fn stop(&self, grace: Duration) {
        self.refuse("it was stopped");
        self.push(Control::Stop { grace });
    }

    /// The loop has ended: what waits is lost.
    pub(crate) fn close(&self, reason: &str) {
        self.refuse(reason);
        self.gone.store(true, Ordering::SeqCst);
        self.discard_controls();
    }

    fn refuse(&self, reason: &str) {
        self.reason.get_or_init(|| reason.to_owned());
        self.refusing.store(true, Ordering::SeqCst);
        self.discard_starts();
    }

    /// Why no calls are taken any more; `None` while they are.
    pub(crate) fn closed(&self) -> Option<&str> {
        if !self.refusing.load(Ordering::SeqCst) {
            return None;
        }
        self.reason.get().map(String::as_str)
    }

    /// Dropping a command fails whoever waits for it.
    fn discard_starts(&self) {
        while let Some(start) = self.starts.pop() {
            self.counters.never_started.add(1);
            drop(start.held);
            start.state.settle(&self.counters);
        }
    }

    fn discard_controls(&self) {
        while self.controls.pop().is_some() {}
        while self.deliveries.pop().is_some() {}
    }

    /// What turns readable when the inbox has something, for a runtime to watch.
    #[cfg(feature = "workers")]
    pub(crate) fn wake_handle(&self) -> std::io::Result<OwnedFd> {
        self.wake.try_clone()
    }

    #[cfg(feature = "python")]
    pub(crate) fn wake_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.wake)
    }
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox")
            .field("queued", &self.queued())
            .field("closed", &self.closed())
            .finish_non_exhaustive()
    }
}

/// The moment of a push, for [`Start::queued_at`].
pub(crate) fn now() -> Duration {
    clock::now()
}
