//! The layers, over mock services and under paused time.

mod backoff;
mod budget;
mod builder;
mod cancel;
mod deadline;
mod fallback;
mod nested;
mod ready;
mod reserve;
mod retry;
mod retry_ends;
mod script;
mod shutdown;
mod shutdown_races;
mod support;
mod timeout;
mod track;
mod track_races;
mod track_span;
