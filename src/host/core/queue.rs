//! The queue from any thread to a host's loop, with one wake-up a burst.

use std::{
    collections::VecDeque,
    io, mem,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::sync::oneshot;

use super::{
    clock,
    event::Event,
    fault::Fault,
    queued_call::QueuedCall,
    registry::{Registration, Registrations},
    wake::WakeUp,
};

/// The outcome of a loading: Python's description of the program, and its registrations.
pub(crate) type LoadOutcome = Result<(Value, Registrations), Fault>;

/// A command to the loop that is not the start of a call.
pub(crate) enum Command {
    /// Of the call with this sequence number.
    Cancel(u64),
    Load {
        spec: Value,
        registrations: Registrations,
        reply: oneshot::Sender<LoadOutcome>,
    },
    /// Loads `spec` in place of `target`, in new worker processes.
    #[cfg(feature = "workers")]
    Replace {
        target: u64,
        spec: Value,
        registrations: Registrations,
        /// Called at the moment at which the new program takes over.
        taken_over: Box<dyn FnOnce(Registrations) + Send>,
        reply: oneshot::Sender<Result<(), Fault>>,
    },
    /// The last service of a program or function, and its last call, have gone.
    Unload(u64),
    Stop {
        grace: Duration,
    },
}

/// The queue of one host: calls to start, commands, and events of exchanges.
pub(crate) struct CommandQueue {
    entries: Mutex<QueueEntries>,
    wake: WakeUp,
    next_id: AtomicU64,
    /// Why no call is accepted; those in flight may still be cancelled. Set under the lock.
    refusal: OnceLock<String>,
}

#[derive(Default)]
struct QueueEntries {
    calls: VecDeque<QueuedCall>,
    commands: VecDeque<Command>,
    events: VecDeque<(u64, Event)>,
    /// The loop has ended, and nothing is read any more.
    closed: bool,
}

impl CommandQueue {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            entries: Mutex::default(),
            wake: WakeUp::new()?,
            next_id: AtomicU64::new(1),
            refusal: OnceLock::new(),
        })
    }

    /// An entry that `change` returns is dropped outside the lock: that may push a command.
    fn locked<T>(&self, change: impl FnOnce(&mut QueueEntries) -> T) -> T {
        change(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The sequence number of a call, or the number of an exchange.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn push_call(&self, call: QueuedCall) {
        let refused = self.locked(|entries| match self.refusal() {
            Some(_) => Some(call),
            None => {
                entries.calls.push_back(call);
                None
            }
        });
        match refused {
            Some(call) => drop(call.discard()),
            None => self.wake.notify(),
        }
    }

    pub(crate) fn push_command(&self, command: Command) {
        self.push(command, |entries| &mut entries.commands);
    }

    pub(crate) fn push_event(&self, exchange: u64, event: Event) {
        self.push((exchange, event), |entries| &mut entries.events);
    }

    fn push<T>(&self, entry: T, queue: fn(&mut QueueEntries) -> &mut VecDeque<T>) {
        let refused = self.locked(|entries| {
            if entries.closed {
                return Some(entry);
            }
            queue(entries).push_back(entry);
            None
        });
        if refused.is_none() {
            self.wake.notify();
        }
    }

    /// The wake-up of the loop, which acknowledges it before it reads the queue.
    pub(crate) const fn wake_up(&self) -> &WakeUp {
        &self.wake
    }

    pub(crate) fn pop_call(&self) -> Option<QueuedCall> {
        self.locked(|entries| entries.calls.pop_front())
    }

    pub(crate) fn pop_command(&self) -> Option<Command> {
        self.locked(|entries| entries.commands.pop_front())
    }

    pub(crate) fn pop_event(&self) -> Option<(u64, Event)> {
        self.locked(|entries| entries.events.pop_front())
    }

    /// Ends the queued calls that were cancelled. The others wait on, in their order.
    #[cfg(feature = "workers")]
    pub(crate) fn end_cancelled_calls(&self) {
        let cancelled: VecDeque<_> = self.locked(|entries| {
            let calls = mem::take(&mut entries.calls).into_iter();
            let (cancelled, waiting) = calls.partition(|call| call.state.is_cancelled());
            entries.calls = waiting;
            cancelled
        });
        cancelled.into_iter().for_each(QueuedCall::end_cancelled);
    }

    /// Whether calls or events are left for the loop's next turn.
    #[cfg(feature = "python")]
    pub(crate) fn has_more(&self) -> bool {
        self.locked(|entries| !entries.calls.is_empty() || !entries.events.is_empty())
    }

    /// The number of queued calls, and how long the oldest has waited.
    pub(crate) fn waiting(&self) -> (usize, Duration) {
        self.locked(|QueueEntries { calls, .. }| {
            let oldest = calls.front().map(|call| call.queued_at);
            let age = oldest.map(|queued_at| clock::now().saturating_sub(queued_at));
            (calls.len(), age.unwrap_or_default())
        })
    }

    /// Adds to the answer to a loading the registration of the program itself.
    pub(crate) fn register_program(
        self: &Arc<Self>,
        loaded: Value,
        registrations: Registrations,
    ) -> (Value, Registrations) {
        if let Some(id) = loaded.get("id").and_then(Value::as_u64) {
            let queue = self.clone();
            let unload = move || queue.push_command(Command::Unload(id));
            registrations.replace_program(Some(Registration::new(unload)));
        }
        (loaded, registrations)
    }

    /// Accepts no more calls and stops the loop; what has started has `grace` to end.
    pub(crate) fn stop(&self, grace: Duration) {
        self.refuse("it was stopped");
        self.push_command(Command::Stop { grace });
    }

    /// The loop has ended: the senders in the queue are dropped, so that their receivers fail.
    pub(crate) fn close(&self, reason: &str) {
        self.refuse(reason);
        self.locked(|entries| entries.closed = true);
        while self.pop_command().is_some() || self.pop_event().is_some() {}
    }

    fn refuse(&self, reason: &str) {
        let calls = self.locked(|entries| {
            self.refusal.get_or_init(|| reason.to_owned());
            mem::take(&mut entries.calls)
        });
        for call in calls {
            drop(call.discard());
        }
    }

    /// Why no calls are accepted; `None` while they are.
    pub(crate) fn refusal(&self) -> Option<&str> {
        self.refusal.get().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        call::{CallContext, WorkGuard},
        host::core::{
            call_state::{CallState, Outcome},
            counters::HostCounters,
        },
        request::Route,
    };

    fn queue() -> Arc<CommandQueue> {
        Arc::new(CommandQueue::new().expect("an eventfd"))
    }

    fn call(
        queue: &CommandQueue,
        counters: &Arc<HostCounters>,
    ) -> (QueuedCall, oneshot::Receiver<Outcome>) {
        let (outcome, receiver) = oneshot::channel();
        let (context, route) = (CallContext::new(), Route::default());
        let call = QueuedCall {
            sequence: queue.next_id(),
            target: 1,
            inputs: Arc::default(),
            remaining: None,
            queued_at: clock::now(),
            state: CallState::new(
                context,
                WorkGuard::default(),
                route,
                None,
                None,
                counters.clone(),
            ),
            outcome,
            permit: None,
        };
        (call, receiver)
    }

    fn running_and_settled(counters: &HostCounters) -> (u64, u64) {
        let counted = counters.lock();
        (counted.running, counted.settled)
    }

    #[test]
    fn the_registration_of_a_program_unloads_it() {
        let queue = queue();
        let loaded = queue.register_program(json!({"id": 7}), Registrations::default());
        assert!(queue.pop_command().is_none());
        drop(loaded);
        assert!(matches!(queue.pop_command(), Some(Command::Unload(7))));
    }

    #[tokio::test]
    async fn a_stopped_queue_loses_the_calls_that_wait_and_takes_commands() {
        let (queue, counters) = (queue(), HostCounters::new(0));
        let (waiting, lost) = call(&queue, &counters);
        queue.push_call(waiting);
        assert_eq!((queue.waiting().0, queue.refusal()), (1, None));
        queue.stop(Duration::ZERO);
        assert!(lost.await.is_err());
        let (late, lost) = call(&queue, &counters);
        queue.push_call(late);
        assert!(lost.await.is_err());
        assert_eq!(running_and_settled(&counters), (0, 2));
        assert_eq!(queue.refusal(), Some("it was stopped"));
        queue.push_command(Command::Cancel(1));
        assert!(matches!(queue.pop_command(), Some(Command::Stop { .. })));
        assert!(matches!(queue.pop_command(), Some(Command::Cancel(1))));
    }

    #[test]
    fn a_closed_queue_keeps_nothing_and_the_first_reason() {
        let queue = queue();
        queue.push_event(1, Event::End);
        queue.close("its thread ended");
        queue.close("later");
        queue.push_command(Command::Cancel(1));
        queue.push_event(1, Event::End);
        assert!(queue.pop_command().is_none() && queue.pop_event().is_none());
        assert_eq!(queue.refusal(), Some("its thread ended"));
    }

    #[tokio::test]
    async fn a_call_that_is_cancelled_while_it_waits_does_not_begin() {
        let (queue, counters) = (queue(), HostCounters::new(0));
        let (waiting, outcome) = call(&queue, &counters);
        waiting.state.cancel(None);
        queue.push_call(waiting);
        assert!(queue.pop_call().and_then(QueuedCall::begin).is_none());
        assert!(matches!(outcome.await, Ok(Err(_))));
        assert_eq!(running_and_settled(&counters), (0, 1));
    }
}
