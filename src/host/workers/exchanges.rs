//! The exchanges of workers with LMs, other servers and tools.
//!
//! An exchange has an `id`, the host's, and a `number`, the worker's.

use std::{collections::HashMap, sync::Arc};

use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::{
    numbers::WorkerId, process::ProcessLink, supervisor::Supervisor, wire::ToWorker, worker::Worker,
};
use crate::host::core::{
    call_state::CallState,
    event::Event,
    exchange::{EventSink, NewExchange},
    flow::ExchangeFlow,
};

/// The exchanges that are under way.
#[derive(Default)]
pub(super) struct Exchanges {
    open: HashMap<u64, OpenExchange>,
    /// By the worker and its number.
    ids: HashMap<(WorkerId, u64), u64>,
}

struct OpenExchange {
    worker: WorkerId,
    number: u64,
    abort: AbortHandle,
    call: Option<Arc<CallState>>,
    flow: Arc<ExchangeFlow>,
    stop: CancellationToken,
}

/// Sends a worker what is left of a call's budgets, when it is dropped.
struct BudgetReport {
    link: ProcessLink,
    number: u64,
    call: Arc<CallState>,
}

impl Drop for BudgetReport {
    fn drop(&mut self) {
        if let Some(budget) = self.call.remaining_budget() {
            let call = self.number;
            self.link.send(&ToWorker::Budget { call, budget }, &[]);
        }
    }
}

impl Exchanges {
    /// Begins an exchange for a worker, unless its call is over. If that fails, the worker gets the
    /// failure as an event.
    pub(super) fn open(
        &mut self,
        supervisor: &Supervisor,
        (of, number): (WorkerId, u64),
        call: Option<u64>,
        begin: impl FnOnce(&Worker, NewExchange) -> Result<Option<AbortHandle>, String>,
    ) {
        let running = call.map(|call| supervisor.scheduler.get(of, call));
        let (Some(worker), None | Some(Some(_))) = (supervisor.workers.get(&of), running) else {
            return;
        };
        let state = running.flatten().map(|running| running.state.clone());
        let report = call.zip(state.clone()).map(|(number, call)| {
            let link = worker.link.clone();
            Box::new(BudgetReport { link, number, call }) as Box<dyn Send>
        });
        let queue = &supervisor.core.queue;
        let id = queue.next_id();
        let flow = Arc::<ExchangeFlow>::default();
        let stop = CancellationToken::new();
        let exchange = NewExchange {
            call: state.clone(),
            number,
            sink: EventSink::Queue(queue.clone(), id),
            flow: flow.clone(),
            stop: stop.clone(),
            on_end: report,
        };
        match begin(worker, exchange) {
            Ok(Some(abort)) => {
                let open = OpenExchange {
                    worker: of,
                    number,
                    abort,
                    call: state,
                    flow,
                    stop,
                };
                self.open.insert(id, open);
                self.ids.insert((of, number), id);
            }
            // The call is over, and its worker is about to be told so.
            Ok(None) => {}
            Err(message) => {
                let (failed, _) = ToWorker::event(number, Event::Failed("other", message));
                worker.link.send(&failed, &[]);
            }
        }
    }

    /// A worker has read these bytes of an answer's chunks.
    pub(super) fn read(&self, worker: WorkerId, number: u64, bytes: usize) {
        let id = self.ids.get(&(worker, number));
        if let Some(open) = id.and_then(|id| self.open.get(id)) {
            open.flow.read(bytes);
        }
    }

    /// Ends an exchange whose last event its worker waits for.
    pub(super) fn stop(&self, worker: WorkerId, number: u64) {
        let id = self.ids.get(&(worker, number));
        if let Some(open) = id.and_then(|id| self.open.get(id)) {
            open.stop.cancel();
        }
    }

    /// Ends an exchange that its worker does not need any more.
    pub(super) fn abort(&mut self, worker: WorkerId, number: u64) {
        let id = self.ids.remove(&(worker, number));
        if let Some(open) = id.and_then(|id| self.open.remove(&id)) {
            open.abort.abort();
        }
    }

    /// Ends all exchanges of a worker that has exited.
    pub(super) fn exited(&mut self, worker: WorkerId) {
        self.ids.retain(|(of, _), _| *of != worker);
        for (_, open) in self.open.extract_if(|_, open| open.worker == worker) {
            open.abort.abort();
        }
    }

    /// Sends an event to the worker of its exchange, unless the call was cancelled since.
    pub(super) fn deliver(&mut self, supervisor: &Supervisor, id: u64, event: Event) {
        let Some(open) = self.open.get(&id) else {
            return;
        };
        let is_cancelled = open.call.as_ref().is_some_and(|call| call.is_cancelled());
        let worker = supervisor.workers.get(&open.worker);
        let (of, number, is_last) = (open.worker, open.number, event.is_last());
        if let Some(worker) = worker.filter(|_| !is_cancelled) {
            let (message, tail) = ToWorker::event(number, event);
            worker.link.send(&message, &tail);
        }
        if is_last {
            self.open.remove(&id);
            self.ids.remove(&(of, number));
        }
    }
}
