//! The body of a request for a chat completion.

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{
    super::chat::{ChatMessage, ChatRole},
    error::OpenAiError,
};
use crate::{error::cut, inbound::respond::ErrorResponse};

/// What a client asks for.
#[derive(Debug)]
pub(super) struct ChatCompletionRequest {
    pub(super) model: String,
    pub(super) messages: Vec<ChatMessage>,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
}

#[derive(Deserialize)]
struct RequestBody {
    model: String,
    messages: Vec<Message>,
    stream: Option<bool>,
    stream_options: Option<StreamOptionsBody>,
    n: Option<u64>,
    tools: Option<Vec<Value>>,
    functions: Option<Vec<Value>>,
    response_format: Option<ResponseFormat>,
}

#[derive(Deserialize)]
struct StreamOptionsBody {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: Option<Content>,
    tool_calls: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

impl ChatCompletionRequest {
    pub(super) fn read(body: &Value) -> Result<Self, OpenAiError> {
        let body = RequestBody::deserialize(body).map_err(|error| {
            let wrong = cut(&error.to_string()).into_owned();
            OpenAiError::of(ErrorResponse::refused(StatusCode::BAD_REQUEST, wrong))
        })?;
        if body.tools.is_some_and(|tools| !tools.is_empty()) {
            return Err(OpenAiError::invalid("tools", NO_TOOLS));
        }
        if body
            .functions
            .is_some_and(|functions| !functions.is_empty())
        {
            return Err(OpenAiError::invalid("functions", NO_TOOLS));
        }
        if body.n.is_some_and(|n| n != 1) {
            let wrong = "there is one choice: a program has one answer";
            return Err(OpenAiError::invalid("n", wrong));
        }
        if body
            .response_format
            .is_some_and(|format| format.kind != "text")
        {
            let wrong = "only the format `text` is taken: a program has outputs of its own";
            return Err(OpenAiError::invalid("response_format", wrong));
        }
        let messages = body.messages.into_iter().map(text);
        Ok(Self {
            model: body.model,
            messages: messages.collect::<Result<_, _>>()?,
            stream: body.stream.unwrap_or(false),
            include_usage: body
                .stream_options
                .and_then(|options| options.include_usage)
                .unwrap_or(false),
        })
    }
}

const NO_TOOLS: &str = "tools of the client are not taken: a program has its own";

fn text(message: Message) -> Result<ChatMessage, OpenAiError> {
    let wrong = |wrong: &str| OpenAiError::invalid("messages", wrong);
    let role = match &*message.role {
        "user" => ChatRole::User,
        "assistant" => ChatRole::Assistant,
        "system" | "developer" => ChatRole::System,
        "tool" | "function" => return Err(wrong(NO_TOOLS)),
        _ => return Err(wrong("a role is not known")),
    };
    if message.tool_calls.is_some_and(|calls| !calls.is_empty()) {
        return Err(wrong(NO_TOOLS));
    }
    let text = match message.content {
        None => return Err(wrong("a message has no content")),
        Some(Content::Text(text)) => text,
        Some(Content::Parts(parts)) => {
            let mut text = String::new();
            for part in parts {
                match (&*part.kind, part.text) {
                    ("text", Some(part)) => text.push_str(&part),
                    _ => return Err(wrong("only parts of type `text` are taken")),
                }
            }
            text
        }
    };
    Ok(ChatMessage { role, text })
}
