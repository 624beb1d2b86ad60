//! [`Completion`]: an answer, in no dialect yet.

use serde_json::Value;

use super::request::{ChatRequest, Dialect};

/// An answer.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) dialect: Dialect,
    pub(super) id: String,
    pub(super) model: String,
    pub(super) text: String,
    pub(super) prompt_tokens: usize,
    pub(super) wants_usage: bool,
}

impl Completion {
    pub(super) fn new(request: &ChatRequest, n: usize, text: String) -> Self {
        let prompt_tokens = request.texts().map(|text| tokens(&text).len());
        Self {
            dialect: request.dialect,
            id: format!("scripted-{}-{n}", request.model),
            model: request.model.clone(),
            text,
            prompt_tokens: prompt_tokens.sum(),
            wants_usage: request.wants_usage(),
        }
    }

    pub(super) fn tokens(&self) -> Vec<&str> {
        tokens(&self.text)
    }
}

/// A server-sent event.
pub(super) fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

/// Cuts a text into words, each with the space before it; together they are the text.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.trim_start();
        let space = rest.len() - word.len();
        let end = word.find(char::is_whitespace).unwrap_or(word.len());
        let (token, after) = rest.split_at(space + end);
        tokens.push(token);
        rest = after;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tokens_concatenate_to_the_text() {
        assert_eq!(tokens("a  b\n\nç "), ["a", "  b", "\n\nç", " "]);
        assert_eq!(tokens(" "), [" "]);
        assert!(tokens("").is_empty());
    }
}
