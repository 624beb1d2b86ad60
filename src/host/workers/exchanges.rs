//! The exchanges of workers with LMs, other servers and tools.
//!
//! An exchange has an `id`, the host's, and a `number`, the worker's.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use tokio::task::AbortHandle;

use super::{
    messages::ExchangeRequest,
    numbers::WorkerId,
    own_lms::OwnLms,
    wire::{EventHeader, ToWorker},
    worker::Worker,
};
use crate::host::core::{
    call_state::CallState,
    event::Event,
    exchange::{EventSink, NewExchange},
    host_core::HostCore,
    running_call::RunningCall,
    tool,
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

/// An event of an exchange, for the worker.
pub(super) struct WorkerDelivery {
    pub(super) worker: WorkerId,
    pub(super) number: u64,
    pub(super) event: EventHeader,
    pub(super) tail: Bytes,
}

impl Exchanges {
    /// Begins an exchange for a worker, unless its call is over. The worker is told if that fails.
    pub(super) fn open(
        &mut self,
        core: &HostCore,
        (worker, of): (WorkerId, &Worker),
        number: u64,
        running: Option<&RunningCall>,
        request: ExchangeRequest,
    ) {
        let lms = (worker, &of.own_lms);
        if let Err(message) = self.try_open(core, lms, number, running, request) {
            let event = EventHeader::Failed {
                kind: "other",
                message,
            };
            let exchange = number;
            of.link.send(&ToWorker::Event { exchange, event }, &[]);
        }
    }

    fn try_open(
        &mut self,
        core: &HostCore,
        (worker, own_lms): (WorkerId, &OwnLms),
        number: u64,
        running: Option<&RunningCall>,
        request: ExchangeRequest,
    ) -> Result<(), String> {
        let id = core.queue.next_id();
        let call = running.map(|running| running.state.clone());
        let exchange = NewExchange {
            call: call.clone(),
            id,
            number,
            sink: EventSink::Queue(core.queue.clone(), id),
        };
        let abort = match request {
            ExchangeRequest::Http(request) => {
                let find = |lm| match usize::try_from(lm) {
                    Ok(lm) => core.lms.get(lm),
                    Err(_) => own_lms.get(lm),
                };
                core.http.send(exchange, *request?, find)?
            }
            ExchangeRequest::Tool { tool, arguments } => {
                let tool = core.tools.get(tool);
                let tool = tool.ok_or("the host knows no such tool")?;
                tool::call(exchange, tool, arguments?)?
            }
        };
        // Without one, the call is over, and its worker is about to be told so.
        if let Some(abort) = abort {
            self.ids.insert((worker, number), id);
            let open = OpenExchange {
                worker,
                number,
                abort,
                call,
            };
            self.by_id.insert(id, open);
        }
        Ok(())
    }

    /// Ends an exchange that its worker does not need any more.
    pub(super) fn abort(&mut self, worker: WorkerId, number: u64) {
        let id = self.ids.remove(&(worker, number));
        if let Some((id, open)) = id.and_then(|id| Some((id, self.by_id.remove(&id)?))) {
            open.abort.abort();
            if let Some(call) = open.call {
                call.exchange_ended(id);
            }
        }
    }

    /// The delivery of an event to its worker. Nothing is delivered for a cancelled call.
    pub(super) fn deliver(&mut self, id: u64, event: Event) -> Option<WorkerDelivery> {
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
        let (event, tail) = EventHeader::of(event);
        Some(WorkerDelivery {
            worker,
            number,
            event,
            tail,
        })
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
