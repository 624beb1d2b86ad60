//! What the pool does when a worker says something.

use std::{mem, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::Value;

use super::{
    pool::Pool,
    wire::{self, EventHeader, FromWorker, ToWorker},
    worker::Exchange,
};
use crate::{
    call::CallId,
    host::core::{
        call_state::ExchangeAbort,
        exchange::{Caller, EventSink, NewExchange},
        fault::Fault,
        http::{self, ProgramRequest},
        lm_candidates, log,
        loop_monitor::BlockReport,
        tool,
    },
};

impl Pool {
    pub(super) fn said(&mut self, id: u64, said: FromWorker, tail: &Bytes) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        // What its loop says of no call says nothing of whether calls go on.
        let of_none = matches!(
            said,
            FromWorker::Beat
                | FromWorker::Pulse
                | FromWorker::Blocked { .. }
                | FromWorker::Log { .. }
        );
        if !of_none {
            worker.monitor.progress();
        }
        match said {
            FromWorker::Ready { weaker } => {
                for weaker in weaker {
                    tracing::warn!(target: "tower_dspy", "{weaker}");
                }
                worker.up = true;
                worker.beat();
                self.load_in_new();
            }
            FromWorker::Unusable { fault } if worker.generation > self.generation => {
                self.replacement_failed(Fault::read(&fault));
            }
            FromWorker::Unusable { fault } => self.unusable(Fault::read(&fault)),
            FromWorker::Beat => {
                worker.beat();
            }
            FromWorker::Pulse => worker.monitor.pulse(),
            FromWorker::Blocked {
                frames,
                program,
                call,
            } => {
                let call = call.and_then(|call| worker.calls.get(&call));
                let call_id = call.and_then(|call| call.running.context.call_id);
                let report = BlockReport {
                    frames,
                    program,
                    call_id: call_id.map(CallId::get),
                    gil_held: false,
                };
                worker.monitor.report(&report);
            }
            FromWorker::GaveUp { replaced } => {
                let threads = &self.core.counters.abandoned_threads;
                worker.abandoned.push(threads.abandon(replaced));
            }
            FromWorker::CameBack => {
                worker.abandoned.pop();
            }
            FromWorker::Log {
                level,
                logger,
                message,
            } => log::forward(level, &logger, &message),
            FromWorker::Loaded { load, target } => {
                let adopted = mem::take(&mut worker.adopting);
                if self.loads.has(load) {
                    worker.targets.insert(load, target);
                    worker.adopted.insert(load, adopted);
                } else {
                    // Unloaded meanwhile, or another worker could not load it.
                    worker.lms.retain(|lm, _| !adopted.contains(lm));
                    worker.process.say(&ToWorker::Unload { target }, &[]);
                }
                self.loaded(id, load, wire::value(tail));
            }
            FromWorker::NotLoaded { load, fault } => {
                for lm in mem::take(&mut worker.adopting) {
                    worker.lms.remove(&lm);
                }
                self.loaded(id, load, Err(Fault::read(&fault)));
            }
            FromWorker::AdoptLm {
                lm,
                model,
                base_url,
                key,
            } => {
                let adopted = lm_candidates::adopt(model, base_url, key.map(|key| key.0));
                let adopted = adopted.map(|(handle, keyed)| {
                    worker.lms.insert(lm, Arc::new(handle));
                    keyed
                });
                worker.adopting.push(lm);
                let (keyed, error) = match adopted {
                    Ok(keyed) => (keyed, None),
                    Err(error) => (false, Some(error)),
                };
                let told = ToWorker::Adopted { lm, keyed, error };
                worker.process.say(&told, &[]);
            }
            FromWorker::Open {
                exchange,
                route,
                timeout,
                call,
                method,
                url,
                headers,
            } => {
                let request = http::request(&method, &url, headers, tail.clone());
                // Those that its programs brought along have numbers of the worker's, below zero.
                let brought = worker.lms.clone();
                let (lms, http) = (self.core.lms.clone(), self.core.http.clone());
                let find = |lm| match usize::try_from(lm) {
                    Ok(lm) => lms.get(lm),
                    Err(_) => brought.get(&lm).cloned(),
                };
                let timeout = timeout.and_then(|limit| Duration::try_from_secs_f64(limit).ok());
                self.begin(id, exchange, call, |exchange, caller| {
                    let request = ProgramRequest {
                        lms: route,
                        timeout,
                        request: request?,
                    };
                    http.send(exchange, request, find, caller)
                });
            }
            FromWorker::CallTool {
                exchange,
                tool,
                call,
            } => {
                let tool = self.core.tools.get(tool);
                let arguments = wire::value(tail).map_err(|fault| fault.message);
                self.begin(id, exchange, call, |exchange, caller| {
                    let tool = tool.ok_or("the host knows no such tool")?;
                    let Value::Object(arguments) = arguments? else {
                        return Err("the arguments of a tool are no object".to_owned());
                    };
                    tool::call(exchange, tool, arguments, caller)
                });
            }
            FromWorker::Abort { exchange } => {
                if let Some(open) = worker.exchanges.remove(&exchange) {
                    self.exchanges.remove(&open.id);
                    open.abort.abort();
                    if let Some(call) = open.call {
                        call.exchange_ended(open.id);
                    }
                }
            }
            FromWorker::Done { call } => {
                if let Some(in_flight) = worker.calls.get(&call) {
                    in_flight.running.resolve(wire::value(tail));
                    self.resolved(id, call);
                }
            }
            FromWorker::Failed { call, fault } => {
                if let Some(in_flight) = worker.calls.get(&call) {
                    in_flight.running.resolve(Err(Fault::read(&fault)));
                    self.resolved(id, call);
                }
            }
            FromWorker::Finished { call } => {
                if let Some(in_flight) = worker.calls.remove(&call) {
                    self.calls.remove(&call);
                    in_flight.running.finish(wire::value(tail));
                }
            }
            FromWorker::Settled { call, strays } => {
                if let Some(in_flight) = worker.calls.get_mut(&call) {
                    in_flight.running.settle(strays.as_deref());
                    in_flight.settled = true;
                    if in_flight.resolved {
                        self.forget(id, call);
                    }
                }
            }
            FromWorker::Abandoned { call } => {
                if let Some(in_flight) = worker.calls.get(&call) {
                    in_flight.running.abandon();
                }
            }
            FromWorker::Cancelled { call } => {
                if let Some(in_flight) = worker.calls.get(&call) {
                    in_flight.running.state.cancel();
                    worker.owes_end_of(call);
                }
            }
            FromWorker::Partial { call } => {
                if let (Some(in_flight), Ok(fields)) = (worker.calls.get(&call), wire::value(tail))
                {
                    in_flight.running.keep_partial(fields);
                }
            }
            FromWorker::Stepped {
                call,
                exchange,
                counts,
            } => {
                if let Some(in_flight) = worker.calls.get(&call) {
                    in_flight.running.record_answer(exchange, counts);
                }
            }
            FromWorker::Bypassed { call, lm } => {
                if let Some(in_flight) = worker.calls.get(&call) {
                    in_flight.running.record_bypass(&lm);
                }
            }
        }
    }

    /// The outcome of a call is out.
    fn resolved(&mut self, id: u64, call: u64) {
        let worker = self.workers.get_mut(&id);
        let in_flight = worker.and_then(|worker| worker.calls.get_mut(&call));
        if let Some(in_flight) = in_flight {
            in_flight.resolved = true;
            if in_flight.settled {
                self.forget(id, call);
            } else if let Some(worker) = self.workers.get_mut(&id) {
                // What goes on was left behind, and told to stop.
                worker.owes_end_of(call);
            }
        }
    }

    /// A call with its outcome and its end is no affair of a worker's any more.
    fn forget(&mut self, id: u64, call: u64) {
        self.calls.remove(&call);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.calls.remove(&call);
        }
    }

    /// Begins an exchange for a worker.
    fn begin(
        &mut self,
        id: u64,
        exchange: u64,
        call: Option<u64>,
        begin: impl FnOnce(NewExchange, Caller) -> Result<Option<ExchangeAbort>, String>,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let running = match call {
            None => None,
            Some(call) => match worker.calls.get(&call) {
                // It has ended, as far as the host knows: nobody waits for an answer.
                None => return,
                in_flight => in_flight.map(|call| &call.running),
            },
        };
        let state = running.map(|running| running.state.clone());
        let number = self.core.queue.next_id();
        let opening = NewExchange {
            call: state.clone(),
            id: number,
            number: exchange,
            sink: EventSink::Queue(self.core.queue.clone(), number),
        };
        match begin(opening, Caller::of(running)) {
            Ok(Some(abort)) => {
                self.exchanges.insert(number, (id, exchange));
                let open = Exchange {
                    id: number,
                    abort,
                    call: state,
                };
                worker.exchanges.insert(exchange, open);
            }
            // The call is over, and its worker is about to hear of it: that says all.
            Ok(None) => {}
            Err(message) => {
                let event = EventHeader::Failed {
                    kind: "other",
                    message,
                };
                let event = ToWorker::Event { exchange, event };
                worker.process.say(&event, &[]);
            }
        }
    }
}
