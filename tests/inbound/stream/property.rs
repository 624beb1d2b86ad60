//! For any stream that keeps its promises: the text that a client is left with is the field.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    CHAT, DIALECTS, Item, QUESTION, UI_CHAT, data, done, replace, restart, script, status, text,
    thinking, tool_call, tool_result, ui_restarts::shown, written,
};

/// A text in pieces; the pieces are not empty.
fn pieces() -> impl Strategy<Value = Vec<String>> {
    let piece = prop_oneof![
        any::<String>().prop_filter("not empty", |piece| !piece.is_empty()),
        "[a-c\\r\\n\"\\\\ :]{1,5}",
        Just("\u{2028}data: x\n\n".to_owned()),
    ];
    prop::collection::vec(piece, 0..8)
}

#[derive(Clone, Debug)]
enum Step {
    Status,
    Tool,
    Thinking,
    Reasoning(String),
    /// An LM call whose answer is given up.
    Failed(Vec<String>),
    /// An LM call whose answer is no part of the prediction, and is not restarted.
    Draft(String),
    /// A wrong text that is replaced.
    Replaced(String),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        Just(Step::Status),
        Just(Step::Tool),
        Just(Step::Thinking),
        "[a-z]{1,3}".prop_map(Step::Reasoning),
        pieces().prop_map(Step::Failed),
        "[a-z]{1,3}".prop_map(Step::Draft),
        "[a-z]{1,3}".prop_map(Step::Replaced),
    ];
    prop::collection::vec(step, 0..6)
}

fn events(steps: &[Step], answer: &[String]) -> Vec<Item> {
    let mut events = Vec::new();
    let mut lm_call = 1;
    let mut wrong = String::new();
    for (n, step) in (1..).zip(steps) {
        match step {
            Step::Status => events.push(status("s")),
            Step::Tool => events.extend([tool_call(n), tool_result(n, Ok(json!(1)))]),
            Step::Thinking => events.push(thinking(lm_call, "t")),
            Step::Reasoning(delta) => events.push(text(lm_call, "reasoning", delta)),
            Step::Failed(pieces) => {
                let texts = pieces.iter().map(|delta| text(lm_call, "answer", delta));
                events.extend(texts);
                events.push(restart(lm_call));
                lm_call += 1;
                wrong.clear();
            }
            Step::Draft(delta) => {
                events.push(text(lm_call, "answer", delta));
                lm_call += 1;
                wrong.clear();
            }
            Step::Replaced(delta) => {
                wrong.push_str(delta);
                events.push(text(lm_call, "answer", delta));
            }
        }
    }
    if !wrong.is_empty() {
        events.push(replace(lm_call, "answer", ""));
    }
    let texts = answer.iter().map(|delta| text(lm_call, "answer", delta));
    events.extend(texts);
    events.push(done(json!({"answer": answer.concat()})));
    events
}

/// What a client of the own dialect holds for the field `answer` of the highest LM call.
fn own(body: &str) -> String {
    let (mut lm_call, mut answer) = (0, String::new());
    for event in body.split_terminator("\n\n") {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        if data["field"] != "answer" {
            continue;
        }
        if data["lm_call"].as_u64() > Some(lm_call) {
            lm_call = data["lm_call"].as_u64().unwrap();
            answer.clear();
        }
        match name {
            "event: text" => answer.push_str(data["delta"].as_str().unwrap()),
            "event: replace" => data["text"].as_str().unwrap().clone_into(&mut answer),
            other => panic!("{other} has no field"),
        }
    }
    answer
}

fn block<T>(work: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(work)
}

proptest! {
    #[test]
    fn the_deltas_of_each_dialect_sum_up_to_the_field(answer in pieces()) {
        let whole = answer.concat();
        let streaming = script(move || events(&[Step::Thinking], &answer));
        let mut sums = Vec::new();
        for (path, body) in DIALECTS {
            let body = block(written(&streaming, path, body));
            sums.push(match path {
                "/qa" => own(&body),
                "/chat" => shown(&body).texts.concat(),
                _ => content(&body),
            });
        }
        prop_assert_eq!(sums, [whole.clone(), whole.clone(), whole]);
    }

    #[test]
    fn a_client_is_left_with_the_answer_whatever_came_before(
        steps in steps(),
        answer in pieces(),
    ) {
        let whole = answer.concat();
        let streaming = script(move || events(&steps, &answer));
        let body = block(written(&streaming, "/qa", QUESTION));
        if !whole.is_empty() {
            prop_assert_eq!(own(&body), whole.clone());
        }
        let body = block(written(&streaming, "/chat", UI_CHAT));
        prop_assert_eq!(shown(&body).texts.concat(), whole.clone());
        // What was sent cannot be taken back: it is the answer, or the end is an error.
        let body = block(written(&streaming, "/v1/chat/completions", CHAT));
        let is_whole = body.ends_with("data: [DONE]\n\n");
        prop_assert_eq!(is_whole, !body.contains("stream_restarted"));
        if is_whole {
            prop_assert_eq!(content(&body), whole);
        }
    }
}

fn content(body: &str) -> String {
    let chunks = data(body);
    let deltas = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    deltas.collect()
}
