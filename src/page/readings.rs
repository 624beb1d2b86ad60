//! The rows of the page of all calls.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    columns::{Column, groups},
    stage::CallStage,
    units::shown,
};
use crate::{
    call::{
        CallId, Cause, Cost,
        record::{
            seconds::{seconds, seconds_or_null},
            timeline::CallTimeline,
        },
    },
    layers::track::ProgramCalls,
};

/// The calls of one program.
#[derive(Debug, Serialize)]
pub(super) struct ProgramReading {
    pub(super) name: String,
    #[serde(flatten, serialize_with = "by_column")]
    pub(super) calls: ProgramCalls,
}

/// A call under way.
#[derive(Debug, Serialize)]
pub(super) struct LiveReading {
    pub(super) id: CallId,
    pub(super) name: String,
    pub(super) stage: String,
    #[serde(skip)]
    pub(super) stage_class: &'static str,
    #[serde(serialize_with = "seconds")]
    pub(super) elapsed: Duration,
    #[serde(serialize_with = "seconds_or_null")]
    pub(super) deadline: Option<Duration>,
    pub(super) stopping: Option<Cause>,
    /// Its tracker can cancel it, and did not yet.
    #[serde(skip)]
    pub(super) can_cancel: bool,
    pub(super) attempts: u64,
    pub(super) lm_calls: u64,
    pub(super) tokens: u64,
}

/// The LM calls to one model.
#[derive(Debug, Default, Serialize)]
pub(super) struct LmReading {
    pub(super) name: String,
    pub(super) in_flight: u64,
    #[serde(serialize_with = "seconds_or_null")]
    pub(super) first_byte_p50: Option<Duration>,
    #[serde(serialize_with = "seconds_or_null")]
    pub(super) first_byte_p99: Option<Duration>,
    pub(super) answered: u64,
    pub(super) too_many_requests: u64,
    pub(super) server_errors: u64,
    pub(super) elapsed: u64,
    pub(super) cancelled: u64,
    pub(super) failed: u64,
    pub(super) tokens: u64,
    pub(super) wasted_tokens: u64,
    pub(super) cost: Cost,
}

/// The worker processes.
#[derive(Debug, Default, Serialize)]
pub(super) struct WorkersReading {
    pub(super) processes: Vec<WorkerReading>,
    pub(super) killed: u64,
    pub(super) lost: u64,
    pub(super) recycled: u64,
    pub(super) failed_starts: u32,
    pub(super) calls_lost: u64,
    /// The last workers that ended, the latest first, each with its reason.
    pub(super) ended: Vec<EndedWorkerReading>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct WorkerReading {
    pub(super) pid: u32,
    pub(super) state: String,
    pub(super) health: String,
    #[serde(serialize_with = "seconds")]
    pub(super) age: Duration,
    pub(super) resident_bytes: Option<u64>,
    pub(super) in_flight: u64,
    pub(super) calls: u64,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct EndedWorkerReading {
    pub(super) pid: Option<u32>,
    #[serde(serialize_with = "seconds")]
    pub(super) before: Duration,
    pub(super) reason: String,
}

impl ProgramReading {
    pub(super) fn of(calls: ProgramCalls) -> Self {
        Self {
            name: shown(&calls.name),
            calls,
        }
    }
}

impl LiveReading {
    /// A reading of `call`, if it has an id.
    pub(super) fn of(call: &CallTimeline, has_host: bool) -> Option<Self> {
        let stage = CallStage::of(call, has_host);
        let open = call.lm_calls.iter().filter(|lm_call| lm_call.is_open);
        let open_tokens = open.map(|lm_call| lm_call.call.usage().total_tokens);
        Some(Self {
            id: call.id?,
            name: shown(call.name()),
            stage: stage.words(),
            stage_class: stage.class(),
            elapsed: call.settled.unwrap_or(call.read),
            deadline: call.deadline,
            stopping: call.stopped.map(|signal| signal.cause),
            can_cancel: false,
            attempts: call.attempts.len() as u64 + call.attempts_not_kept,
            lm_calls: call.lm_calls.len() as u64 + call.lm_calls_not_kept,
            tokens: open_tokens.fold(call.usage.total_tokens, u64::saturating_add),
        })
    }

    /// What is left until the deadline.
    pub(super) fn left(&self) -> Option<Duration> {
        Some(self.deadline?.saturating_sub(self.elapsed))
    }

    /// The share of the time to the deadline that is used, up to 1; `None` if there is no deadline.
    pub(super) fn share(&self) -> Option<f64> {
        let deadline = self.deadline?.as_secs_f64();
        if deadline <= 0.0 {
            return Some(1.0);
        }
        Some((self.elapsed.as_secs_f64() / deadline).min(1.0))
    }
}

fn by_column<S: serde::Serializer>(calls: &ProgramCalls, serializer: S) -> Result<S::Ok, S::Error> {
    let columns = |by_time| groups(by_time).into_iter().flat_map(|group| group.columns);
    let mut groups: BTreeMap<&str, serde_json::Value> = BTreeMap::new();
    let (mut outcomes, mut took) = (serde_json::Map::new(), serde_json::Map::new());
    for column in columns(false).chain(columns(true)) {
        let count = column.count(calls);
        let group = match column {
            Column::Live(_) | Column::Orphans => {
                let now = groups.entry("now").or_insert_with(|| serde_json::json!({}));
                now[column.name()] = count.into();
                continue;
            }
            Column::Outcome(_) => &mut outcomes,
            Column::Took(_) => &mut took,
        };
        if count > 0 {
            group.insert(column.name(), count.into());
        }
    }
    groups.insert("outcomes", outcomes.into());
    groups.insert("took", took.into());
    groups.serialize(serializer)
}
