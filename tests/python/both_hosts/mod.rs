//! The tests that hold for both hosts, over the one that `TOWER_DSPY_TEST_HOST` names.
//!
//! Where the two differ by design, a test asks [`in_a_worker`](crate::support::in_a_worker) and holds
//! each to its own.

mod blocked;
mod budgets;
mod bypassed;
mod cancel;
mod costs;
mod errors;
mod failover;
mod flow;
mod http_requests;
mod inputs;
mod lifecycle;
mod limits;
mod lm_calls;
mod lm_errors;
mod lms;
mod lms_in_forward;
mod loading;
mod logs;
mod lone_surrogates;
mod metrics;
mod migrated;
mod outputs;
mod own_call;
mod partial;
mod patterns;
mod paused_time;
mod predictor_lms;
mod processes;
mod program_state;
mod providers;
mod rag;
mod random_drops;
mod recorded;
mod refused_lms;
mod refused_loads;
mod reloads;
mod secrets;
mod service;
mod settings;
mod settled;
mod signals;
mod spent;
mod stack;
mod stray_tasks;
mod streams;
mod sync_matrix;
mod sync_programs;
mod sys_exit;
#[cfg(feature = "pyo3-async-runtimes")]
mod task_locals;
mod tenants;
mod threads;
mod token_rate;
mod tools;
mod traffic;
mod waits;
mod watchdog;
