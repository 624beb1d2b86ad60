//! The emission of metrics, where what they count happens. Without feature `metrics` each function
//! is empty.
//!
//! Only tracked calls have their handles cached: a layer may answer in less time than a recorder
//! takes to find one.

#[cfg(feature = "metrics")]
mod bounded_names;
#[cfg(feature = "metrics")]
mod call_handles;
#[cfg(not(feature = "metrics"))]
mod disabled;
#[cfg(feature = "metrics")]
mod emit;
#[cfg(feature = "metrics")]
mod gen_ai;
mod labels;
#[cfg(feature = "metrics")]
mod ours;

#[cfg(not(feature = "metrics"))]
pub(crate) use disabled::*;
#[cfg(feature = "metrics")]
pub(crate) use {call_handles::call_ended, emit::*, gen_ai::*, ours::*};

pub(crate) use labels::error_type;
pub(crate) use labels::{CallLabels, EndedCall, TokenFate};
