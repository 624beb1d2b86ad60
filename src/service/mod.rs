//! A program as a tower service: what the innermost service of a stack does with a call.
//!
//! `admission`, `lm_names` and `termination` are shared with the mock that stands for a program in tests,
//! so that the two cannot differ.

#[cfg(any(feature = "_host", feature = "test-util"))]
pub(crate) mod admission;
#[cfg(feature = "_host")]
pub(crate) mod dspy;
#[cfg(feature = "_host")]
mod function;
#[cfg(feature = "_host")]
mod future;
#[cfg(any(feature = "_host", feature = "test-util"))]
pub(crate) mod lm_names;
#[cfg(feature = "_host")]
pub(crate) mod lm_probe;
#[cfg(feature = "_host")]
mod load;
#[cfg(feature = "_host")]
pub(crate) mod load_error;
#[cfg(feature = "_host")]
mod load_spec;
#[cfg(any(feature = "_host", feature = "test-util"))]
mod meant;
#[cfg(feature = "_host")]
mod prediction_events;
#[cfg(feature = "_host")]
mod program;
#[cfg(feature = "workers")]
mod replace;
#[cfg(feature = "_host")]
mod schema;
#[cfg(feature = "_host")]
pub(crate) mod streaming;
#[cfg(feature = "_host")]
mod target;
#[cfg(any(feature = "_host", feature = "test-util"))]
mod tenant_permits;
pub(crate) mod termination;
#[cfg(feature = "_host")]
mod typed;

#[cfg(feature = "openapi")]
pub(crate) use schema::JsonType;
#[cfg(feature = "_host")]
pub(crate) use {
    dspy::DspyService,
    load_error::{LoadError, LoadErrorKind},
};
#[cfg(feature = "_host")]
#[cfg_attr(docsrs, doc(cfg(any(feature = "python", feature = "workers"))))]
pub use {
    function::Function,
    future::PredictFuture,
    load::Load,
    schema::{InputField, Schema},
    typed::Typed,
};

/// The default number of calls that run at once.
#[cfg(any(feature = "_host", feature = "test-util"))]
pub(crate) const MAX_IN_FLIGHT: usize = 64;
/// The default number of calls that wait for admission.
#[cfg(any(feature = "_host", feature = "test-util"))]
pub(crate) const MAX_WAITING: usize = 1024;
