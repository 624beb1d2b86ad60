//! The layers, over mock services and under paused time.

mod allot;
mod attempts;
mod backoff;
mod budget;
mod builder;
mod cancel;
mod deadline;
mod fallback;
mod hedge;
mod hedge_costs;
mod latency;
mod nested;
mod reserve;
mod retry;
mod retry_ends;
mod script;
mod support;
mod timeout;
