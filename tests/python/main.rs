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
//! No test waits by sleeping: the order of events is set by gates, in the LM and in Python, and
//! what is to happen is waited for until it does.

mod blocker;
mod captured;
mod support;

mod both_hosts;
mod children;
mod deep;
mod grpc;
mod handlers;
mod nasty;
mod nasty_workers;
mod queue;
mod serving;
mod venv;
mod worker_keys;
mod workers;
mod workers_end;
mod workers_fork;
mod workers_replace;
mod workers_wear;
