//! The standard stack: all layers, in the order in which they belong, written once.
//!
//! [`StandardStack`] is the stack as one layer, [`StackConfig`](crate::StackConfig) is its configuration, for a file.

mod budget;
mod check;
pub(crate) mod config;
mod form;
mod parts;
mod retry;
pub(crate) mod standard;

#[cfg(feature = "stale")]
pub use self::parts::StaleConfig;
pub(crate) use self::standard::StandardStack;
pub use self::{
    budget::CallBudgetConfig,
    check::ConfigError,
    parts::{FallbackConfig, HedgeConfig},
    retry::{BackoffConfig, BudgetConfig, RetryConfig},
};
pub use crate::layers::retry::BackoffKind;
