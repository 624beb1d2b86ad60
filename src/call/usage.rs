//! Tokens of LM calls.

/// Tokens, as the LM provider counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens of the prompts, those read from a cache too.
    pub prompt_tokens: u64,
    /// Tokens of the answers, those of their reasoning too.
    pub completion_tokens: u64,
    /// The provider's total.
    pub total_tokens: u64,
    /// Those of the prompts that were read from a cache. As JSON it is left out if it is 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub cached_tokens: u64,
    /// Those of the answers that are reasoning. As JSON it is left out if it is 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub reasoning_tokens: u64,
}

impl Usage {
    /// Adds the tokens of `other`.
    pub fn add(&mut self, other: Self) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.prompt_tokens, other.prompt_tokens);
        add(&mut self.completion_tokens, other.completion_tokens);
        add(&mut self.total_tokens, other.total_tokens);
        add(&mut self.cached_tokens, other.cached_tokens);
        add(&mut self.reasoning_tokens, other.reasoning_tokens);
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}
