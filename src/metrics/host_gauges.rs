//! The gauges of a host and of a program.

use std::sync::Arc;

use metrics::Label;

#[cfg(feature = "workers")]
use crate::{host::workers::WorkerState, telemetry::metric_names::WORKERS};
use crate::{
    host::{Host, core::health::Health},
    service::DspyService,
    telemetry::{
        metric_names::{
            HEALTH, HTTP_REQUESTS, INFO, LM_BYPASSED, LM_IN_FLIGHT, LOOP_LAG, Metric, ORPHAN_AGE,
            ORPHANS, PROGRAM_IN_FLIGHT, PROGRAM_IN_FLIGHT_LIMIT, PROGRAM_WAITING,
            PROGRAM_WAITING_LIMIT, QUEUE_AGE, QUEUED, READER_STALLS, RUNNING, STRAYS, STREAMS,
            THREADS_ABANDONED, THREADS_REPLACED,
        },
        metrics::{count, label, set, watch_calls, watch_worker_restarts},
    },
};

/// The states of health, as the label of the metric names them.
const STATES: [&str; 6] = [
    "starting",
    "ready",
    "saturated",
    "blocked",
    "exhausted",
    "lost",
];

/// The counters that a host keeps itself.
const COUNTERS: [&Metric; 5] = [
    &STRAYS,
    &THREADS_REPLACED,
    &READER_STALLS,
    &HTTP_REQUESTS,
    &LM_BYPASSED,
];

/// A program that is observed.
#[derive(Clone)]
pub(super) struct ObservedProgram {
    pub(super) label: Arc<str>,
    pub(super) version: Arc<str>,
    pub(super) service: DspyService,
}

/// Sets the metrics of a host.
pub(super) fn sample_host(name: &Arc<str>, host: &Host) {
    let stats = host.stats();
    let labels = || vec![label("host", name.clone())];
    let gauges: [(&Metric, u64); 6] = [
        (&RUNNING, stats.running),
        (&ORPHANS, stats.orphans),
        (&QUEUED, stats.queued),
        (&LM_IN_FLIGHT, stats.in_lm_calls),
        (&THREADS_ABANDONED, stats.abandoned),
        (&STREAMS, stats.streams),
    ];
    for (metric, value) in gauges {
        set(metric, labels(), value as f64);
    }
    let totals = [
        stats.strays,
        stats.replaced,
        stats.reader_stalls,
        stats.http_requests,
        stats.lm.bypassed,
    ];
    // Not `absolute`, which is the greatest: a host that takes another's place begins at 0.
    for (metric, growth) in COUNTERS.into_iter().zip(host.growth(totals)) {
        count(metric, labels(), growth);
    }
    set(&QUEUE_AGE, labels(), stats.queue_age.as_secs_f64());
    set(&ORPHAN_AGE, labels(), stats.orphan_age.as_secs_f64());
    let lag = host.loop_lag();
    let lag = lag.map_or(f64::NAN, |lag| lag.as_secs_f64());
    set(&LOOP_LAG, labels(), lag);
    let now = state(&host.health());
    for state in STATES {
        let is_it = f64::from(u8::from(state == now));
        set(&HEALTH, with(labels(), label("state", state)), is_it);
    }
    #[cfg(feature = "workers")]
    if let Some(stats) = host.worker_stats() {
        watch_worker_restarts();
        let states = [
            (WorkerState::Starting, "starting"),
            (WorkerState::Ready, "ready"),
            (WorkerState::Retiring, "retiring"),
            (WorkerState::Ending, "ending"),
        ];
        for (state, name) in states {
            let processes = stats.processes.iter();
            let count = processes.filter(|process| process.state == state).count();
            set(&WORKERS, with(labels(), label("state", name)), count as f64);
        }
    }
}

/// Sets the metrics of a program.
pub(super) fn sample_program(program: &ObservedProgram) {
    let ObservedProgram {
        label: name,
        version,
        service,
    } = program;
    watch_calls(name);
    let permits = service.permits();
    let (max_in_flight, max_waiting) = permits.limits();
    let values = [
        (&PROGRAM_IN_FLIGHT, permits.in_flight()),
        (&PROGRAM_IN_FLIGHT_LIMIT, max_in_flight),
        (&PROGRAM_WAITING, permits.waiting()),
        (&PROGRAM_WAITING_LIMIT, max_waiting),
    ];
    for (metric, value) in values {
        set(metric, vec![label("program", name.clone())], value as f64);
    }
    let info = vec![
        label("program", name.clone()),
        label("version", version.clone()),
        label("dspy", service.dspy_version().clone()),
        label("tower_dspy", env!("CARGO_PKG_VERSION")),
    ];
    set(&INFO, info, 1.0);
}

fn with(mut labels: Vec<Label>, label: Label) -> Vec<Label> {
    labels.push(label);
    labels
}

const fn state(health: &Health) -> &'static str {
    match health {
        Health::Starting => "starting",
        Health::Ready => "ready",
        Health::Saturated => "saturated",
        Health::Blocked { .. } => "blocked",
        Health::Exhausted { .. } => "exhausted",
        Health::Lost => "lost",
    }
}
