//! The layers, over mock services and under paused time.

mod budget;
mod builder;
mod cancel;
mod deadline;
mod fallback;
mod nested;
mod retry;
mod script;
mod support;
mod timeout;
