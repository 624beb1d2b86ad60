//! What is read of answers in each dialect, cut anywhere.

use proptest::{collection::vec, prelude::*};

use super::*;

type Read = (Option<String>, Option<String>, Option<String>);

fn read_by(format: BodyFormat, body: &[u8], size: usize) -> Read {
    let mut reader = LabelReader::new(format);
    for piece in body.chunks(size) {
        reader.read(piece);
    }
    let labels = reader.labels;
    let text = |label: Option<Arc<str>>| label.map(|label| label.to_string());
    (
        text(labels.model),
        text(labels.id),
        text(labels.finish_reason),
    )
}

/// The model, the id and the reason of the end.
fn labels(body: &str) -> Read {
    let format = match body.starts_with('{') || body.starts_with('[') {
        true => BodyFormat::Whole,
        false => BodyFormat::Events,
    };
    let whole = read_by(format, body.as_bytes(), usize::MAX);
    for size in [1, 2, 7] {
        assert_eq!(read_by(format, body.as_bytes(), size), whole, "{body}");
    }
    whole
}

fn read(model: &str, id: &str, finish: &str) -> Read {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    (text(model), text(id), text(finish))
}

#[test]
fn the_labels_of_a_whole_answer_are_read_in_each_dialect() {
    let chat = r#"{"id": "c-1", "object": "chat.completion", "model": "gpt-x",
        "choices": [{"message": {"content": "a \"model\": \"b\"", "tool_calls":
        [{"id": "t"}]}, "finish_reason": "stop"}], "service_tier": "default"}"#;
    assert_eq!(labels(chat), read("gpt-x", "c-1", "stop"));
    let responses = r#"{"id":"r-1","object":"response","status":"incomplete","error":null,
        "incomplete_details":{"reason":"max_output_tokens"},"model":"gpt-x",
        "output":[{"id":"m","status":"completed"}]}"#;
    assert_eq!(labels(responses), read("gpt-x", "r-1", "max_output_tokens"));
    let anthropic = r#"{"id":"msg_1","type":"message","model":"claude-x","content":[
        {"type":"tool_use","id":"t","input":{"id":"secret","model":"secret",
        "stop_reason":"secret","message":{"id":"secret"}}}],"stop_reason":"tool_use"}"#;
    assert_eq!(labels(anthropic), read("claude-x", "msg_1", "tool_use"));
    let gemini = r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f",
        "args":{"responseId":"secret","finishReason":"secret"}}}]},"finishReason":"STOP"}],
        "modelVersion":"gemini-x","responseId":"g-1"}"#;
    assert_eq!(labels(gemini), read("gemini-x", "g-1", "STOP"));
    assert_eq!(
        labels(&format!("[{gemini}\n,{gemini}]")),
        read("gemini-x", "g-1", "STOP")
    );
    let ollama = r#"{"model":"l","message":{"content":"a"},"done_reason":"stop","done":true}"#;
    assert_eq!(labels(ollama), read("l", "", "stop"));
}

#[test]
fn the_labels_of_a_stream_are_read_in_each_dialect() {
    let chat = concat!(
        ": it's \"id\": {\"id\": \"no\n\n",
        "data: {\"id\":\"c-1\",\"choices\":[{\"delta\":{\"content\":\"\\\\\"},\"finish_reason\":null}],\"model\":\"gpt-x\"}\n\n",
        "data: {\"id\":\"c-2\",\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n",
    );
    assert_eq!(labels(chat), read("gpt-x", "c-1", "length"));
    let responses = concat!(
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r-1\",\"status\":\"in_progress\",\"model\":\"gpt-x\"}}\n\n",
        "data: {\"type\":\"response.completed\",\"response\":{\"id\":\"r-1\",\"status\":\"completed\"}}\n\n",
    );
    assert_eq!(labels(responses), read("gpt-x", "r-1", "completed"));
    let anthropic = concat!(
        "event: message_start\r\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"claude-x\",\"stop_reason\":null}}\r\n\r\n",
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\r\n\r\n",
    );
    assert_eq!(labels(anthropic), read("claude-x", "msg_1", "end_turn"));
}

#[test]
fn a_label_is_bounded_and_one_that_is_no_word_is_dropped() {
    let long = "x".repeat(1000);
    let body = format!(r#"{{"model": "{long}", "id": "a b", "stop_reason": "the user: x"}}"#);
    assert_eq!(labels(&body), read(&"x".repeat(LmCall::TEXT), "", ""));
    let odd = r#"{"model": "a\u0000b", "id": 7, "stop_reason": ["x"], "done_reason": {}}"#;
    assert_eq!(labels(odd), read("", "", ""));
    assert_eq!(labels("{\"model\": \"ç\"}"), read("", "", ""));
}

#[test]
fn the_reason_of_the_end_is_found_wherever_the_stream_is_cut() {
    let head = "data: {\"id\":\"c-1\",\"model\":\"gpt-x\",\"choices\":[]}\n\n";
    let middle = "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"stop_reason\\\": \\\"no\\\"\"},\"finish_reason\":null}]}\n\n";
    let end =
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\" : \"stop\"}]}\n\ndata: [DONE]\n\n";
    let body = [head, middle, middle, end, middle].concat();
    for cut in 0..=body.len() {
        let mut reader = LabelReader::new(BodyFormat::Events);
        let (first, second) = body.as_bytes().split_at(cut);
        reader.read(first);
        reader.read(second);
        let reason = reader.labels.finish_reason;
        assert_eq!(reason.as_deref(), Some("stop"), "{cut}");
    }
}

#[test]
fn the_reason_of_the_end_is_found_in_a_long_stream_without_an_id() {
    let line = "{\"model\":\"l\",\"message\":{\"content\":\"a\"},\"done\":false}\n";
    let last = "{\"model\":\"l\",\"done_reason\":\"stop\",\"done\":true}\n";
    let body = [&*line.repeat(10 * HEADS), last].concat();
    for size in [1, 7, line.len(), usize::MAX] {
        let read_labels = read_by(BodyFormat::Events, body.as_bytes(), size);
        assert_eq!(read_labels, read("l", "", "stop"));
    }
}

proptest! {
    #[test]
    fn no_body_makes_the_reader_panic_or_grow(
        body in vec(prop_oneof![
            prop::sample::select(b"{}[]\",:\\\n".to_vec()),
            any::<u8>(),
        ], 0..2000),
        size in 1_usize..50,
    ) {
        for format in [BodyFormat::Whole, BodyFormat::Events] {
            let mut reader = LabelReader::new(format);
            for piece in body.chunks(size) {
                reader.read(piece);
            }
            prop_assert!(reader.text.len() <= LmCall::TEXT);
        }
    }
}
