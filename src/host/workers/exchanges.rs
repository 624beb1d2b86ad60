//! The exchanges of workers with LMs, other servers and tools.
//!
//! An exchange has an `id`, the host's, and a `number`, the worker's.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use tokio::task::AbortHandle;

use super::{numbers::WorkerId, process::ProcessLink, wire::ToWorker};
use crate::host::core::{
    call_state::CallState,
    event::Event,
    exchange::{EventSink, NewExchange},
    queue::CommandQueue,
};

/// The exchanges that are under way.
#[derive(Default)]
pub(super) struct Exchanges {
    by_id: HashMap<u64, OpenExchange>,
    /// The ids, by worker and number.
    ids: HashMap<(WorkerId, u64), u64>,
}

struct OpenExchange {
    worker: WorkerId,
    number: u64,
    abort: AbortHandle,
    call: Option<Arc<CallState>>,
}

impl Exchanges {
    /// Begins an exchange for a worker, unless its call is over. The worker is told if that fails.
    pub(super) fn open(
        &mut self,
        queue: &Arc<CommandQueue>,
        (worker, link): (WorkerId, &ProcessLink),
        number: u64,
        call: Option<Arc<CallState>>,
        begin: impl FnOnce(NewExchange) -> Result<Option<AbortHandle>, String>,
    ) {
        let id = queue.next_id();
        let exchange = NewExchange {
            call: call.clone(),
            number,
            sink: EventSink::Queue(queue.clone(), id),
        };
        match begin(exchange) {
            Ok(Some(abort)) => {
                self.ids.insert((worker, number), id);
                let open = OpenExchange {
                    worker,
                    number,
                    abort,
                    call,
                };
                self.by_id.insert(id, open);
            }
            // The call is over, and its worker is about to be told so.
            Ok(None) => {}
            Err(message) => {
                let (failed, _) = ToWorker::event(number, Event::Failed("other", message));
                link.send(&failed, &[]);
            }
        }
    }

    /// Ends an exchange that its worker does not need any more.
    pub(super) fn abort(&mut self, worker: WorkerId, number: u64) {
        let id = self.ids.remove(&(worker, number));
        if let Some(open) = id.and_then(|id| self.by_id.remove(&id)) {
            open.abort.abort();
        }
    }

    /// The worker that an event goes to, and the message. Nothing is delivered for a cancelled call.
    pub(super) fn deliver(
        &mut self,
        id: u64,
        event: Event,
    ) -> Option<(WorkerId, ToWorker<'static>, Bytes)> {
        let open = self.by_id.get(&id)?;
        let (worker, number) = (open.worker, open.number);
        let is_cancelled = open.call.as_ref().is_some_and(|call| call.is_cancelled());
        if event.is_last() {
            self.by_id.remove(&id);
            self.ids.remove(&(worker, number));
        }
        if is_cancelled {
            return None;
        }
        let (message, tail) = ToWorker::event(number, event);
        Some((worker, message, tail))
    }

    /// Ends all exchanges of a worker that has exited.
    pub(super) fn exited(&mut self, worker: WorkerId) {
        self.ids.retain(|(of, _), _| *of != worker);
        let of_worker = |_: &u64, open: &mut OpenExchange| open.worker == worker;
        for (_, open) in self.by_id.extract_if(of_worker) {
            open.abort.abort();
        }
    }
}
