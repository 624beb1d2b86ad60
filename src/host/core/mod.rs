//! What both kinds of host share: no Python and no process is known here.

pub(crate) mod call;
pub(crate) mod clock;
pub(crate) mod counters;
pub(crate) mod exchange;
pub(crate) mod fault;
pub(crate) mod health;
pub(crate) mod http;
pub(crate) mod inbox;
pub(crate) mod log;
pub(crate) mod registry;
pub(crate) mod running;
pub(crate) mod runtime;
pub(crate) mod spending;
pub(crate) mod stats;
pub(crate) mod tool;
pub(crate) mod tool_definition;
pub(crate) mod watchdog;
