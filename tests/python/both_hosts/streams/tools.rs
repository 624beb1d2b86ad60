//! The tools of agents whose answers are streamed.

use std::{
    future::pending,
    sync::{Arc, Mutex},
};

use serde_json::json;
use tokio::sync::oneshot;
use tower::{BoxError, ServiceExt};
use tower_dspy::{Tool, ToolCall, testing::scripted_lm::Reply};

use super::reading::{Reading, read};
use crate::support::{ask, eventually, host, lm, lm_server};

fn step(tool: &str, arguments: &str) -> Reply {
    Reply::fields([
        ("next_thought", "hm, let me see"),
        ("next_tool_name", tool),
        ("next_tool_args", arguments),
    ])
}

fn done() -> Reply {
    Reply::fields([("reasoning", "so it is"), ("answer", "blue")])
}

fn assert_answer(read: &Reading) {
    assert_eq!(read.answer(), "blue");
    let texts: Vec<_> = read
        .texts
        .iter()
        .map(|((_, field), text)| (&**field, &**text))
        .collect();
    assert!(texts.contains(&("answer", "blue")), "{texts:?}");
    assert!(read.replaced.is_empty() && read.restarts.is_empty());
}

#[tokio::test]
async fn the_tool_calls_of_an_agent_are_events() {
    let (host, server) = (host().await, lm_server().await);
    for (target, value) in [
        ("streams:Agent", json!({"word": "sky", "colour": "blue"})),
        ("streams:SyncAgent", json!("sky is blue")),
    ] {
        let model = format!("stream-agent-{target}");
        let model = model.replace(':', "-");
        let look_up = if target == "streams:Agent" {
            "look_up_later"
        } else {
            "look_up"
        };
        let look_up_sky = step(look_up, r#"{"word": "sky"}"#);
        server.script(&model, [look_up_sky, step("finish", "{}"), done()]);
        let program = host.load(target).lm(lm(&model).await).await.unwrap();
        let read = read(program.streaming().oneshot(ask("Why?")).await.unwrap()).await;
        assert_answer(&read);
        let call = json!([1, look_up, {"word": "sky"}]);
        assert_eq!(read.tools, [call, json!([1, look_up, {"value": value}])]);
        let statuses = [
            format!("Calling tool {look_up}..."),
            "Tool calling finished! Querying the LLM with tool calling results...".into(),
        ];
        assert_eq!(read.statuses, statuses);
        assert_eq!(server.requests(&model).len(), 3);
    }
}

#[tokio::test]
async fn a_tool_that_fails_is_an_event_with_its_error() {
    let (host, server) = (host().await, lm_server().await);
    let unknown = step("look_up", r#"{"word": "unknown"}"#);
    server.script("stream-tool-fails", [unknown, step("finish", "{}"), done()]);
    let program = host
        .load("streams:SyncAgent")
        .lm(lm("stream-tool-fails").await);
    let program = program.await.unwrap().streaming();
    let read = read(program.oneshot(ask("Why?")).await.unwrap()).await;
    assert_answer(&read);
    assert_eq!(
        read.tools[1],
        json!([1, "look_up", {"error": "no such word"}])
    );
}

#[tokio::test]
async fn tools_in_rust_are_events_as_well() {
    let (host, server) = (host().await, lm_server().await);
    let search = step("search", r#"{"query": "sky"}"#);
    server.script("stream-rust-tool", [search, step("finish", "{}"), done()]);
    let search = Tool::new("search", "Finds passages.", |call: ToolCall| async move {
        #[derive(serde::Deserialize)]
        struct Search {
            query: String,
        }
        let Search { query } = call.parse()?;
        Ok::<_, BoxError>(json!({"passages": [query]}))
    });
    let search = search.argument("query", json!({"type": "string"}));
    let program = host
        .load("streams:RustAgent")
        .lm(lm("stream-rust-tool").await);
    let program = program.tool(search).await.unwrap().streaming();
    let read = read(program.oneshot(ask("Why?")).await.unwrap()).await;
    assert_answer(&read);
    assert_eq!(read.tools.len(), 2);
    assert_eq!(read.tools[0], json!([1, "search", {"query": "sky"}]));
    assert_eq!(read.tools[1][2]["value"], json!({"passages": ["sky"]}));
}

#[tokio::test]
async fn what_is_no_json_is_sent_as_its_text() {
    let (host, server) = (host().await, lm_server().await);
    let steps = ["odd", "even"].map(|word| step("odd", &json!({"word": word}).to_string()));
    let [odd, even] = steps;
    server.script("stream-odd-tool", [odd, even, step("finish", "{}"), done()]);
    let program = host
        .load("streams:OddAgent")
        .lm(lm("stream-odd-tool").await);
    let program = program.await.unwrap().streaming();
    let read = read(program.oneshot(ask("Why?")).await.unwrap()).await;
    assert_answer(&read);
    assert_eq!(read.tools[1], json!([1, "odd", {"value": "an odd one"}]));
    assert_eq!(read.tools[3][0], 2);
    assert!(
        read.tools[3][2]["value"].to_string().contains("nan"),
        "{:?}",
        read.tools
    );
}

#[tokio::test]
async fn a_tool_in_rust_ends_with_a_stream_that_is_dropped() {
    let (host, server) = (host().await, lm_server().await);
    server.script("stream-tool-ends", step("search", "{}"));
    let (held, dropped) = oneshot::channel::<()>();
    let held = Arc::new(Mutex::new(Some(held)));
    let waiting = held.clone();
    let search = Tool::new("search", "Never answers.", move |_: ToolCall| {
        let held = held.lock().unwrap().take();
        async move {
            let _held = held;
            pending::<Result<(), BoxError>>().await
        }
    });
    let program = host
        .load("streams:RustAgent")
        .lm(lm("stream-tool-ends").await);
    let program = program.tool(search).await.unwrap();
    let mut stream = program.streaming().oneshot(ask("Why?")).await.unwrap();
    let mut reading = Reading::default();
    while reading.tools.is_empty() {
        assert!(reading.next(&mut stream).await);
    }
    // Its event comes before it is called.
    eventually("the tool", || waiting.lock().unwrap().is_none()).await;
    drop(stream);
    dropped.await.unwrap_err();
    eventually("its permit", || program.in_flight() == 0).await;
}
