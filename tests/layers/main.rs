//! The layers, each against a service that follows a script, in paused time.

mod budget;
mod builder;
mod fallback;
mod retry;
mod script;
