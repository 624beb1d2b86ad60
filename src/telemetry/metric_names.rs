//! The names of all metrics, with their units and descriptions.
//!
//! `gen_ai.*` are those of the GenAI conventions, which are in development: the repository
//! `open-telemetry/semantic-conventions-genai`, `model/gen-ai/metrics.yaml`. `tower_dspy.*` are of
//! this crate: what the conventions have no name for. The names have dots; an exporter for Prometheus
//! writes `_` in their place.

use metrics::Unit;

/// One metric.
#[derive(Debug)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) kind: MetricKind,
    pub(crate) unit: Unit,
    pub(crate) description: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

use self::MetricKind::{Counter, Gauge, Histogram};

/// The boundaries of all histograms of seconds, as the conventions fix them; from 10 ms to 82 s.
pub(crate) const SECONDS: [f64; 14] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
/// The boundaries of the histogram of tokens, as the conventions fix them: powers of 4.
pub(crate) const TOKENS: [f64; 14] = [
    1.,
    4.,
    16.,
    64.,
    256.,
    1024.,
    4096.,
    16384.,
    65536.,
    262_144.,
    1_048_576.,
    4_194_304.,
    16_777_216.,
    67_108_864.,
];
/// The boundaries of the histogram of costs, in USD.
pub(crate) const COSTS: [f64; 14] = [
    1e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1., 3., 10.,
];
/// The boundaries of the histograms of delays, in seconds: of what is to take milliseconds.
pub(crate) const DELAYS: [f64; 14] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1., 2., 5., 10.,
];

/// The boundaries of the histograms of shares: tenths, and finer ones before the whole.
pub(crate) const SHARES: [f64; 12] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1., 1.1];

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal $unit:ident $description:literal;)*) => {
        $(
            #[doc = $description]
            pub(crate) const $constant: Metric = Metric {
                name: $name,
                kind: $kind,
                unit: Unit::$unit,
                description: $description,
            };
        )*

        /// Each of them.
        pub(crate) const ALL: &[Metric] = &[$($constant),*];
    };
}

// A count of calls or tokens has the unit `Count`, which adds nothing to a name.
metrics! {
    GEN_AI_OPERATION_DURATION = Histogram "gen_ai.client.operation.duration" Seconds
        "Duration of LM calls, each attempt counted.";
    GEN_AI_TOKEN_USAGE = Histogram "gen_ai.client.token.usage" Count
        "Tokens of LM calls, as the provider reported them.";
    GEN_AI_FIRST_CHUNK = Histogram "gen_ai.client.operation.time_to_first_chunk" Seconds
        "Time from the start of a streamed LM call to the first content of its answer.";
    GEN_AI_OUTPUT_CHUNK = Histogram "gen_ai.client.operation.time_per_output_chunk" Seconds
        "Time between two chunks of a streamed answer of an LM.";
    GEN_AI_WORKFLOW_DURATION = Histogram "gen_ai.workflow.duration" Seconds
        "Duration of attempts at a program, until the outcome.";
    GEN_AI_TOOL_DURATION = Histogram "gen_ai.execute_tool.duration" Seconds
        "Duration of calls of tools, of Rust and of DSPy.";

    CALLS = Counter "tower_dspy.calls" Count
        "Tracked calls that have ended, by outcome.";
    CALL_DURATION = Histogram "tower_dspy.call.duration" Seconds
        "Duration of tracked calls, until they were answered or dropped.";
    CALL_TIME_LEFT = Histogram "tower_dspy.call.time_left" Seconds
        "Time left of the deadline when a tracked call ended; 0 if it had passed.";
    CALL_DEADLINE_USED = Histogram "tower_dspy.call.deadline_used" Count
        "Share of its deadline that a tracked call had used when it ended; more than 1 past it.";
    CALL_OVERSHOOT = Histogram "tower_dspy.call.overshoot" Seconds
        "Time from the deadline to the end of a tracked call that it did not end before.";
    CALL_SETTLE = Histogram "tower_dspy.call.settle" Seconds
        "Time from the signal to stop until all work of an attempt had ended.";
    TOKENS_BY_FATE = Counter "tower_dspy.tokens" Count
        "Tokens of LM calls: used, wasted on an attempt without an answer, or late.";
    LM_CALLS = Counter "tower_dspy.lm.calls" Count
        "LM calls that have ended, by outcome and HTTP status.";
    LM_COST = Histogram "tower_dspy.lm.cost_usd" Count
        "USD that LM calls cost: of tokens that the provider counted, estimated ones, or late.";
    LM_COST_UNKNOWN = Counter "tower_dspy.lm.cost_unknown" Count
        "LM calls whose cost is not known, as there is no price for their LM.";
    LM_ABORTS = Counter "tower_dspy.lm.aborts" Count
        "Requests to abort an LM call whose connection was closed, by outcome.";

    RETRY_ATTEMPTS = Counter "tower_dspy.retry.attempts" Count
        "Attempts that a retry layer has made after the first.";
    RETRY_REFUSED = Counter "tower_dspy.retry.refused" Count
        "Retries that were not made, as their budget was used up.";
    RETRY_BUDGET = Gauge "tower_dspy.retry.budget" Count
        "Retries that a budget would allow now.";
    HEDGE_SENT = Counter "tower_dspy.hedge.sent" Count
        "Second attempts that a hedge layer has sent.";
    HEDGE_WON = Counter "tower_dspy.hedge.won" Count
        "Second attempts that answered first.";

    IN_FLIGHT = Gauge "tower_dspy.in_flight" Count
        "Tracked calls that have not ended.";
    WAITING = Gauge "tower_dspy.waiting" Count
        "Tracked calls that wait for a service.";
    STOPPING = Gauge "tower_dspy.stopping" Count
        "Tracked calls that were told to stop and have not ended.";
    RUNNING = Gauge "tower_dspy.running" Count
        "Calls that Python has started and whose work has not ended.";
    ORPHANS = Gauge "tower_dspy.orphans" Count
        "Calls whose caller has its outcome, while their work goes on.";
    ORPHAN_AGE = Gauge "tower_dspy.orphan.age" Seconds
        "How long the oldest of the calls whose work goes on has had its outcome.";
    QUEUED = Gauge "tower_dspy.queued" Count
        "Calls that wait for Python to start them.";
    QUEUE_AGE = Gauge "tower_dspy.queue.age" Seconds
        "How long the oldest of the calls that wait for Python has waited.";
    LOOP_LAG = Gauge "tower_dspy.loop.lag" Seconds
        "How late the heartbeat of Python's loop is; of workers, the latest.";
    LM_IN_FLIGHT = Gauge "tower_dspy.lm.in_flight" Count
        "LM calls under way.";
    LM_BYPASSED = Counter "tower_dspy.lm.bypassed" Count
        "LM calls that programs made past the host.";
    HTTP_REQUESTS = Counter "tower_dspy.http.requests" Count
        "HTTP requests of programs that were no LM calls.";
    PROGRAM_IN_FLIGHT = Gauge "tower_dspy.program.in_flight" Count
        "Permits of a program that its calls hold.";
    PROGRAM_IN_FLIGHT_LIMIT = Gauge "tower_dspy.program.in_flight.limit" Count
        "Permits of a program, its `max_in_flight`.";
    PROGRAM_WAITING = Gauge "tower_dspy.program.waiting" Count
        "Calls that wait for a permit of their program.";
    PROGRAM_WAITING_LIMIT = Gauge "tower_dspy.program.waiting.limit" Count
        "Calls that may wait for a permit of their program, its `max_waiting`.";

    HEALTH = Gauge "tower_dspy.health" Count
        "1 for the state of health that a host is in, 0 for the others.";
    INFO = Gauge "tower_dspy.info" Count
        "1, with the versions of a program, of DSPy and of this crate.";
    STRAYS = Counter "tower_dspy.strays" Count
        "Tasks and threads that calls had left behind.";
    THREADS_ABANDONED = Gauge "tower_dspy.threads.abandoned" Count
        "Threads that did not stop within their grace and still work.";
    THREADS_REPLACED = Counter "tower_dspy.threads.replaced" Count
        "Threads that took the place of an abandoned one.";
    STREAMS = Gauge "tower_dspy.streams" Count
        "Streams whose end has not been read.";
    READER_STALLS = Counter "tower_dspy.reader.stalls" Count
        "Times that a slow reader of a stream held its program up.";
    WORKERS = Gauge "tower_dspy.workers" Count
        "Worker processes, by state.";
    WORKER_RESTARTS = Counter "tower_dspy.worker.restarts" Count
        "Workers that were lost, killed or replaced, by reason.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_metrics_have_one_name() {
        let mut names: Vec<_> = ALL.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
