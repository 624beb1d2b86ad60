//! The layers, each against a service that follows a script, in paused time.

mod budget;
mod retry;
mod script;
