//! The layers, over mock services and under paused time.

mod backoff;
mod batch;
mod budget;
mod builder;
mod cancel;
mod deadline;
mod fallback;
mod nested;
mod patterns_call;
mod patterns_config;
mod patterns_executor;
mod patterns_graceful;
mod patterns_limit;
mod patterns_prediction;
mod patterns_race;
mod reserve;
mod retry;
mod retry_ends;
mod script;
mod session;
mod support;
mod timeout;
mod watched;
