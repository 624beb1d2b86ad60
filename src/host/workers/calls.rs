//! The start of a call in a worker, and its outcome.

use serde_json::Value;

use super::{
    frames::{self, MOST_INPUTS},
    lost_calls::worker_fault,
    numbers::{LoadId, WorkerId, WorkerTarget},
    process::ProcessLink,
    scheduler::{Candidate, Scheduler},
    supervisor::Supervisor,
    wire::{CallReport, ToWorker},
    worker::Worker,
};
use crate::host::core::{
    call_state::Outcome, clock, fault::Fault, log, queued_call::QueuedCall,
    running_call::RunningCall, stream_buffer::StreamBuffer, tool,
};

/// Gives a call to a worker.
pub(super) fn start(queued: QueuedCall, supervisor: &mut Supervisor) {
    let (workers, programs) = (&supervisor.workers, &supervisor.programs);
    let target = |worker| programs.target(worker, LoadId(queued.target));
    let ready = supervisor.lifecycle.ready();
    let candidates = ready.map(|(worker, is_recycled)| Candidate {
        worker,
        has_program: target(worker).is_ok(),
        is_blocked: workers.get(&worker).is_some_and(Worker::is_blocked),
        is_recycled,
    });
    let picked = supervisor.scheduler.pick(candidates);
    let Some((id, worker)) = picked.and_then(|id| Some((id, workers.get(&id)?))) else {
        return;
    };
    worker.heartbeat.monitor.progress();
    let target = target(id);
    let target =
        target.map_err(|reason| worker_fault(&format!("it could not load the program: {reason}")));
    let sent = target.and_then(|target| send_start(&worker.link, &queued, target));
    let sequence = queued.sequence;
    let running = RunningCall::new(queued);
    match sent {
        Ok(()) => supervisor.scheduler.assign(sequence, id, running),
        Err(fault) => running.finish(Err(fault)),
    }
}

/// Sends a call to a worker that has the program as `target`.
fn send_start(link: &ProcessLink, call: &QueuedCall, target: WorkerTarget) -> Result<(), Fault> {
    let inputs = encode_inputs(&call.inputs)?;
    let message = ToWorker::Start {
        call: call.sequence,
        target,
        remaining: call.time_left().map(|left| left.as_secs_f64()),
        lm: call.state.route.lm.as_deref(),
        stream: call.state.stream.as_ref().map(|stream| {
            let chosen = stream.chosen.as_deref();
            (chosen.is_some(), chosen.unwrap_or_default())
        }),
        trace: call.state.trace_headers(),
        budget: call.state.remaining_budget(),
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

/// Handles a worker's report of one of its calls.
pub(super) fn on_report(
    scheduler: &mut Scheduler<RunningCall>,
    (worker, call): (WorkerId, u64),
    report: CallReport,
    tail: &[u8],
) {
    let Some(running) = scheduler.get(worker, call) else {
        return;
    };
    match report {
        CallReport::Done(settled) => {
            end(scheduler, (worker, call), frames::value(tail), settled);
        }
        CallReport::Failed(fault, settled) => end(scheduler, (worker, call), Err(fault), settled),
        CallReport::Settled(strays) => {
            running.settle(Some(&strays));
            scheduler.settled(worker, call);
        }
        CallReport::Abandoned => running.abandon(),
        CallReport::Cancelled => {
            running.state.cancel(None);
            scheduler.cancelled(worker, call, clock::now());
        }
        CallReport::Partial => {
            if let Ok(fields) = frames::value(tail) {
                running.keep_partial(fields);
            }
        }
        CallReport::LatePartial => running.log_late_partial(),
        CallReport::Stepped(exchange, counts) => running.record_answer(exchange, counts),
        CallReport::StreamText(_) | CallReport::StreamThinking(_) | CallReport::StreamEvent => {
            if let Some(buffer) = running.state.stream_buffer() {
                on_stream_report(buffer, report, tail);
            }
        }
        CallReport::Bypassed(lm) => running.state.record_bypass(&lm),
        CallReport::ToolBegan(number, name) => {
            tool::begin_python(&running.state, number, &name);
        }
        CallReport::ToolEnded(number, failed) => {
            tool::end_python(&running.state, number, failed);
        }
    }
}

/// Resolves a call, which has `settled` if it left no work behind.
fn end(
    scheduler: &mut Scheduler<RunningCall>,
    (worker, call): (WorkerId, u64),
    outcome: Outcome,
    settled: bool,
) {
    if let Some(running) = scheduler.get(worker, call) {
        match settled {
            true => running.finish(outcome),
            false => running.resolve(outcome),
        }
    }
    if settled {
        scheduler.settled(worker, call);
    }
    scheduler.resolved(worker, call, clock::now());
}

fn on_stream_report(buffer: &StreamBuffer, report: CallReport, tail: &[u8]) {
    match report {
        CallReport::StreamText(lm_call) => buffer.text(lm_call, &String::from_utf8_lossy(tail)),
        CallReport::StreamThinking(lm_call) => {
            buffer.thinking(lm_call, String::from_utf8_lossy(tail).into_owned());
        }
        _ => match frames::value(tail) {
            Ok(report) => buffer.report(report),
            Err(fault) => log::python_failed(&fault),
        },
    }
}
