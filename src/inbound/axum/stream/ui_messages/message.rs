//! The messages that `useChat` sends.

use serde::Deserialize;
use serde_json::Value;

use super::super::chat::{ChatFields, ChatMessage, ChatRole, value_text};
use crate::error::cut;

#[derive(Deserialize)]
struct UiChat {
    messages: Vec<UiMessage>,
}

#[derive(Deserialize)]
struct UiMessage {
    role: String,
    parts: Vec<UiPart>,
}

#[derive(Deserialize)]
struct UiPart {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    data: Option<Value>,
}

/// The messages in the body of a request, or what is wrong with it.
pub(super) fn read(body: &Value, fields: &ChatFields) -> Result<Vec<ChatMessage>, String> {
    let chat = UiChat::deserialize(body).map_err(|error| cut(&error.to_string()).into_owned())?;
    let messages = chat.messages.into_iter();
    messages.map(|message| text(message, fields)).collect()
}

fn text(message: UiMessage, fields: &ChatFields) -> Result<ChatMessage, String> {
    let role = match &*message.role {
        "user" => ChatRole::User,
        "assistant" => ChatRole::Assistant,
        "system" => ChatRole::System,
        other => return Err(format!("the role `{}` is not known", cut(other))),
    };
    let mut text = String::new();
    let mut answer = None;
    for part in message.parts {
        match &*part.kind {
            "text" => text.push_str(&part.text.ok_or("a part of type `text` has no `text`")?),
            // What the program answered, without the drafts that may have been shown before it.
            "data-prediction" if role == ChatRole::Assistant => {
                let output = part
                    .data
                    .as_ref()
                    .and_then(|data| data.get("outputs")?.get(&*fields.answer).map(value_text));
                answer = output.or(answer);
            }
            "file" if role == ChatRole::User => {
                return Err("files are not taken: only parts of type `text`".to_owned());
            }
            // Steps, tools, reasoning and data of an assistant; data of a user's client.
            _ => {}
        }
    }
    let text = answer.unwrap_or(text);
    Ok(ChatMessage { role, text })
}
