//! Tools for tests: a mock of the DSPy service, a guard for paused time, a scripted LM.
//!
//! | the test is about | use | clock |
//! |---|---|---|
//! | your stack: limits, retries, fallbacks, what a caller gets | [`MockDspy`](mock::MockDspy) | paused |
//! | your stack around something that works on another thread | [`MockDspy`](mock::MockDspy) or it, and [`OutsideWork`] | paused |
//! | your programs, and what reaches the LM | [`ScriptedLm`](scripted_lm::ScriptedLm) | real |
//!
//! [`error_of`] makes an [`Error`](crate::Error) of any kind.

mod errors;
pub mod mock;
mod outside;
pub mod scripted_lm;

pub use errors::error_of;
pub use outside::OutsideWork;
