//! Real DSPy, a real HTTP server as the LM, a real clock.
//!
//! No test waits by sleeping: the order of events is set by gates, in the LM and in Python, and
//! what is to happen is waited for until it does.

mod support;

mod blocked;
mod blocker;
mod bypassed;
mod cancel;
mod captured;
mod children;
mod deep;
mod errors;
mod escape;
mod exits;
mod grpc;
mod handlers;
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
mod nasty;
mod nasty_workers;
mod outputs;
mod own_lm;
mod partial;
mod patterns;
mod paused;
mod queue;
mod refused_loads;
mod reloads;
mod scope;
mod service;
mod serving;
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
mod venv;
mod watchdog;
mod worker_keys;
mod workers;
mod workers_end;
mod workers_fork;
mod workers_replace;
mod workers_wear;
