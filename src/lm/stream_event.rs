//! The recognition of content in an event of a streamed answer, whatever the provider's dialect.
//!
//! An event is empty only if its form is known and holds nothing: whatever else comes is content,
//! so that no call is ended because a provider has invented something.
//!
//! | form | known by | content | empty |
//! |---|---|---|---|
//! | OpenAI's chat completions | `choices` | text in a `delta`, `message` or `text`; a `finish_reason`; `usage` without choices | a role, an empty delta, no choices |
//! | OpenAI's responses | `type` | text in `delta`, `item` or `part`; all others | `response.created`, `.in_progress`, `.queued`; `keepalive` |
//! | Anthropic's messages | `type` | text in `delta` or `content_block`; `usage`; all others | `message_start`, `ping` |
//! | Gemini | `candidates` | text in a candidate, a `finishReason`; a `promptFeedback` | parts without text |
//! | Ollama | `done` | text in `message` or `response`; `done` itself | the others |
//!
//! "Text" is any string that is not empty, at any depth: also thinking, the name and the arguments
//! of a tool, audio, a citation. Strings that only name or number something are none: [`LABELS`].

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// The keys of strings that are no content.
const LABELS: [&str; 9] = [
    "id",
    "logprobs",
    "object",
    "obfuscation",
    "phase",
    "role",
    "safetyRatings",
    "status",
    "type",
];

/// The types of events that hold nothing of the answer.
const EMPTY: [&str; 7] = [
    "heartbeat",
    "keepalive",
    "message_start",
    "ping",
    "response.created",
    "response.in_progress",
    "response.queued",
];

/// The ends of types whose event adds to the answer what its fields hold.
const ADDING: [&str; 4] = ["_start", "_delta", ".added", ".delta"];

/// Whether the event of this data, JSON or not, holds content.
pub(super) fn has_content(data: &[u8]) -> bool {
    let data = data.trim_ascii();
    if data.is_empty() || data == b"{}" || data == b"null" {
        return false;
    }
    serde_json::from_slice(data).map_or(true, |event: StreamedEvent<'_>| event.has_content())
}

/// The fields of all dialects that tell.
#[derive(Default, Deserialize)]
#[serde(default)]
struct StreamedEvent<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    choices: Option<Vec<Choice>>,
    candidates: Option<Vec<Text>>,
    done: Option<bool>,
    delta: Option<Text>,
    content_block: Option<Text>,
    item: Option<Text>,
    part: Option<Text>,
    message: Option<Text>,
    response: Option<Text>,
    usage: Option<IgnoredAny>,
    error: Option<IgnoredAny>,
    #[serde(rename = "promptFeedback")]
    feedback: Option<IgnoredAny>,
}

/// An alternative of OpenAI's chat completions.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Choice {
    delta: Text,
    message: Text,
    text: Text,
    finish_reason: Text,
}

impl StreamedEvent<'_> {
    fn has_content(&self) -> bool {
        if self.error.is_some() || self.feedback.is_some() {
            return true;
        }
        let holds = |fields: &[Option<Text>]| fields.iter().flatten().any(|text| text.0);
        if let Some(choices) = &self.choices {
            let ends = choices.is_empty() && self.usage.is_some();
            return ends || choices.iter().any(Choice::has_content);
        }
        if let Some(candidates) = &self.candidates {
            return candidates.iter().any(|candidate| candidate.0);
        }
        if let Some(kind) = &self.kind {
            let fields = [self.delta, self.content_block, self.item, self.part];
            let adds = ADDING.iter().any(|end| kind.ends_with(end));
            return match fields.iter().any(Option::is_some) {
                _ if EMPTY.contains(&&**kind) => false,
                true if adds => self.usage.is_some() || holds(&fields),
                _ => true,
            };
        }
        self.done != Some(false) || holds(&[self.message, self.response])
    }
}

impl Choice {
    fn has_content(&self) -> bool {
        [self.delta, self.message, self.text, self.finish_reason]
            .iter()
            .any(|text| text.0)
    }
}

/// Whether a value has a string that is content.
#[derive(Clone, Copy, Default)]
struct Text(bool);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_any(TextVisitor).map(Self)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        Ok(!text.is_empty())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(Text(text)) = list.next_element()? {
            found |= text;
        }
        Ok(found)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(Label(label)) = map.next_key()? {
            if label {
                map.next_value::<IgnoredAny>()?;
            } else {
                found |= map.next_value::<Text>()?.0;
            }
        }
        Ok(found)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }
}

/// Whether a key is one of [`LABELS`].
struct Label(bool);

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(key: D) -> Result<Self, D::Error> {
        key.deserialize_identifier(LabelVisitor).map(Self)
    }
}

struct LabelVisitor;

impl Visitor<'_> for LabelVisitor {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(LABELS.contains(&key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_each_dialect_that_hold_nothing_are_empty() {
        for empty in [
            "",
            " ",
            "{}",
            "null",
            r#"{"type":"ping"}"#,
            r#"{"type":"keepalive","sequence_number":3}"#,
            // OpenAI's chat completions.
            r#"{"id":"c-1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"xY2"}"#,
            r#"{"choices":[{"index":0,"delta":{"content":null,"refusal":null,"tool_calls":[]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":""}}]}}]}"#,
            r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0}],"usage":null}"#,
            r#"{"choices":[{"delta":{"role":"assistant"}}],"usage":{"prompt_tokens":9}}"#,
            // OpenAI's responses.
            r#"{"type":"response.created","response":{"id":"r","instructions":"be kind","text":{"format":{"type":"text"}}}}"#,
            r#"{"type":"response.in_progress","response":{"id":"r"}}"#,
            r#"{"type":"response.output_item.added","item":{"id":"rs","type":"reasoning","summary":[],"status":"in_progress"}}"#,
            r#"{"type":"response.content_part.added","part":{"type":"output_text","annotations":[],"text":""}}"#,
            r#"{"type":"response.output_text.delta","item_id":"m","delta":"","obfuscation":"abc"}"#,
            // Anthropic's messages.
            r#"{"type":"message_start","message":{"id":"m","role":"assistant","content":[],"usage":{"input_tokens":3,"output_tokens":1}}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":""}}"#,
            // Gemini and Ollama.
            r#"{"candidates":[{"content":{"role":"model","parts":[{"text":""}]},"index":0,"safetyRatings":[{"category":"X"}]}],"usageMetadata":{"promptTokenCount":4}}"#,
            r#"{"model":"m","created_at":"now","message":{"role":"assistant","content":""},"done":false}"#,
        ] {
            assert!(!has_content(empty.as_bytes()), "{empty}");
        }
    }

    #[test]
    fn text_thinking_tools_media_and_ends_are_content_in_each_dialect() {
        for content in [
            "[DONE]",
            // OpenAI's chat completions.
            r#"{"choices":[{"index":0,"delta":{"content":" "},"finish_reason":null}]}"#,
            r#"{"choices":[{"delta":{"reasoning_content":"so"}}]}"#,
            r#"{"choices":[{"delta":{"reasoning_details":[{"type":"reasoning.text","text":"so"}]}}]}"#,
            r#"{"choices":[{"delta":{"refusal":"no"}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"1","type":"function","function":{"name":"f","arguments":""}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}}]}"#,
            r#"{"choices":[{"delta":{"audio":{"id":"a","data":"UklG"}}}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
            r#"{"choices":[{"text":"a"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":9}}"#,
            r#"{"error":{"message":"overloaded"}}"#,
            // OpenAI's responses.
            r#"{"type":"response.output_text.delta","delta":"a"}"#,
            r#"{"type":"response.reasoning_summary_text.delta","delta":"a"}"#,
            r#"{"type":"response.function_call_arguments.delta","delta":"{"}"#,
            r#"{"type":"response.output_item.added","item":{"id":"f","type":"function_call","name":"f","arguments":""}}"#,
            r#"{"type":"response.output_item.done","item":{"id":"rs","type":"reasoning","summary":[]}}"#,
            r#"{"type":"response.output_text.annotation.added","annotation":{"type":"url_citation"}}"#,
            r#"{"type":"response.web_search_call.searching","item_id":"w"}"#,
            r#"{"type":"response.completed","response":{"id":"r"}}"#,
            r#"{"type":"error","code":"server_error"}"#,
            // Anthropic's messages.
            r#"{"type":"content_block_start","content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
            r#"{"type":"content_block_start","content_block":{"type":"redacted_thinking","data":"Eu"}}"#,
            r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}"#,
            r#"{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"so"}}"#,
            r#"{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{"}}"#,
            r#"{"type":"content_block_delta","delta":{"type":"citations_delta","citation":{"cited_text":"a"}}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":15}}"#,
            r#"{"type":"message_stop"}"#,
            // Gemini and Ollama.
            r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#,
            r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{}}}]}}]}"#,
            r#"{"candidates":[{"content":{"parts":[{"inlineData":{"data":"UklG"}}]}}]}"#,
            r#"{"candidates":[{"finishReason":"STOP"}]}"#,
            r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#,
            r#"{"message":{"role":"assistant","content":"a"},"done":false}"#,
            r#"{"response":"a","done":false}"#,
            r#"{"message":{"content":""},"done":true}"#,
        ] {
            assert!(has_content(content.as_bytes()), "{content}");
        }
    }

    #[test]
    fn an_event_of_an_unknown_form_is_content() {
        let deep = "[".repeat(300);
        for unknown in [
            "<html>",
            "3",
            "[]",
            "{\"type\": 3}",
            r#"{"type":"invented"}"#,
            r#"{"type":"invented.delta"}"#,
            r#"{"invented":true}"#,
            r#"{"choices":{"delta":""}}"#,
            r#"{"choices":[{"delta":{"#,
            "{\"choices\":[{\"delta\":{\"content\":\"\u{0}\"}}]}",
            &deep,
        ] {
            assert!(has_content(unknown.as_bytes()), "{unknown}");
        }
        assert!(has_content(
            b"{\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}"
        ));
    }

    #[test]
    fn escaped_and_multi_byte_text_is_read() {
        for text in [r#""\n""#, r#""ç""#, r#""\ud83d\ude00""#] {
            let event = format!(r#"{{"choices":[{{"delta":{{"content":{text}}}}}]}}"#);
            assert!(has_content(event.as_bytes()), "{event}");
        }
        assert!(!has_content(
            br#"{"choices":[{"delta":{"ro\u006ce":"assistant"}}]}"#
        ));
    }
}
