//! The layers, over mock services and under paused time.

mod cancel;
mod deadline;
mod nested;
mod support;
mod timeout;
