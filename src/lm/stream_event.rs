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
//! of a tool, audio, a citation. Strings that only name or number something are none, see
//! [`EventText`].

use std::borrow::Cow;

use serde::{Deserialize, de::IgnoredAny};

use super::event_text::EventText;

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

/// The content of the event of this data, JSON or not: the bytes of its text, which an end of the
/// answer has none of. `None` if it holds no content.
pub(super) fn content(data: &[u8]) -> Option<u64> {
    let data = data.trim_ascii();
    if data.is_empty() || data == b"{}" || data == b"null" {
        return None;
    }
    match serde_json::from_slice::<StreamedEvent<'_>>(data) {
        Ok(event) => event.has_content().then(|| event.text()),
        Err(_) => Some(0),
    }
}

/// The fields of all dialects that tell.
#[derive(Default, Deserialize)]
#[serde(default)]
struct StreamedEvent<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    choices: Option<Vec<Choice>>,
    candidates: Option<Vec<EventText>>,
    done: Option<bool>,
    delta: Option<EventText>,
    content_block: Option<EventText>,
    item: Option<EventText>,
    part: Option<EventText>,
    message: Option<EventText>,
    response: Option<EventText>,
    usage: Option<IgnoredAny>,
    error: Option<IgnoredAny>,
    #[serde(rename = "promptFeedback")]
    feedback: Option<IgnoredAny>,
}

/// An alternative of OpenAI's chat completions.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Choice {
    delta: EventText,
    message: EventText,
    text: EventText,
    finish_reason: EventText,
}

impl StreamedEvent<'_> {
    fn has_content(&self) -> bool {
        if self.error.is_some() || self.feedback.is_some() {
            return true;
        }
        let holds = |fields: &[Option<EventText>]| fields.iter().flatten().any(EventText::is_some);
        if let Some(choices) = &self.choices {
            let ends = choices.is_empty() && self.usage.is_some();
            return ends || choices.iter().any(Choice::has_content);
        }
        if let Some(candidates) = &self.candidates {
            return candidates.iter().any(EventText::is_some);
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

    /// The bytes of the text that it adds to the answer.
    fn text(&self) -> u64 {
        let sum = |fields: &[Option<EventText>]| fields.iter().flatten().map(|text| text.0).sum();
        if let Some(choices) = &self.choices {
            let texts = choices
                .iter()
                .flat_map(|choice| [choice.delta, choice.text]);
            return texts.map(|text| text.0).sum();
        }
        if let Some(candidates) = &self.candidates {
            return candidates.iter().map(|candidate| candidate.0).sum();
        }
        match &self.kind {
            // Others repeat what was added.
            Some(kind) if !ADDING.iter().any(|end| kind.ends_with(end)) => 0,
            Some(_) => sum(&[self.delta, self.content_block, self.item, self.part]),
            None => sum(&[self.message, self.response]),
        }
    }
}

impl Choice {
    fn has_content(&self) -> bool {
        [self.delta, self.message, self.text, self.finish_reason]
            .iter()
            .any(EventText::is_some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_content(data: &[u8]) -> bool {
        content(data).is_some()
    }

    #[test]
    fn the_text_that_an_event_adds_is_measured() {
        for (event, bytes) in [
            (
                r#"{"choices":[{"delta":{"content":"abcde"}},{"text":"fg"}]}"#,
                7,
            ),
            (r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#, 0),
            (r#"{"choices":[],"usage":{"prompt_tokens":9}}"#, 0),
            (r#"{"type":"response.output_text.delta","delta":"abc"}"#, 3),
            (
                r#"{"type":"response.content_part.done","part":{"type":"output_text","text":"abc"}}"#,
                0,
            ),
            (
                r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"abc"}}"#,
                3,
            ),
            (
                r#"{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":15}}"#,
                0,
            ),
            (
                r#"{"candidates":[{"content":{"parts":[{"text":"abcdefgh"}]}}]}"#,
                8,
            ),
            (
                r#"{"message":{"role":"assistant","content":"ab"},"done":false}"#,
                2,
            ),
            ("[DONE]", 0),
            (r#"{"invented":true}"#, 0),
        ] {
            assert_eq!(content(event.as_bytes()), Some(bytes), "{event}");
        }
    }

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
