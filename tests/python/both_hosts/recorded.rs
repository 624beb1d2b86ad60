//! What the record of a call, and the log, have of its tools, its log records and its end.

use std::time::Duration;

use serde_json::json;
use tokio::{net::TcpListener, time::timeout};
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_dspy::{
    CallId, Carrier, Cause, Error, PredictRequest, Tool, ToolCall, TrackLayer, Tracker,
    timeline::{BlockTimeline, CallTimeline},
};

use crate::{
    captured_log::Captured,
    support::{
        LIMIT, ask, ask_as, eventually, eventually_seen, host, host_alone, load, own_process, start,
    },
};

/// How often a late end is driven, at most.
const ROUNDS: usize = 10;

/// Far longer than from the end of the work to its last line in the log.
const SOON: Duration = Duration::from_secs(2);

/// The lines of the log that contain `text`.
fn lines(captured: &Captured, text: &str) -> Vec<String> {
    let logged = captured.text();
    let lines = logged.lines().filter(|line| line.contains(text));
    lines.map(str::to_owned).collect()
}

fn with_id(mut request: PredictRequest) -> (CallId, PredictRequest) {
    (request.context_mut().id(), request)
}

/// The call's id as an event has it as a field, not its span.
fn field_of(line: &str) -> Option<&str> {
    let (_, fields) = line.rsplit_once("tower_dspy")?;
    let (_, rest) = fields.split_once("call_id=")?;
    rest.split(' ').next()
}

fn names(timeline: &CallTimeline) -> Vec<(&str, u32, bool, bool)> {
    let tools = timeline.tools.iter();
    tools
        .map(|tool| (&*tool.name, tool.attempt, tool.ended.is_some(), tool.failed))
        .collect()
}

#[tokio::test]
async fn the_tools_of_a_call_are_on_its_timeline_once_each() {
    let host = host().await;
    let probe = || {
        let probe = Tool::new("probe", "Echoes.", |call: ToolCall| async move {
            Ok::<_, BoxError>(call.arguments["text"].clone())
        });
        probe.argument("text", json!({"type": "string"}))
    };
    let three = [
        ("search", 0, true, false),
        ("probe", 0, true, false),
        ("breaks", 0, true, true),
    ];
    let tracker = Tracker::new().with_samples(4);
    let service = |program| {
        let track = TrackLayer::new(tracker.clone()).with_label("tools");
        ServiceBuilder::new().layer(track).service(program)
    };
    let program = host.load("observed:SyncTools").tool(probe()).await.unwrap();
    let (id, request) = with_id(ask("SECRET"));
    service(program).oneshot(request).await.unwrap();
    let timeline = &tracker.timeline(id).unwrap();
    assert_eq!(names(timeline), three);
    assert_eq!(timeline.tools_not_kept, 0);
    assert!(timeline.tools.is_sorted_by_key(|tool| tool.started));
    assert!(!format!("{timeline:?}").contains("SECRET"));

    let program = host
        .load("observed:AsyncTools")
        .tool(probe())
        .await
        .unwrap();
    let (id, request) = with_id(ask("SECRET"));
    let running = tokio::spawn(service(program).oneshot(request));
    let of_running = || tracker.timeline(id);
    let waits = || of_running().is_some_and(|timeline| timeline.tools.len() == 4);
    eventually("the last tool", waits).await;
    let seen = of_running().unwrap();
    let open = ("waits", 0, false, false);
    assert_eq!(names(&seen), [three.as_slice(), &[open]].concat());
    // A cancelled call ends its tools.
    let cancelled = tracker.cancel_as(id, Cause::Caller);
    running.await.unwrap().unwrap_err();
    timeout(Duration::from_secs(30), cancelled.settled())
        .await
        .unwrap();
    let seen = of_running().unwrap();
    assert_eq!(names(&seen)[3], ("waits", 0, true, true));
}

#[tokio::test]
async fn a_block_of_the_loop_is_on_the_timeline_of_its_call() {
    let host = host_alone().await;
    // On a busy machine other code may block the loop as well.
    let is_of_program = |block: &BlockTimeline| {
        block.frame.contains("observed.py:") && block.frame.ends_with(" _receives")
    };
    let tracker = Tracker::new().with_samples(4);
    let blocks = ServiceBuilder::new()
        .layer(TrackLayer::new(tracker.clone()))
        .service(load(&host, "observed:blocks", "unused").await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (id, request) = with_id(PredictRequest::new(json!({"port": port})));
    let call = tokio::spawn(blocks.oneshot(request));
    let accepted = timeout(LIMIT, listener.accept()).await;
    let (peer, _) = accepted.expect("a call that blocks").unwrap();
    let is_seen = || {
        let timeline = tracker.timeline(id);
        timeline.is_some_and(|timeline| timeline.blocks.iter().any(is_of_program))
    };
    eventually("the block", is_seen).await;
    drop(peer);
    call.await.unwrap().unwrap();
    let timeline = tracker.timeline(id).unwrap();
    let mut of_program = timeline.blocks.iter().filter(|block| is_of_program(block));
    let (Some(block), None) = (of_program.next(), of_program.next()) else {
        panic!("{timeline:?}")
    };
    assert!(block.at <= timeline.answered.unwrap().at, "{timeline:?}");
}

#[tokio::test]
async fn log_records_and_warnings_have_the_id_of_their_call() {
    let name = "both_hosts::recorded::log_records_and_warnings_have_the_id_of_their_call";
    if own_process(name).await.is_some() {
        return;
    }
    let captured = Captured::from("tower_dspy=debug");
    let host = start().await;
    let logs = load(&host, "observed:logs", "unused").await;
    let (id, request) = with_id(ask("?"));
    logs.oneshot(request).await.unwrap();
    let logged = || {
        let logged = captured.text();
        // A record has as many lines as its message.
        let events = logged
            .replace("\n  ", " ")
            .replace("\n call_id", " call_id");
        let events = events.lines().filter(|line| line.contains("logger="));
        events.map(str::to_owned).collect::<Vec<_>>()
    };
    eventually("the records", || logged().len() == 4).await;
    let expected = ["in its task", "as a warning", "in parallel", "in parallel"];
    for (line, text) in logged().iter().zip(expected) {
        assert!(
            line.contains("DEBUG") && line.contains("level=\"warning\""),
            "{line}"
        );
        assert!(line.contains(&format!("SAID {text}")), "{line}");
        assert_eq!(field_of(line), Some(&*id.to_string()), "{line}");
    }
    let warning = &logged()[1];
    assert!(
        warning.contains("observed.py:") && warning.contains("UserWarning"),
        "{warning}"
    );
    assert!(!captured.text().contains("1234567890abcdef"));
    host.stop(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn what_comes_after_the_end_of_a_call_is_logged_with_its_id() {
    let name = "both_hosts::recorded::what_comes_after_the_end_of_a_call_is_logged_with_its_id";
    if own_process(name).await.is_some() {
        return;
    }
    let captured = Captured::from("tower_dspy=debug");
    let host = start().await;
    for (target, key, late) in [
        (
            "observed:goes_on",
            "recorded-goes-on",
            vec!["a partial answer", "an outcome"],
        ),
        ("observed:fails_late", "recorded-fails", vec!["an outcome"]),
    ] {
        let program = load(&host, target, "unused").await;
        let mut logged = false;
        // Where the loop stands still meanwhile, the clean-up is cut short, and nothing comes late.
        for round in 0..ROUNDS {
            let key = format!("{key}-{round}");
            let (id, request) = with_id(ask_as(&key));
            let id = id.to_string();
            let call = tokio::spawn(program.clone().oneshot(request));
            eventually_seen(&host, &key, &["begun"]).await;
            call.abort();
            assert!(call.await.unwrap_err().is_cancelled());
            let all = || {
                late.iter().all(|what| {
                    let text = format!("{what} came after the end of the call");
                    let lines = lines(&captured, &text);
                    lines.iter().any(|line| field_of(line) == Some(&*id))
                })
            };
            eventually("the work to be over", || host.stats().running == 0).await;
            logged = timeout(SOON, eventually("the log", all)).await.is_ok();
            if logged {
                break;
            }
        }
        assert!(logged, "{}", captured.text());
    }
    assert!(captured.text().contains("ValueError"));
    assert!(!captured.text().contains("SECRET"));
    host.stop(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_program_that_raises_is_logged_with_the_frame_that_did() {
    let name = "both_hosts::recorded::a_program_that_raises_is_logged_with_the_frame_that_did";
    if own_process(name).await.is_some() {
        return;
    }
    let captured = Captured::from("tower_dspy=debug");
    let host = start().await;
    let raises = load(&host, "observed:raises", "unused").await;
    let error = raises.oneshot(ask("?")).await.unwrap_err();
    let Error::Program(error) = error else {
        panic!("{error:?}")
    };
    let at = error.raised_at().unwrap();
    assert!(
        at.contains("observed.py:") && at.ends_with(" _raise"),
        "{at}"
    );
    let logged = captured.text();
    // A busy machine has warnings of its own.
    let of_program = |line: &&str| line.contains("WARN") && line.contains(at);
    let warned = logged.lines().find(of_program).unwrap();
    assert!(warned.contains("ValueError"), "{warned}");
    assert!(!warned.contains("SECRET"), "{warned}");
    let traced = logged
        .lines()
        .find(|line| line.contains("Traceback"))
        .unwrap();
    assert!(traced.contains("DEBUG"), "{traced}");
    host.stop(Duration::from_secs(10)).await;
}
