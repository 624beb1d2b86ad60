//! Rust functions as tools of programs: called with the call's context, and ended with it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{runtime::Handle, sync::mpsc, task::JoinSet, time::timeout};
use tower::{BoxError, ServiceExt};
use tower_dspy::{
    Classify, Deadline, DspyService, ErrorKind, Host, LoadErrorKind, PredictRequest, Tenant, Tool,
    ToolCall, testing::scripted_lm::Reply,
};

use crate::support::{HOUR, ask, eventually, eventually_seen, host, lm, lm_server};

/// In an async program, and as a sync program.
const WAYS: [&str; 4] = ["task", "thread", "loop of its own", "sync"];

fn user(way: &str) -> &'static str {
    if way == "sync" {
        "tools:Use"
    } else {
        "tools:use"
    }
}

fn text() -> Value {
    json!({"type": "string", "description": "any"})
}

async fn program(host: &Host, target: &str, tool: Tool) -> DspyService {
    let load = host.load(target).tool(tool.argument("text", text()));
    load.await
        .unwrap_or_else(|error| panic!("{error}\n{}", error.traceback()))
}

fn using(key: &str, way: &str, text: &str) -> PredictRequest {
    PredictRequest::new(json!({"key": key, "way": way, "text": text}))
}

/// A tool that says when it starts and when it is dropped, and never answers.
fn hanging() -> (Tool, mpsc::UnboundedReceiver<&'static str>) {
    struct Dropped(mpsc::UnboundedSender<&'static str>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send("dropped");
        }
    }
    let (sender, events) = mpsc::unbounded_channel();
    let tool = Tool::new("probe", "Hangs.", move |call: ToolCall| {
        let guard = Dropped(sender.clone());
        async move {
            let _ = guard.0.send("started");
            // What it left to itself hears of the end too.
            let (sender, node) = (guard.0.clone(), call.context.cancel.cancelled_owned());
            tokio::spawn(async move {
                if let Some(cancelled) = node {
                    cancelled.await;
                    let _ = sender.send("told");
                }
            });
            std::future::pending::<Result<(), BoxError>>().await
        }
    });
    (tool, events)
}

async fn next(events: &mut mpsc::UnboundedReceiver<&'static str>) -> &'static str {
    timeout(Duration::from_secs(30), events.recv())
        .await
        .expect("an event in time")
        .expect("an event")
}

#[tokio::test]
async fn an_agent_calls_a_tool_and_reads_its_answer() {
    let (host, server) = (host().await, lm_server().await);
    let step = |tool: &str, arguments: &str| {
        Reply::fields([
            ("next_thought", "hm"),
            ("next_tool_name", tool),
            ("next_tool_args", arguments),
        ])
    };
    for (target, model) in [
        ("tools:Agent", "tools-a"),
        ("question -> answer", "tools-b"),
    ] {
        let done = Reply::fields([("reasoning", "so"), ("answer", "blue")]);
        let search = step("search", r#"{"query": "sky", "most": 2}"#);
        server.script(model, [search, step("finish", "{}"), done]);
        let search = Tool::new("search", "Finds passages.", |call: ToolCall| async move {
            #[derive(serde::Deserialize)]
            struct Search {
                query: String,
                most: Option<u32>,
                language: Option<String>,
            }
            let Search {
                query,
                most,
                language,
            } = call.parse()?;
            Ok::<_, BoxError>(json!({"passages": [format!("{query}: {most:?} {language:?}")]}))
        });
        let search = search
            .argument("query", json!({"type": "string"}))
            .optional("most", json!({"type": "integer"}))
            .optional("language", json!({"type": "string"}));
        let agent = host.load(target).lm(lm(model).await).tool(search);
        let answer = agent.await.unwrap().oneshot(ask("Why?")).await.unwrap();
        assert_eq!(answer.outputs["answer"], "blue");
        let requests = server.requests(model);
        assert_eq!(requests.len(), 3);
        assert!(requests[0].body.to_string().contains("Finds passages."));
        let second = requests[1].body.to_string();
        assert!(second.contains("sky: Some(2) None"), "{second}");
    }
}

#[tokio::test]
async fn a_tool_runs_on_the_callers_runtime_with_the_calls_context() {
    let host = host().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = seen.clone();
    let probe = Tool::new("probe", "Echoes.", move |call: ToolCall| {
        let context = (
            Handle::current().id(),
            call.context.deadline,
            call.tenant.clone(),
        );
        note.lock().unwrap().push(context);
        async move { Ok::<_, BoxError>(json!([call.arguments["text"], 1, null])) }
    });
    let deadline = Deadline::within(HOUR);
    for way in WAYS {
        let program = program(&host, user(way), probe.clone()).await;
        let request = using("tools-ways", way, way).with_deadline(deadline);
        let request = request.with_tenant(Tenant::new("acme"));
        let answer = program.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.outputs["answer"], json!([way, 1, null]));
    }
    let seen = seen.lock().unwrap();
    let acme = Some(Tenant::new("acme"));
    let expected = (Handle::current().id(), Some(deadline), acme);
    assert_eq!(*seen, vec![expected; WAYS.len()]);
}

#[tokio::test]
async fn a_cancelled_call_drops_its_tool() {
    let host = host().await;
    for way in WAYS {
        let key = format!("tools-cancel-{way}");
        let (tool, mut events) = hanging();
        let program = program(&host, user(way), tool).await;
        let mut calls = JoinSet::new();
        calls.spawn(program.clone().oneshot(using(&key, way, "?")));
        assert_eq!(next(&mut events).await, "started");
        drop(calls);
        let mut ends = [next(&mut events).await, next(&mut events).await];
        ends.sort_unstable();
        assert_eq!(ends, ["dropped", "told"], "{way}");
        eventually("the work to end", || program.in_flight() == 0).await;
    }
    eventually_seen(&host, "tools-cancel-task", &["CancelledError"]).await;
    eventually_seen(&host, "tools-cancel-sync", &["Cancelled"]).await;
}

#[tokio::test]
async fn a_passed_deadline_drops_the_tool() {
    let host = host().await;
    for way in WAYS {
        let (tool, mut events) = hanging();
        let program = program(&host, user(way), tool).await;
        // It must have started by then, on a machine that is busy with other tests.
        let deadline = Deadline::within(Duration::from_secs(3));
        let request = using("tools-deadline", way, "?").with_deadline(deadline);
        let error = program.clone().oneshot(request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadline);
        assert_eq!(next(&mut events).await, "started");
        let mut ends = [next(&mut events).await, next(&mut events).await];
        ends.sort_unstable();
        assert_eq!(ends, ["dropped", "told"], "{way}");
        eventually("the work to end", || program.in_flight() == 0).await;
    }
}

#[tokio::test]
async fn a_cancelled_call_starts_no_tool() {
    let host = host().await;
    for (target, error) in [("again", "cancelled"), ("Again", "Cancelled")] {
        let started = Arc::new(AtomicU32::new(0));
        let (gate, opened) = (Arc::new(tokio::sync::Notify::new()), started.clone());
        let there = gate.clone();
        let probe = Tool::new("probe", "Hangs.", move |_: ToolCall| {
            opened.fetch_add(1, Ordering::SeqCst);
            there.notify_one();
            std::future::pending::<Result<(), BoxError>>()
        });
        let program = program(&host, &format!("tools:{target}"), probe).await;
        let key = format!("tools-{target}");
        let request = PredictRequest::new(json!({"key": key}));
        let mut calls = JoinSet::new();
        calls.spawn(program.clone().oneshot(request));
        gate.notified().await;
        drop(calls);
        // The second call of the tool is refused as it begins.
        eventually_seen(&host, &key, &[error, error]).await;
        eventually("the work to end", || program.in_flight() == 0).await;
        assert_eq!(started.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn errors_and_panics_of_a_tool_are_exceptions_in_python() {
    #[derive(Debug, thiserror::Error)]
    #[error("no index")]
    struct NoIndex(#[source] std::io::Error);

    let host = host().await;
    let probe = Tool::new("probe", "Fails.", |call: ToolCall| async move {
        if call.arguments["text"] == "panic" {
            panic!("as it was asked to");
        }
        Err::<(), _>(NoIndex(std::io::Error::other("disk gone")))
    });
    for way in WAYS {
        let program = program(&host, user(way), probe.clone()).await;
        let failed = async |text: &str| {
            let request = using("tools-errors", way, text);
            let answer = program.clone().oneshot(request).await.unwrap();
            answer.outputs["failed"].clone()
        };
        assert_eq!(failed("?").await, "no index: disk gone");
        let said = failed("panic").await;
        assert_eq!(said, "the tool `probe` panicked");
    }
    for target in ["tools:use", "tools:Use"] {
        let program = program(&host, target, probe.clone()).await;
        let request = using("tools-errors", "without arguments", "?");
        let answer = program.oneshot(request).await.unwrap();
        let said = answer.outputs["failed"].as_str().unwrap();
        assert!(said.contains("`text` is missing"), "{said}");
    }
}

#[tokio::test]
async fn an_invalid_tool_is_refused_at_load() {
    let host = host().await;
    let tool = |name: &str| Tool::new(name, "", |_: ToolCall| async { Ok::<_, BoxError>(()) });
    for (tools, said) in [
        (vec![tool("a b")], "`a b`"),
        (vec![tool("")], "ASCII"),
        (vec![tool("finish")], "`finish`"),
        (vec![tool("a"), tool("a")], "two tools `a`"),
        (vec![tool("a").argument("x", json!("string"))], "`x`"),
    ] {
        let load = host.load("tools:use");
        let load = tools.into_iter().fold(load, |load, tool| load.tool(tool));
        let error = load.await.unwrap_err();
        assert_eq!(error.kind(), LoadErrorKind::Tool, "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    let program = program(&host, "tools:missing", tool("probe")).await;
    let error = program.oneshot(PredictRequest::new(json!({}))).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("no such tool") && error.contains("probe"),
        "{error}"
    );
}
