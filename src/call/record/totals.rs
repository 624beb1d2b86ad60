//! [`Totals`]: counters over the LM calls of many calls, to which each attempt reports its own.

use super::LmCall;
use crate::call::Usd;
#[cfg(any(feature = "_host", test))]
use crate::call::{Cost, Usage};

/// Totals of LM calls, over many calls.
pub(crate) trait Totals: Send + Sync {
    /// An LM call begins. Called under the lock of the record, so it only counts: the end comes after it.
    fn lm_call_begun(&self, call: &LmCall);

    /// An LM call has ended, by itself or with the call that it was made for.
    fn lm_call_ended(&self, call: &LmCall);

    /// DSPy found tokens in the answer to an LM call that has ended and had none. `before` is the cost
    /// that it had until then.
    #[cfg(any(feature = "_host", test))]
    fn counted_by_dspy(&self, call: &LmCall, usage: Usage, before: Cost);

    /// The answer to an LM call came after the end of its attempt.
    fn answered_too_late(&self, late: LateAnswer<'_>);

    /// The provider of `lm`, by its name and the model's, was asked to abort an LM call: it accepted
    /// that, or the request failed.
    fn abort_ended(&self, lm: (&str, &str), is_accepted: bool);
}

/// An answer of an LM that came after the end of the attempt that it was for.
#[cfg_attr(
    not(feature = "_host"),
    expect(dead_code, reason = "a host tells them apart by their LM")
)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct LateAnswer<'a> {
    pub(crate) provider: &'a str,
    pub(crate) model: &'a str,
    pub(crate) tokens: u64,
    /// What it cost beyond what the record has, as far as that is known.
    pub(crate) usd: Usd,
}
