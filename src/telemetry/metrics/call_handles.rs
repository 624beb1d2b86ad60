//! The metrics of tracked calls, with their handles cached.

use std::{
    collections::BTreeMap,
    ptr,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use metrics::{Counter, Histogram, Recorder};

use super::{
    CallLabels, EndedCall,
    bounded_names::OTHER,
    emit::{label, program_label},
};
use crate::telemetry::metric_names::{
    CALL_DEADLINE_USED, CALL_DURATION, CALL_OVERSHOOT, CALL_TIME_LEFT, CALLS, Metric,
};

/// The handles of all programs.
static HANDLES: RwLock<CallHandles> = RwLock::new(CallHandles {
    recorder: 0,
    programs: BTreeMap::new(),
});

/// The address of the recorder that [`cache_recorder`] was called under, which has to be that of the
/// process: it stays where it is. A local one may be dropped, and another have its address.
static CACHED: AtomicUsize = AtomicUsize::new(0);

/// Handles of one recorder.
struct CallHandles {
    /// The recorder's address.
    recorder: usize,
    programs: BTreeMap<Arc<str>, ProgramHandles>,
}

/// Those of a program, by the ways that its calls have ended so far.
type ProgramHandles = Vec<(CallLabels, Arc<EndHandles>)>;

/// The handles for calls of a program that ended in one way.
struct EndHandles {
    calls: Counter,
    duration: Histogram,
    time_left: Histogram,
    deadline_used: Histogram,
    overshoot: Histogram,
}

/// A tracked call has ended.
pub(crate) fn call_ended(call: &EndedCall<'_>) {
    let Some(recorder) = metrics::with_recorder(cache_key) else {
        return EndHandles::new(&program_label(call.program), call.labels).record(call);
    };
    // A recorder is foreign code: it is called without the lock.
    if let Some(handles) = find(recorder, call) {
        return handles.record(call);
    }
    let name = program_label(call.program);
    let new = Arc::new(EndHandles::new(&name, call.labels));
    new.record(call);
    let mut handles = HANDLES.write().unwrap_or_else(PoisonError::into_inner);
    if handles.recorder != recorder {
        // The recorder of the process was installed after the first calls.
        handles.programs.clear();
        handles.recorder = recorder;
    }
    let program = handles.programs.entry(name).or_default();
    if program.iter().all(|(of, _)| *of != call.labels) {
        program.push((call.labels, new));
    }
}

/// Has the calls of `program` count from 0 by each outcome that is known beforehand, so that the first
/// failures are seen as an increase.
#[cfg(feature = "_host")]
pub(crate) fn watch_calls(program: &str) {
    let name = program_label(program);
    for labels in CallLabels::known() {
        metrics::counter!(CALLS.name, call_labels(&name, labels)).increment(0);
    }
}

/// Caches handles from now on if the recorder of the process takes them. It is called once it is
/// installed.
pub(crate) fn cache_recorder() {
    CACHED.store(metrics::with_recorder(address), Ordering::Relaxed);
}

/// The recorder by its address, if handles of it may be cached: it is that of the process, or has no
/// state, as that of a process without one.
fn cache_key(recorder: &dyn Recorder) -> Option<usize> {
    let address = address(recorder);
    let is_cached = size_of_val(recorder) == 0 || address == CACHED.load(Ordering::Relaxed);
    is_cached.then_some(address)
}

fn address(recorder: &dyn Recorder) -> usize {
    ptr::from_ref(recorder).cast::<()>().addr()
}

/// The handles for this call that are cached.
fn find(recorder: usize, call: &EndedCall<'_>) -> Option<Arc<EndHandles>> {
    let handles = HANDLES.read().unwrap_or_else(PoisonError::into_inner);
    if handles.recorder != recorder {
        return None;
    }
    let mut program = handles.programs.get(call.program);
    if program.is_none() && handles.programs.contains_key(OTHER) {
        // It may be one of those past the bound.
        program = handles.programs.get(&program_label(call.program));
    }
    let mut ends = program?.iter();
    let found = ends.find(|(of, _)| *of == call.labels);
    found.map(|(_, handles)| handles.clone())
}

/// The share of its deadline that a call has used; `None` if it had no time from the start.
fn deadline_used(call: &EndedCall<'_>, left: Duration) -> Option<f64> {
    let allowed = (call.duration + left).saturating_sub(call.overshoot);
    (!allowed.is_zero()).then(|| call.duration.as_secs_f64() / allowed.as_secs_f64())
}

/// The labels of the counter of calls.
fn call_labels(program: &Arc<str>, of: CallLabels) -> Vec<metrics::Label> {
    let mut labels = vec![
        label("program", program.clone()),
        label("outcome", of.outcome),
    ];
    let more = [("cause", of.cause), ("kind", of.kind)];
    let more = more.into_iter().filter(|(_, value)| !value.is_empty());
    labels.extend(more.map(|(key, value)| label(key, value)));
    labels
}

impl EndHandles {
    fn new(program: &Arc<str>, of: CallLabels) -> Self {
        let handle = |metric: &Metric| {
            metrics::histogram!(metric.name, vec![label("program", program.clone())])
        };
        let duration = vec![
            label("program", program.clone()),
            label("outcome", of.outcome),
        ];
        Self {
            calls: metrics::counter!(CALLS.name, call_labels(program, of)),
            duration: metrics::histogram!(CALL_DURATION.name, duration),
            time_left: handle(&CALL_TIME_LEFT),
            deadline_used: handle(&CALL_DEADLINE_USED),
            overshoot: handle(&CALL_OVERSHOOT),
        }
    }

    fn record(&self, call: &EndedCall<'_>) {
        self.calls.increment(1);
        self.duration.record(call.duration.as_secs_f64());
        if let Some(left) = call.time_left {
            self.time_left.record(left.as_secs_f64());
            if let Some(used) = deadline_used(call, left) {
                self.deadline_used.record(used);
            }
            if !call.overshoot.is_zero() {
                self.overshoot.record(call.overshoot.as_secs_f64());
            }
        }
    }
}

#[cfg(all(test, feature = "_host"))]
mod tests {
    use metrics_util::{MetricKind, debugging::DebuggingRecorder};

    use super::*;
    use crate::call::{CallStatus, ErrorKind};

    #[test]
    fn the_first_failure_of_a_watched_program_adds_to_a_series_that_was_0() {
        let recorder = DebuggingRecorder::new();
        let series = || {
            let all = recorder.snapshotter().snapshot().into_vec().into_iter();
            let counters = all.filter(|(key, ..)| key.kind() == MetricKind::Counter);
            counters.count()
        };
        let of = |kind| CallLabels::new(CallStatus::Failed, Some(kind));
        metrics::with_local_recorder(&recorder, || {
            watch_calls("watched");
            let before = series();
            for kind in [ErrorKind::Overloaded, ErrorKind::Lost] {
                call_ended(&EndedCall {
                    program: "watched",
                    labels: of(kind),
                    duration: Duration::from_secs(1),
                    time_left: None,
                    overshoot: Duration::ZERO,
                });
            }
            assert_eq!((before, series()), (CallLabels::known().count(), before));
        });
    }

    #[test]
    fn the_share_of_a_deadline_is_more_than_1_past_it() {
        let used = |duration, left, overshoot| {
            let call = EndedCall {
                program: "",
                labels: CallLabels::new(CallStatus::Completed, None),
                duration: Duration::from_millis(duration),
                time_left: None,
                overshoot: Duration::from_millis(overshoot),
            };
            deadline_used(&call, Duration::from_millis(left))
        };
        assert_eq!(used(500, 1500, 0), Some(0.25));
        assert_eq!(used(3000, 0, 1000), Some(1.5));
        assert_eq!(used(0, 0, 0), None);
    }
}
