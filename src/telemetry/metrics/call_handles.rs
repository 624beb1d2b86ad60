//! The metrics of tracked calls, with their handles cached.

use std::{
    collections::BTreeMap,
    ptr,
    sync::{Arc, PoisonError, RwLock},
};

use metrics::{Counter, Histogram};

use super::{
    CallLabels, EndedCall,
    emit::{label, program_label},
};
use crate::telemetry::metric_names::{
    CALL_DURATION, CALL_OVERSHOOT, CALL_TIME_LEFT, CALLS, Metric,
};

/// The handles of all programs.
static HANDLES: RwLock<CallHandles> = RwLock::new(CallHandles {
    recorder: 0,
    programs: BTreeMap::new(),
});

/// Handles of one recorder.
struct CallHandles {
    /// The recorder's address.
    recorder: usize,
    programs: BTreeMap<Arc<str>, ProgramHandles>,
}

/// The handles of one program.
struct ProgramHandles {
    time_left: Histogram,
    overshoot: Histogram,
    /// Of the ways that its calls have ended so far.
    outcomes: Vec<(CallLabels, OutcomeHandles)>,
}

struct OutcomeHandles {
    calls: Counter,
    duration: Histogram,
}

/// A tracked call has ended.
pub(crate) fn call_ended(call: &EndedCall<'_>) {
    let recorder = recorder();
    let handles = HANDLES.read().unwrap_or_else(PoisonError::into_inner);
    if handles.recorder == recorder
        && let Some(program) = handles.programs.get(call.program)
        && let Some(outcome) = program.outcome(call.labels)
    {
        return record(program, outcome, call);
    }
    drop(handles);
    let mut handles = HANDLES.write().unwrap_or_else(PoisonError::into_inner);
    if handles.recorder != recorder {
        // A recorder that was installed after the first calls, or one of a test.
        handles.programs.clear();
        handles.recorder = recorder;
    }
    let name = program_label(call.program);
    let new = || ProgramHandles::new(&name);
    let program = handles.programs.entry(name.clone()).or_insert_with(new);
    if program.outcome(call.labels).is_none() {
        let outcome = OutcomeHandles::new(&name, call.labels);
        program.outcomes.push((call.labels, outcome));
    }
    if let Some(outcome) = program.outcome(call.labels) {
        record(program, outcome, call);
    }
}

fn record(program: &ProgramHandles, outcome: &OutcomeHandles, call: &EndedCall<'_>) {
    outcome.calls.increment(1);
    outcome.duration.record(call.duration.as_secs_f64());
    if let Some(left) = call.time_left {
        program.time_left.record(left.as_secs_f64());
        if !call.overshoot.is_zero() {
            program.overshoot.record(call.overshoot.as_secs_f64());
        }
    }
}

/// The address of the recorder that takes what this thread emits.
fn recorder() -> usize {
    metrics::with_recorder(|recorder| ptr::from_ref(recorder).cast::<()>().addr())
}

impl ProgramHandles {
    fn new(program: &Arc<str>) -> Self {
        let handle = |metric: &Metric| {
            metrics::histogram!(metric.name, vec![label("program", program.clone())])
        };
        Self {
            time_left: handle(&CALL_TIME_LEFT),
            overshoot: handle(&CALL_OVERSHOOT),
            outcomes: Vec::new(),
        }
    }

    fn outcome(&self, labels: CallLabels) -> Option<&OutcomeHandles> {
        let mut outcomes = self.outcomes.iter();
        let found = outcomes.find(|(of, _)| *of == labels);
        found.map(|(_, handles)| handles)
    }
}

impl OutcomeHandles {
    fn new(program: &Arc<str>, of: CallLabels) -> Self {
        let mut labels = vec![
            label("program", program.clone()),
            label("outcome", of.outcome),
        ];
        let duration = metrics::histogram!(CALL_DURATION.name, labels.clone());
        let more = [("cause", of.cause), ("kind", of.kind)];
        let more = more.into_iter().filter(|(_, value)| !value.is_empty());
        labels.extend(more.map(|(key, value)| label(key, value)));
        Self {
            calls: metrics::counter!(CALLS.name, labels),
            duration,
        }
    }
}
