//! The emission of metrics, where what they count happens. Without feature `metrics` each function
//! is empty.
//!
//! Only tracked calls have their handles cached: a layer may answer in less time than a recorder
//! takes to find one.

#[cfg(feature = "metrics")]
mod bounded_names;
#[cfg(feature = "metrics")]
mod call_handles;
#[cfg(all(feature = "metrics", any(feature = "_host", feature = "lm")))]
#[cfg_attr(
    not(feature = "_host"),
    allow(dead_code, reason = "a host emits most metrics")
)]
mod cost;
#[cfg(not(feature = "metrics"))]
mod disabled;
#[cfg(feature = "metrics")]
#[cfg_attr(
    not(feature = "_host"),
    allow(dead_code, reason = "a host emits most metrics")
)]
mod emit;
#[cfg(all(feature = "metrics", any(feature = "_host", feature = "lm")))]
#[cfg_attr(
    not(feature = "_host"),
    allow(dead_code, reason = "a host emits most metrics")
)]
mod gen_ai;
mod labels;
#[cfg(feature = "metrics")]
#[cfg_attr(
    not(feature = "_host"),
    allow(dead_code, reason = "a host emits most metrics")
)]
mod ours;

#[cfg(all(feature = "metrics", feature = "_host"))]
pub(crate) use call_handles::watch_calls;
#[cfg(all(feature = "metrics", feature = "_host"))]
pub(crate) use cost::late_cost;
#[cfg(not(feature = "metrics"))]
pub(crate) use disabled::*;
#[cfg(all(feature = "metrics", any(feature = "_host", feature = "lm")))]
pub(crate) use gen_ai::*;
#[cfg(feature = "metrics")]
pub(crate) use {
    call_handles::{cache_recorder, call_ended},
    emit::*,
    ours::*,
};

pub(crate) use labels::error_type;
pub(crate) use labels::{CallLabels, EndedCall, TokenFate};
