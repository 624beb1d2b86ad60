//! The start of a call in a worker, and the worker's messages about it.

use std::time::Duration;

use serde_json::Value;

use super::{
    frames::MOST_INPUTS,
    lifecycle::Lifecycle,
    lost_calls::worker_fault,
    messages::CallMessage,
    numbers::{LoadId, WorkerId, WorkerTarget},
    process::WorkerLink,
    requests::PoolPrograms,
    scheduler::{Candidate, Scheduler},
    wire::ToWorker,
    worker::WorkerTable,
};
use crate::host::core::{fault::Fault, queued_call::QueuedCall, running_call::RunningCall};

/// Gives a call to a worker.
pub(super) fn start(
    queued: QueuedCall,
    (scheduler, lifecycle, programs): (&mut Scheduler<RunningCall>, &Lifecycle, &PoolPrograms),
    workers: &WorkerTable,
) {
    let candidates = lifecycle.ready().map(|(worker, is_recycled)| Candidate {
        worker,
        has_program: programs.target(worker, LoadId(queued.target)).is_ok(),
        is_blocked: workers.is_blocked(worker),
        is_recycled,
    });
    let Some(Candidate { worker: id, .. }) = scheduler.pick(candidates) else {
        return;
    };
    let Some(worker) = workers.get(id) else {
        return;
    };
    worker.heartbeat.progress();
    let target = programs.target(id, LoadId(queued.target));
    let target =
        target.map_err(|reason| worker_fault(&format!("it could not load the program: {reason}")));
    let sent = target.and_then(|target| send_start(&worker.link, &queued, target));
    let sequence = queued.sequence;
    let running = RunningCall::new(queued);
    match sent {
        Ok(()) => scheduler.assign(sequence, id, running),
        Err(fault) => running.finish(Err(fault)),
    }
}

/// Sends a call to a worker that has the program as `target`.
fn send_start(link: &WorkerLink, call: &QueuedCall, target: WorkerTarget) -> Result<(), Fault> {
    let inputs = encode_inputs(&call.inputs)?;
    let message = ToWorker::Start {
        call: call.sequence,
        target,
        remaining: call.time_left().map(|left| left.as_secs_f64()),
        lm: call.state.route.lm.as_deref(),
    };
    link.send(&message, &inputs);
    Ok(())
}

fn encode_inputs(inputs: &Value) -> Result<Vec<u8>, Fault> {
    let inputs =
        serde_json::to_vec(inputs).map_err(|error| Fault::new("ValueError", error.to_string()))?;
    if inputs.len() > MOST_INPUTS {
        let message = format!(
            "the inputs have {} bytes as JSON; a worker process takes at most {MOST_INPUTS}",
            inputs.len(),
        );
        return Err(Fault::new("ValueError", message));
    }
    Ok(inputs)
}

/// Handles a worker's message about a call of it.
pub(super) fn on_message(
    scheduler: &mut Scheduler<RunningCall>,
    (worker, call): (WorkerId, u64),
    message: CallMessage,
    now: Duration,
) {
    let Some(running) = scheduler.get(worker, call) else {
        return;
    };
    match message {
        CallMessage::Outcome {
            outcome,
            is_last: false,
        } => {
            running.resolve(outcome);
            scheduler.resolved(worker, call, now);
        }
        CallMessage::Outcome { outcome, .. } => {
            if let Some(running) = scheduler.finish(worker, call) {
                running.finish(outcome);
            }
        }
        CallMessage::Settled(strays) => {
            running.settle(strays.as_deref());
            scheduler.settled(worker, call);
        }
        CallMessage::Abandoned => running.abandon(),
        CallMessage::Cancelled => {
            running.state.cancel();
            scheduler.cancelled(worker, call, now);
        }
        CallMessage::Partial(fields) => {
            running.keep_partial(fields);
        }
        CallMessage::Stepped { exchange, counts } => running.record_answer(exchange, counts),
        CallMessage::Bypassed(lm) => running.state.record_bypass(&lm),
    }
}
