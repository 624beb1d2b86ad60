//! The tokens of a completion.

use serde::Serialize;

use crate::call::Usage;

/// The `usage` of a completion. The details are left out where they are 0.
#[derive(Serialize)]
pub(super) struct CompletionUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: u64,
}

#[derive(Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

impl From<Usage> for CompletionUsage {
    fn from(usage: Usage) -> Self {
        let (cached_tokens, reasoning_tokens) = (usage.cached_tokens, usage.reasoning_tokens);
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.total_tokens,
            prompt_tokens_details: (cached_tokens > 0).then_some(PromptDetails { cached_tokens }),
            completion_tokens_details: (reasoning_tokens > 0)
                .then_some(CompletionDetails { reasoning_tokens }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::*;

    #[test]
    fn cached_and_reasoning_tokens_are_details() {
        let mut usage = Usage {
            prompt_tokens: 9,
            completion_tokens: 2,
            total_tokens: 11,
            ..Usage::default()
        };
        let plain = json!({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11});
        assert_eq!(to_value(CompletionUsage::from(usage)).unwrap(), plain);
        (usage.cached_tokens, usage.reasoning_tokens) = (4, 1);
        let mut detailed = plain;
        detailed["prompt_tokens_details"] = json!({"cached_tokens": 4});
        detailed["completion_tokens_details"] = json!({"reasoning_tokens": 1});
        assert_eq!(to_value(CompletionUsage::from(usage)).unwrap(), detailed);
    }
}
