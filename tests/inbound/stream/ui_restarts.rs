//! Text that does not hold, in the UI message stream. The message is put together as npm `ai` does.

use serde_json::{Value, json};

use super::{
    Item, UI_CHAT, data, done, replace, restart, script, text, thinking, tool_call, tool_result,
    written,
};

/// The texts and reasonings of the message that a client of `ai` 7 ends with, in their order, and the
/// ids that `data-restart` names.
#[derive(Debug, Default)]
pub(super) struct UiMessageShown {
    pub(super) texts: Vec<String>,
    pub(super) reasoning: Vec<String>,
    pub(super) restarted: Vec<Value>,
}

/// What `ai` keeps in the parts of the message, and removes with a step.
enum ShownPart {
    StepStart,
    Text {
        kind: String,
        id: String,
        text: String,
    },
    Restart(Vec<Value>),
}

pub(super) fn shown(body: &str) -> UiMessageShown {
    let mut parts: Vec<ShownPart> = Vec::new();
    let mut open: Vec<(String, usize)> = Vec::new();
    for chunk in data(body) {
        let kind = chunk["type"].as_str().unwrap();
        let id = chunk["id"].as_str().unwrap_or_default();
        match kind {
            "start-step" => parts.push(ShownPart::StepStart),
            "reset-step" => {
                open.clear();
                let is_start = |part: &ShownPart| matches!(part, ShownPart::StepStart);
                let start = parts.iter().rposition(is_start).unwrap();
                parts.truncate(start + 1);
            }
            "text-start" | "reasoning-start" => {
                let kind = kind.trim_end_matches("-start").into();
                assert!(!open.iter().any(|(known, _)| known == id), "{id} is open");
                open.push((id.into(), parts.len()));
                let (id, text) = (id.into(), String::new());
                parts.push(ShownPart::Text { kind, id, text });
            }
            "text-delta" | "reasoning-delta" => {
                let (_, at) = open.iter().find(|(known, _)| known == id).expect("open");
                let ShownPart::Text { text, .. } = &mut parts[*at] else {
                    panic!("{id} has no text");
                };
                text.push_str(chunk["delta"].as_str().unwrap());
            }
            "text-end" | "reasoning-end" => {
                let at = open.iter().position(|(known, _)| known == id);
                open.remove(at.expect("open"));
            }
            "data-restart" => {
                let ids = chunk["data"]["parts"].as_array().unwrap().clone();
                parts.push(ShownPart::Restart(ids));
            }
            _ => {}
        }
    }
    assert_eq!(open, []);
    let named = parts.iter().filter_map(|part| match part {
        ShownPart::Restart(ids) => Some(ids.clone()),
        _ => None,
    });
    let restarted: Vec<Value> = named.flatten().collect();
    let of = |wanted: &str| {
        let texts = parts.iter().filter_map(|part| match part {
            ShownPart::Text { kind, id, text } if kind == wanted => Some((id, text)),
            _ => None,
        });
        let hold = texts.filter(|(id, _)| !restarted.contains(&json!(id)));
        hold.map(|(_, text)| text.clone()).collect()
    };
    UiMessageShown {
        texts: of("text"),
        reasoning: of("reasoning"),
        restarted: restarted.clone(),
    }
}

async fn of(events: impl Fn() -> Vec<Item> + Send + Sync + 'static) -> (String, UiMessageShown) {
    let body = written(&script(events), "/chat", UI_CHAT).await;
    let shown = shown(&body);
    assert!(body.ends_with("data: [DONE]\n\n"));
    (body, shown)
}

#[tokio::test]
async fn a_restart_resets_the_step() {
    let (body, shown) = of(|| {
        vec![
            text(1, "reasoning", "first"),
            text(1, "answer", "wrong"),
            restart(1),
            text(2, "reasoning", "second"),
            text(2, "answer", "right"),
            done(json!({"answer": "right"})),
        ]
    })
    .await;
    let types: Vec<_> = data(&body).iter().map(|c| c["type"].clone()).collect();
    assert_eq!(
        types,
        [
            "start",
            "start-step",
            "reasoning-start",
            "reasoning-delta",
            "reasoning-end",
            "text-start",
            "text-delta",
            "reset-step",
            "finish-step",
            "start-step",
            "reasoning-start",
            "reasoning-delta",
            "reasoning-end",
            "text-start",
            "text-delta",
            "text-end",
            "finish-step",
            "data-prediction",
            "finish"
        ]
    );
    assert_eq!(shown.texts, ["right"]);
    assert_eq!(shown.reasoning, ["second"]);
    assert_eq!(shown.restarted, [] as [Value; 0]);
}

#[tokio::test]
async fn a_replacement_takes_the_place_of_the_text() {
    let (body, shown) = of(|| {
        vec![
            text(1, "reasoning", "why"),
            text(1, "answer", "wrogn"),
            replace(1, "answer", "wrong"),
            done(json!({"answer": "wrong"})),
        ]
    })
    .await;
    assert!(body.contains("reset-step"));
    assert_eq!(
        (shown.texts, shown.reasoning),
        (vec!["wrong".into()], vec!["why".into()])
    );

    // A replacement that continues the text is sent as more text, without a reset.
    let (body, shown) = of(|| {
        vec![
            text(1, "answer", "ri"),
            replace(1, "answer", "right"),
            done(json!({"answer": "right"})),
        ]
    })
    .await;
    assert!(!body.contains("reset-step"));
    assert_eq!(shown.texts, ["right"]);
}

#[tokio::test]
async fn a_later_lm_call_that_writes_the_answer_anew_takes_its_place() {
    let (_, shown) = of(|| {
        vec![
            thinking(1, "hm"),
            text(1, "answer", "a draft"),
            text(2, "answer", "the final "),
            // The earlier one goes on at the same time.
            text(1, "answer", " goes on"),
            text(2, "answer", "one"),
            done(json!({"answer": "the final one"})),
        ]
    })
    .await;
    assert_eq!(shown.texts, ["the final one"]);
    assert_eq!(shown.reasoning, ["hm"]);
}

#[tokio::test]
async fn the_answer_of_the_prediction_is_shown_whatever_came_before() {
    // The best of two is the first.
    let (_, shown) = of(|| {
        vec![
            text(1, "answer", "good"),
            text(2, "answer", "bad"),
            done(json!({"answer": "good"})),
        ]
    })
    .await;
    assert_eq!(shown.texts, ["good"]);
    // The program adds to it.
    let (_, shown) = of(|| vec![text(1, "answer", "good"), done(json!({"answer": "good!"}))]).await;
    assert_eq!(shown.texts, ["good!"]);
}

#[tokio::test]
async fn parts_beside_tools_are_named_instead() {
    let (body, shown) = of(|| {
        vec![
            text(1, "answer", "wrong"),
            tool_call(1),
            tool_result(1, Ok(json!(1))),
            restart(1),
            text(2, "answer", "right"),
            done(json!({"answer": "right"})),
        ]
    })
    .await;
    assert!(!body.contains("reset-step"));
    assert_eq!(shown.restarted, ["1.answer"]);
    assert_eq!(shown.texts, ["right"]);
    assert!(body.contains(r#"data: {"type":"data-restart","data":{"parts":["1.answer"]}}"#));
}

#[tokio::test]
async fn parts_of_an_earlier_step_are_named_instead() {
    let (_, shown) = of(|| {
        vec![
            text(1, "answer", "a draft"),
            text(2, "reasoning", "a judge's"),
            text(3, "answer", "the final one"),
            done(json!({"answer": "the final one"})),
        ]
    })
    .await;
    assert_eq!(shown.restarted, ["1.answer"]);
    assert_eq!(shown.texts, ["the final one"]);
    assert_eq!(shown.reasoning, ["a judge's"]);
}

#[tokio::test]
async fn a_step_that_names_parts_of_an_earlier_one_is_not_reset() {
    let (body, shown) = of(|| {
        vec![
            text(1, "answer", "draft"),
            thinking(2, "hm"),
            text(2, "answer", "x"),
            restart(2),
            text(3, "answer", "final"),
            done(json!({"answer": "final"})),
        ]
    })
    .await;
    assert_eq!(shown.texts, ["final"], "{body}");
    assert_eq!(shown.reasoning, [] as [&str; 0]);
    assert_eq!(shown.restarted, ["1.answer", "2:thinking", "2.answer"]);
}
