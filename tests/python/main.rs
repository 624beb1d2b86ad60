//! Tests with real DSPy, a real HTTP server as the LM, and a real clock.
//!
//! The modules in `both_hosts` hold for the embedded interpreter and for worker processes. They are
//! run once over each:
//!
//! ```sh
//! cargo test --test python
//! TOWER_DSPY_TEST_HOST=workers cargo test --test python both_hosts::
//! ```
//!
//! The order of events is set by gates, in the LM and in Python, and what is to happen is waited for
//! until it does. A test sleeps only where a limit has to pass, or where nothing tells that something has
//! come.

mod blocker;
mod captured_log;
mod held_import;
mod support;

mod both_hosts;
mod child_processes;
mod grpc;
mod nasty;
mod nasty_workers;
mod queued_calls;
mod serving;
mod set_up;
mod signal_handlers;
mod stack_depth;
mod worker_keys;
mod workers;
mod workers_exit;
mod workers_fork;
mod workers_limits;
mod workers_recycle;
mod workers_replace;
mod wrong_venv;
