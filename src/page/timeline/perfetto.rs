//! The timeline of a call as a file for Perfetto.
//!
//! Source: Trace Event Format, Google, 2016: complete events (`X`), instant events (`i`) and metadata
//! (`M`); `ts` and `dur` in microseconds.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    format::{bounded_name, length},
    row::{Bar, Row},
    rows::rows,
    selection::MostRows,
    stages::end,
    story::{gist, timeline_story},
    verticals::verticals,
};
use crate::call::record::timeline::CallTimeline;

/// The process of all events: the program.
const PROCESS: u64 = 1;
/// The thread of the call itself; those of rows follow.
const CALL: u64 = 1;

/// The timeline of `call` as JSON in the Trace Event Format: a file that `ui.perfetto.dev` and
/// `chrome://tracing` open. All attempts and LM calls of the record are in it, each as a thread with its
/// stages; times are in microseconds since the arrival.
///
/// ```
/// use tower_dspy::{page::timeline_perfetto, timeline::CallTimeline};
///
/// fn save(call: &CallTimeline) -> std::io::Result<()> {
///     std::fs::write("call.perfetto.json", timeline_perfetto(call))
/// }
/// ```
#[must_use]
pub fn timeline_perfetto(call: &CallTimeline) -> String {
    let name = &bounded_name(call.name());
    let mut events = vec![
        metadata("process_name", CALL, json!({ "name": name })),
        thread("call", CALL),
        thread_order(CALL),
        complete(
            name,
            "call",
            CALL,
            Duration::ZERO,
            end(call),
            json!({ "gist": gist(call) }),
        ),
    ];
    for line in verticals(call) {
        events.push(instant(&line.label, CALL, line.at, "g"));
    }
    for line in timeline_story(call).lines {
        events.push(instant(&line.text, CALL, line.at, "t"));
    }
    for (thread, row) in (CALL + 1..).zip(rows(call, MostRows::ALL)) {
        events.extend(row_events(&row, thread));
    }
    let arrived = humantime::format_rfc3339_micros(call.arrived).to_string();
    json!({
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "arrived": arrived,
            "call": call.id,
            "trace_id": call.trace_id,
        },
    })
    .to_string()
}

fn row_events(row: &Row, tid: u64) -> Vec<Value> {
    let name = if row.name.is_empty() {
        "…"
    } else {
        &row.name
    };
    let mut events = vec![thread(name, tid), thread_order(tid)];
    for Bar { stage, span, name } in &row.bars {
        let args = json!({
            "label": row.label,
            "length": length(span.length()),
            "under way": span.is_open,
        });
        events.push(complete(name, stage.name(), tid, span.from, span.to, args));
    }
    if let Some(grace) = row.grace {
        events.push(instant("the time for clean-up is over", tid, grace.to, "t"));
    }
    for mark in &row.marks {
        events.push(instant(&mark.name, tid, mark.at, "t"));
    }
    events
}

fn thread(name: &str, tid: u64) -> Value {
    metadata("thread_name", tid, json!({ "name": name }))
}

/// Threads are sorted by this, not by their names.
fn thread_order(tid: u64) -> Value {
    metadata("thread_sort_index", tid, json!({ "sort_index": tid }))
}

fn metadata(name: &str, tid: u64, args: Value) -> Value {
    json!({ "ph": "M", "name": name, "pid": PROCESS, "tid": tid, "ts": 0, "args": args })
}

fn complete(
    name: &str,
    category: &str,
    tid: u64,
    from: Duration,
    to: Duration,
    args: Value,
) -> Value {
    json!({
        "ph": "X",
        "name": name,
        "cat": category,
        "pid": PROCESS,
        "tid": tid,
        "ts": micros(from),
        "dur": micros(to.saturating_sub(from)),
        "args": args,
    })
}

/// An instant of a thread (`t`), or of all (`g`).
fn instant(name: &str, tid: u64, at: Duration, scope: &str) -> Value {
    json!({
        "ph": "i",
        "name": name,
        "s": scope,
        "pid": PROCESS,
        "tid": tid,
        "ts": micros(at),
    })
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}
