//! An estimate of the tokens of an LM call that is about to be sent.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::{LmRequest, embedding::asks_for_embeddings};

/// Bytes of a request for a token of its prompt. English text has about 4.5, other languages and JSON
/// fewer.
const BYTES_OF_TOKEN: u64 = 3;
/// The tokens of an image, which its length does not tell: providers count its pixels.
const MEDIA_TOKENS: u64 = 1500;
/// The tokens of an answer, while none has come.
const FIRST: u64 = 1024;

/// Tokens that an LM call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokenEstimate {
    pub(super) prompt: u64,
    pub(super) completion: u64,
}

impl TokenEstimate {
    /// The tokens of the prompt of `request`, by its length.
    pub(super) fn prompt_of(request: &LmRequest) -> u64 {
        let body = request.body();
        let (mut bytes, mut media, mut begin) = (body.len(), 0, 0);
        for end in memchr::memchr_iter(b'"', body) {
            let text = &body[begin..end];
            if is_media(text) {
                bytes -= text.len();
                media += 1;
            }
            begin = end + 1;
        }
        (bytes as u64).div_ceil(BYTES_OF_TOKEN) + media * MEDIA_TOKENS
    }

    pub(super) const fn total(self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }
}

/// The tokens that an LM's answers took lately: the most of them, of which each answer that took
/// fewer takes off an eighth.
#[derive(Debug)]
pub(super) struct CompletionHistory(AtomicU64);

impl Default for CompletionHistory {
    fn default() -> Self {
        Self(AtomicU64::new(FIRST))
    }
}

impl CompletionHistory {
    /// An answer took so many tokens.
    pub(super) fn record(&self, tokens: u64) {
        let update = |known: u64| Some(tokens.max(known - known / 8));
        // It never fails, as `update` always returns a number.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    /// The tokens that `request` may take: of its prompt by its length, of its answer what others took
    /// lately, or the most that it asks for if that is less.
    pub(super) fn estimate(&self, request: &LmRequest) -> TokenEstimate {
        let body = request.body();
        let lately = self.0.load(Ordering::Relaxed);
        let completion = match asks_for_embeddings(request) {
            true => 0,
            false => maximum(body).map_or(lately, |most| most.min(lately)),
        };
        let prompt = TokenEstimate::prompt_of(request);
        TokenEstimate { prompt, completion }
    }
}

/// Whether a string is an image, or another file, in base64.
fn is_media(text: &[u8]) -> bool {
    const LEAST: usize = 2048;
    // A text has spaces, and a URL of data has its type at the beginning.
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(byte);
    text.len() >= LEAST && text[text.len() - LEAST / 2..].iter().all(is_base64)
}

/// The most tokens that a request allows its answer, in any dialect.
fn maximum(body: &[u8]) -> Option<u64> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let groups = [
        Some(&body),
        body.get("generationConfig"),
        body.get("inferenceConfig"),
    ];
    let names = [
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "maxOutputTokens",
        "maxTokens",
    ];
    let mut groups = groups.into_iter().flatten();
    groups.find_map(|group| names.iter().find_map(|name| group.get(*name)?.as_u64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, body: &'static str) -> LmRequest {
        let request = http::Request::post(format!("http://localhost{path}"));
        request.body(body.into()).expect("a request")
    }

    #[test]
    fn an_answer_is_estimated_by_those_before_it_and_by_the_limit_of_the_request() {
        let history = CompletionHistory::default();
        let plain = request("/v1/chat/completions", r#"{"messages": []}"#);
        assert_eq!(history.estimate(&plain).completion, FIRST);
        history.record(4000);
        assert_eq!(history.estimate(&plain).completion, 4000);
        history.record(10);
        assert_eq!(history.estimate(&plain).completion, 3500);
        for limited in [
            r#"{"max_tokens": 7}"#,
            r#"{"max_completion_tokens": 7}"#,
            r#"{"max_output_tokens": 7}"#,
            r#"{"generationConfig": {"maxOutputTokens": 7}}"#,
            r#"{"inferenceConfig": {"maxTokens": 7}}"#,
        ] {
            let limited = request("/v1", limited);
            assert_eq!(history.estimate(&limited).completion, 7);
        }
    }

    #[test]
    fn an_image_is_not_estimated_by_its_length() {
        let image = "iVBORw0KGgo/".repeat(10_000);
        let text = "a word ".repeat(1000);
        let of = |body: String| {
            let request = http::Request::post("http://localhost/v1");
            TokenEstimate::prompt_of(&request.body(body.into()).expect("a request"))
        };
        for data in [format!("data:image/png;base64,{image}"), image.clone()] {
            let body = format!(r#"{{"text":"{text}","image":"{data}"}}"#);
            let rest = body.len() - data.len();
            assert_eq!(of(body), (rest as u64).div_ceil(3) + 1500);
        }
        assert_eq!(
            of(format!(r#"{{"text":"{text}"}}"#)),
            (7000 + 11_u64).div_ceil(3)
        );
    }

    #[test]
    fn an_embedding_has_no_answer_in_tokens() {
        let history = CompletionHistory::default();
        let estimate = history.estimate(&request("/v1/embeddings", r#"{"input": ["a"]}"#));
        assert_eq!((estimate.prompt, estimate.completion), (6, 0));
    }
}
