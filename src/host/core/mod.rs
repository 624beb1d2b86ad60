//! The parts that both kinds of host share. They know neither Python nor processes.

pub(crate) mod call_handle;
pub(crate) mod call_state;
pub(crate) mod clock;
pub(crate) mod counters;
pub(crate) mod event;
pub(crate) mod exchange;
pub(crate) mod fault;
pub(crate) mod health;
pub(crate) mod host_core;
pub(crate) mod host_thread;
pub(crate) mod http;
pub(crate) mod http_response;
pub(crate) mod lm_candidates;
pub(crate) mod log;
pub(crate) mod loop_monitor;
pub(crate) mod program_counts;
pub(crate) mod queue;
pub(crate) mod queued_call;
pub(crate) mod registry;
pub(crate) mod running_call;
pub(crate) mod runtime;
pub(crate) mod stats;
pub(crate) mod tool;
pub(crate) mod tool_definition;
pub(crate) mod wake;
