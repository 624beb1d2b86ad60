//! A request in the dialect of its provider, as far as DSPy speaks it.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use serde_json::Value;
use thiserror::Error;

use super::{embeddings, prompt};

/// A provider's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// OpenAI's chat completions.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    /// Gemini's `generateContent` and `streamGenerateContent`.
    Gemini,
}

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endpoint<'a> {
    pub(super) dialect: Dialect,
    /// Whether it makes vectors of texts, and no answer.
    embeds: bool,
    /// The model and whether its answer is to be streamed, where the path says so and not the body.
    named: Option<(&'a str, bool)>,
}

impl<'a> Endpoint<'a> {
    /// The endpoint at `path`, below the base URL's own path.
    pub(super) fn at(path: &'a str) -> Option<Self> {
        let (dialect, named) = match path {
            "/chat/completions" | "/embeddings" => (Dialect::OpenAi, None),
            "/messages" => (Dialect::Anthropic, None),
            path => {
                let (model, method) = path.strip_prefix("/models/")?.rsplit_once(':')?;
                let streams = match method {
                    "generateContent" => false,
                    "streamGenerateContent" => true,
                    _ => return None,
                };
                (Dialect::Gemini, Some((model, streams)))
            }
        };
        Some(Self {
            dialect,
            embeds: path == "/embeddings",
            named,
        })
    }
}

/// A body that is no request of its dialect.
#[derive(Debug, Error)]
pub(super) enum BadRequest {
    #[error("the request body is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("the request body has no string `model`")]
    NoModel,
    #[error("the request body has no list of `{0}`")]
    NoMessages(&'static str),
    #[error("the request body has no `input`: a text or a list of texts")]
    NoTexts,
}

/// A request for an answer.
#[derive(Debug)]
pub(super) struct ChatRequest {
    pub(super) dialect: Dialect,
    pub(super) body: Arc<Value>,
    pub(super) model: String,
    pub(super) streams: bool,
    /// Whether it is for embeddings, which have neither messages nor a stream.
    pub(super) embeds: bool,
}

impl ChatRequest {
    pub(super) fn parse(endpoint: &Endpoint<'_>, body: &[u8]) -> Result<Self, BadRequest> {
        let body: Value = serde_json::from_slice(body)?;
        let dialect = endpoint.dialect;
        let (model, streams) = match endpoint.named {
            Some((model, streams)) => (model.to_owned(), streams),
            None => {
                let model = body["model"].as_str().ok_or(BadRequest::NoModel)?;
                (model.to_owned(), body["stream"] == true)
            }
        };
        let messages = dialect.messages();
        if endpoint.embeds && embeddings::texts(&body).is_none() {
            return Err(BadRequest::NoTexts);
        } else if !endpoint.embeds && !body[messages].is_array() {
            return Err(BadRequest::NoMessages(messages));
        }
        Ok(Self {
            dialect,
            body: Arc::new(body),
            model,
            streams,
            embeds: endpoint.embeds,
        })
    }

    /// Whether a stream is to tell its usage; the other dialects always do.
    pub(super) fn wants_usage(&self) -> bool {
        self.body["stream_options"]["include_usage"] == true
    }

    /// Whether the content has to be a JSON object.
    fn wants_json(&self) -> bool {
        let format = match self.dialect {
            Dialect::OpenAi => &self.body["response_format"]["type"],
            Dialect::Anthropic => &self.body["output_config"]["format"]["type"],
            Dialect::Gemini => &self.body["generationConfig"]["responseMimeType"],
        };
        let format = format.as_str();
        matches!(
            format,
            Some("json_object" | "json_schema" | "application/json")
        ) || prompt::wants_json(&self.prompt())
    }

    pub(super) fn render(&self, fields: &[(String, String)]) -> String {
        prompt::render(fields, self.wants_json())
    }

    pub(super) fn echo(&self) -> String {
        prompt::echo(&self.prompt(), self.wants_json())
    }

    fn prompt(&self) -> String {
        self.texts().last().unwrap_or_default()
    }

    /// The text of each message.
    pub(super) fn texts(&self) -> impl DoubleEndedIterator<Item = String> {
        let messages = self.body[self.dialect.messages()].as_array();
        messages.into_iter().flatten().map(text)
    }
}

impl Dialect {
    /// The field that holds the messages.
    const fn messages(self) -> &'static str {
        match self {
            Self::OpenAi | Self::Anthropic => "messages",
            Self::Gemini => "contents",
        }
    }

    /// The header that holds the key, marked so that `Debug` does not print it.
    pub(super) fn credential(self, headers: &HeaderMap) -> Option<HeaderValue> {
        let mut value = match self {
            Self::OpenAi => headers.get(AUTHORIZATION),
            Self::Anthropic => headers.get("x-api-key"),
            Self::Gemini => headers.get("x-goog-api-key"),
        }?
        .clone();
        value.set_sensitive(true);
        Some(value)
    }
}

/// The text of a message, whose content is a string or a list of parts.
fn text(message: &Value) -> String {
    let content = message.get("content").or(message.get("parts"));
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(|p| p["text"].as_str()).collect(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(path: &str) -> Endpoint<'_> {
        Endpoint::at(path).unwrap()
    }

    #[test]
    fn a_path_names_its_dialect() {
        assert_eq!(endpoint("/messages").dialect, Dialect::Anthropic);
        let gemini = endpoint("/models/a:b:streamGenerateContent");
        assert_eq!(gemini.named, Some(("a:b", true)));
        assert_eq!(Endpoint::at("/models/a:countTokens"), None);
        assert_eq!(Endpoint::at("/responses"), None);
    }

    #[test]
    fn a_malformed_request_is_refused_with_the_reason() {
        let refused = |path: &str, body: &str| {
            ChatRequest::parse(&endpoint(path), body.as_bytes()).unwrap_err()
        };
        let openai = "/chat/completions";
        assert!(matches!(refused(openai, "{"), BadRequest::NotJson(_)));
        assert!(matches!(refused(openai, "3"), BadRequest::NoModel));
        let body = r#"{"model": "m"}"#;
        assert!(matches!(
            refused(openai, body),
            BadRequest::NoMessages("messages")
        ));
        assert!(matches!(refused("/embeddings", body), BadRequest::NoTexts));
        assert!(matches!(
            refused("/models/m:generateContent", body),
            BadRequest::NoMessages("contents")
        ));
    }

    #[test]
    fn the_echo_reads_contents_made_of_parts() {
        let parts = r#"[{"type": "text", "text": "pi"}, {"type": "text", "text": "ng"}]"#;
        for (path, body) in [
            (
                "/chat/completions",
                format!(r#"{{"model": "m", "messages": [{{"content": {parts}}}]}}"#),
            ),
            (
                "/models/m:generateContent",
                format!(r#"{{"contents": [{{"parts": {parts}}}]}}"#),
            ),
        ] {
            let request = ChatRequest::parse(&endpoint(path), body.as_bytes()).unwrap();
            assert_eq!(request.echo(), "You said: ping");
        }
    }
}
