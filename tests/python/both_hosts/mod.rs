//! The tests that hold for both hosts, over the one that `TOWER_DSPY_TEST_HOST` names.
//!
//! Where the two differ by design, a test asks [`in_a_worker`](crate::support::in_a_worker) and holds
//! each to its own.

mod blocked;
mod bypassed;
mod cancel;
mod errors;
#[cfg(feature = "pyo3-async-runtimes")]
mod escape;
mod exits;
mod http;
mod inputs;
mod lifecycle;
mod limits;
mod lm_calls;
mod lm_errors;
mod lms;
mod loading;
mod logs;
mod made_inside;
mod outputs;
mod own_lm;
mod partial;
mod patterns;
mod paused;
mod refused_loads;
mod reloads;
mod scope;
mod service;
mod settings;
mod signals;
mod spent;
mod stack;
mod state;
mod storm;
mod strays;
mod surrogates;
mod sync;
mod tenants;
mod threads;
mod tools;
mod traffic;
mod watchdog;
