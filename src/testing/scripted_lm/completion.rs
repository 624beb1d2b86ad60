//! [`Completion`]: an answer, in no dialect yet.

use serde_json::Value;

use super::{
    Reply,
    request::{ChatRequest, Dialect},
    split::Split,
};

/// An answer.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) dialect: Dialect,
    pub(super) id: String,
    pub(super) model: String,
    pub(super) text: String,
    split: Split,
    /// The deltas of the thinking before the text.
    pub(super) thoughts: Vec<String>,
    /// Without those of the cache.
    pub(super) prompt_tokens: usize,
    pub(super) cached_tokens: usize,
    pub(super) reasoning_tokens: usize,
    pub(super) wants_usage: bool,
}

impl Completion {
    pub(super) fn new(request: &ChatRequest, n: usize, reply: &Reply, text: String) -> Self {
        let prompt_tokens = request.texts().map(|text| Split::Words.tokens(&text).len());
        Self {
            dialect: request.dialect,
            id: format!("scripted-{}-{n}", request.model),
            model: request.model.clone(),
            text,
            split: reply.split.clone(),
            thoughts: reply.thoughts().to_vec(),
            prompt_tokens: prompt_tokens.sum(),
            cached_tokens: reply.cached_tokens,
            reasoning_tokens: reply.reasoning_tokens,
            wants_usage: request.wants_usage(),
        }
    }

    pub(super) fn tokens(&self) -> Vec<&str> {
        self.split.tokens(&self.text)
    }
}

/// A server-sent event.
pub(super) fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}
