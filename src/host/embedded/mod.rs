//! The interpreter in this process: its thread, the dispatch of commands on its loop, the port that
//! Python calls, and conversions.

mod convert;
mod dispatch;
mod event_listeners;
mod exception;
mod exchange;
mod ffi;
mod import;
mod interpreter;
mod launch;
mod port;
mod port_call;
mod port_load;
mod port_state;
mod settings;
mod text;

pub use settings::Embedded;

pub(super) use self::{ffi::linked_version, launch::launch};
