//! The suite of `tests/python` once more, with the programs in a worker process: the same has to
//! hold. Where it is to differ, [`support::in_a_worker`] asks, and what holds instead is written
//! beside it. What holds of each program of the corpus in a worker is a column of its own there
//! (nasty_workers.rs), so that is not run again.

#[path = "../python/support.rs"]
mod support;

#[path = "../python/blocked.rs"]
mod blocked;
#[path = "../python/blocker.rs"]
mod blocker;
#[path = "../python/bypassed.rs"]
mod bypassed;
#[path = "../python/cancel.rs"]
mod cancel;
#[path = "../python/captured.rs"]
mod captured;
#[path = "../python/errors.rs"]
mod errors;
#[path = "../python/escape.rs"]
mod escape;
#[path = "../python/exits.rs"]
mod exits;
#[path = "../python/http.rs"]
mod http;
#[path = "../python/inputs.rs"]
mod inputs;
#[path = "../python/lifecycle.rs"]
mod lifecycle;
#[path = "../python/limits.rs"]
mod limits;
#[path = "../python/lm_calls.rs"]
mod lm_calls;
#[path = "../python/lm_errors.rs"]
mod lm_errors;
#[path = "../python/lms.rs"]
mod lms;
#[path = "../python/loading.rs"]
mod loading;
#[path = "../python/logs.rs"]
mod logs;
#[path = "../python/made_inside.rs"]
mod made_inside;
#[path = "../python/outputs.rs"]
mod outputs;
#[path = "../python/own_lm.rs"]
mod own_lm;
#[path = "../python/partial.rs"]
mod partial;
#[path = "../python/patterns.rs"]
mod patterns;
#[path = "../python/paused.rs"]
mod paused;
#[path = "../python/refused_loads.rs"]
mod refused_loads;
#[path = "../python/reloads.rs"]
mod reloads;
#[path = "../python/scope.rs"]
mod scope;
#[path = "../python/service.rs"]
mod service;
#[path = "../python/settings.rs"]
mod settings;
#[path = "../python/signals.rs"]
mod signals;
#[path = "../python/spent.rs"]
mod spent;
#[path = "../python/stack.rs"]
mod stack;
#[path = "../python/state.rs"]
mod state;
#[path = "../python/storm.rs"]
mod storm;
#[path = "../python/strays.rs"]
mod strays;
#[path = "../python/surrogates.rs"]
mod surrogates;
#[path = "../python/sync.rs"]
mod sync;
#[path = "../python/tenants.rs"]
mod tenants;
#[path = "../python/threads.rs"]
mod threads;
#[path = "../python/tools.rs"]
mod tools;
#[path = "../python/traffic/mod.rs"]
mod traffic;
#[path = "../python/watchdog.rs"]
mod watchdog;
