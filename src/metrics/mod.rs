//! The metrics of calls, hosts and layers (feature `metrics`).
//!
//! They are emitted by the [facade `metrics`](https://docs.rs/metrics) 0.24, so the process's recorder
//! takes them; without one they cost next to nothing. The recorder for Prometheus and the route that
//! it is read by is `inbound::axum::PrometheusMetrics` (feature `axum`). Gauges, and counters that a
//! host keeps, are set when [`Gauges::sample`] is called.
//!
//! Handles of tracked calls are cached for the recorder of the process, once [`describe`] was called. So
//! that recorder is not to forget metrics that are idle: no `idle_timeout` for counters and histograms.
//!
//! # All metrics
//! Names for Prometheus have `_` for dots, the unit `_seconds` for s, and `_total` on counters. Where
//! the unit is empty, a value is a count.
//!
//! Of the GenAI conventions, whose labels they have
//! ([`semantic-conventions-genai`](https://github.com/open-telemetry/semantic-conventions-genai), in
//! development):
//!
//! | metric | type, unit | labels | when |
//! |---|---|---|---|
//! | `gen_ai.client.operation.duration` | histogram, s | `gen_ai.operation.name`, `gen_ai.provider.name`, `gen_ai.request.model`, `gen_ai.response.model`, `error.type` | an LM call ends, each attempt by itself |
//! | `gen_ai.client.token.usage` | histogram, tokens | as above without `error.type`, `gen_ai.token.type` | an LM call ends whose provider told its tokens |
//! | `gen_ai.client.operation.time_to_first_chunk` | histogram, s | operation, provider, request model | a streamed LM call ends |
//! | `gen_ai.client.operation.time_per_output_chunk` | histogram, s | operation, provider, request model | a chunk of a streamed answer comes, after the first |
//! | `gen_ai.workflow.duration` | histogram, s | `gen_ai.workflow.name`, `error.type` | an attempt at a program has its outcome |
//! | `gen_ai.execute_tool.duration` | histogram, s | `gen_ai.operation.name`, `gen_ai.tool.name`, `gen_ai.tool.type`, `error.type` | a call of a tool ends, of Rust or of DSPy; of the first 64 of a program's call |
//!
//! `error.type` is `timeout` of a limit that passed, the HTTP status of an LM's answer, else the kind of
//! the error. A cancel that was meant is no error. What differs from the conventions: the first chunk is
//! the first with content; tokens of answers that came after the end of their attempt are only in
//! `tower_dspy.tokens`, as `late`; `server.address` is left out, for the host of an LM may name a tenant.
//!
//! Of this crate:
//!
//! | metric | type, unit | labels | when, and what |
//! |---|---|---|---|
//! | `tower_dspy.calls` | counter | `program`, `outcome`, `cause`, `kind` | a tracked call ends |
//! | `tower_dspy.call.duration` | histogram, s | `program`, `outcome` | a tracked call ends |
//! | `tower_dspy.call.time_left` | histogram, s | `program` | a tracked call with a deadline ends; 0 if it had passed |
//! | `tower_dspy.call.deadline_used` | histogram, share | `program` | a tracked call with a deadline ends: the share of its time that it took, more than 1 past the deadline |
//! | `tower_dspy.call.overshoot` | histogram, s | `program` | a tracked call ends past its deadline: how far |
//! | `tower_dspy.call.settle` | histogram, s | `program` | the work of an attempt has ended that was told to stop: how long ago |
//! | `tower_dspy.tokens` | counter | `program`, `lm`, `fate` | an attempt ends: its tokens were `used`, or `wasted` as it came to no answer; an LM answers after that: `late` |
//! | `tower_dspy.lm.calls` | counter | `program`, `lm`, `outcome`, `status` | an LM call ends |
//! | `tower_dspy.lm.cost_usd` | histogram, USD | `program`, `lm`, `kind`: `counted`, `estimated`, `late` | an LM call ends whose price is known: what the tokens cost that its provider counted; an estimate of those that it did not count; what came after the end of its attempt |
//! | `tower_dspy.lm.cost_unknown` | counter | `program`, `lm` | an LM call ends whose price is not known |
//! | `tower_dspy.lm.aborts` | counter | `lm`, `outcome`: `accepted`, `failed` | a request of [`Lm::abort`](crate::Lm::abort) ends |
//! | `tower_dspy.retry.attempts` | counter | | a retry is sent |
//! | `tower_dspy.retry.refused` | counter | | a retry is not sent, as its budget is used up |
//! | `tower_dspy.hedge.sent`, `tower_dspy.hedge.won` | counters | | a second attempt is sent; it answers first |
//! | `tower_dspy.worker.restarts` | counter | `reason`: `lost`, `overdue`, `recycled`, `not_started` | a worker ends that is replaced |
//! | `tower_dspy.in_flight`, `.waiting`, `.stopping` | gauges | `tracker` | sampled: tracked calls; those that wait for a service; those that were told to stop |
//! | `tower_dspy.retry.budget` | gauge | `budget` | sampled: retries that it would allow |
//! | `tower_dspy.program.in_flight`, `.in_flight.limit`, `.waiting`, `.waiting.limit` | gauges | `program` | sampled: permits and places to wait, and how many there are |
//! | `tower_dspy.info` | gauge, 1 | `program`, `version`, `dspy`, `tower_dspy` | sampled |
//! | `tower_dspy.health` | gauge, 0 or 1 | `host`, `state` | sampled: 1 for the state that the host is in |
//! | `tower_dspy.running`, `.queued`, `.orphans` | gauges | `host` | sampled: calls at work in Python; those that wait for Python; those that go on for nobody |
//! | `tower_dspy.queue.age`, `tower_dspy.orphan.age`, `tower_dspy.loop.lag` | gauges, s | `host` | sampled: the age of the oldest call that waits for Python, and of the oldest that goes on for nobody; how late the loop's heartbeat is, NaN where no loop takes calls |
//! | `tower_dspy.lm.in_flight`, `tower_dspy.streams`, `tower_dspy.threads.abandoned` | gauges | `host` | sampled: [`HostStats`](crate::HostStats) |
//! | `tower_dspy.strays`, `.threads.replaced`, `.reader.stalls`, `.http.requests`, `.lm.bypassed` | counters | `host` | sampled: what `HostStats` has grown by |
//! | `tower_dspy.workers` | gauge | `host`, `state` | sampled: worker processes |
//!
//! `program` is the label of the layer that tracks the call, else the name of the program. `outcome` of
//! a call is `completed`, `failed`, `timed_out` or `cancelled`, `cause` why it was cancelled, `kind` the
//! [`ErrorKind`](crate::ErrorKind) of its error. `lm` is the provider and the model.
//!
//! # Cardinality
//! No label has a call's id, a tenant, or anything of a prompt or an answer. Names that come from
//! outside are bounded: past 64 models, LMs and providers each, and 256 programs and tools each, they are
//! `other`. An LM that a program is loaded with has a place that no request takes, the first 64 of them.

mod gauges;
#[cfg(feature = "_host")]
mod host_gauges;
#[cfg(all(test, feature = "_host"))]
mod tests;

use crate::telemetry::{
    self,
    metric_names::{
        ALL, CALL_DEADLINE_USED, CALL_OVERSHOOT, CALL_SETTLE, COSTS, DELAYS, GEN_AI_TOKEN_USAGE,
        LM_COST, MetricKind, SECONDS, SHARES, TOKENS,
    },
};

pub use self::gauges::Gauges;

/// Tells the recorder that is installed the unit and the description of each metric, and has the handles
/// of tracked calls cached for it. For once, after the recorder of the process was installed; not for a
/// local recorder, which would be taken for another at its address.
pub fn describe() {
    telemetry::metrics::describe();
    telemetry::metrics::cache_recorder();
}

/// The boundaries of the buckets of each histogram, by its name: those that the GenAI conventions fix,
/// and finer ones for delays that are to be milliseconds. For exporters that ask for them.
///
/// ```
/// let buckets: Vec<_> = tower_dspy::metrics::buckets().collect();
/// assert!(buckets.iter().all(|(_, boundaries)| boundaries.is_sorted()));
/// ```
pub fn buckets() -> impl Iterator<Item = (&'static str, &'static [f64])> {
    let histograms = ALL
        .iter()
        .filter(|metric| metric.kind == MetricKind::Histogram);
    histograms.map(|metric| {
        let delays = [CALL_OVERSHOOT.name, CALL_SETTLE.name];
        let boundaries: &[f64] = if metric.name == GEN_AI_TOKEN_USAGE.name {
            &TOKENS
        } else if metric.name == LM_COST.name {
            &COSTS
        } else if metric.name == CALL_DEADLINE_USED.name {
            &SHARES
        } else if delays.contains(&metric.name) {
            &DELAYS
        } else {
            &SECONDS
        };
        (metric.name, boundaries)
    })
}
