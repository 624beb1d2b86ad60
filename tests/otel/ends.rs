//! How and when the spans of calls end, and what they show.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use axum::Router;
use tokio::time::sleep;
use tower::ServiceBuilder;
use tower_dspy::{
    DspyServiceBuilderExt, Host, InboundLayer, Tracker,
    inbound::axum::stream::predict_stream,
    telemetry::names,
    testing::scripted_lm::{Gate, Reply},
};

use super::{ERROR, SECRETS, UNSET, listen, post, run, serve, shared};

#[test]
fn a_deadline_is_a_timeout_in_each_span() {
    run(async {
        let shared = shared().await;
        shared.lm.script("slow", Reply::hang());
        let ends_late = async |host: &Host, target: &str, id: &str, inner: [&str; 2]| {
            let url = serve(shared.load(host, target, "slow").await).await;
            let call = post(&url, id).header("x-request-timeout", "5s");
            assert_eq!(call.send().await.expect("a response").status(), 504);
            let workflow = format!("invoke_workflow {target}");
            // Those of Python too.
            let names = [inner[0], inner[1], &workflow, "tower_dspy.call"];
            let trace = shared.collector.trace(id, |trace| {
                names.iter().all(|name| trace.named(name).len() == 1)
            });
            let trace = trace.await;
            for name in names {
                let span = trace.named(name)[0];
                let end = (span.status, span.get(names::ERROR_TYPE));
                assert_eq!(end, (ERROR, Some("timeout")), "{name}");
            }
            trace.assert_without(SECRETS);
        };
        let host = shared.host().await;
        let id = "0000000000000000000000000000a004";
        ends_late(&host, "traced:Asks", id, ["chat slow", "LM.acall"]).await;
        let workers = shared.workers().await;
        let id = "0000000000000000000000000000a005";
        ends_late(
            &workers,
            "traced:UsesStuckTool",
            id,
            ["execute_tool stuck", "step"],
        )
        .await;
    });
}

#[test]
fn the_spans_of_a_stream_end_after_its_last_chunk() {
    run(async {
        let shared = shared().await;
        let id = "0000000000000000000000000000a006";
        let gate = Gate::new();
        let reply = Reply::answer("first second third").pause_after(3, &gate);
        shared.lm.script("stream", reply);
        let host = shared.host().await;
        let program = shared.load(&host, "traced:Asks", "stream").await;
        let streaming = ServiceBuilder::new()
            .tracked(Tracker::new())
            .service(program.streaming());
        let app: Router = Router::new()
            .route("/ask", predict_stream(program, streaming))
            .layer(InboundLayer::new());
        let url = format!("{}/ask", listen(app).await);
        let call = post(&url, id).header("accept", "text/event-stream");
        let mut answer = call.send().await.expect("a response");
        assert_eq!(answer.status(), 200);
        let written = shared.lm.wait_for("stream", |asked| {
            asked.first().is_some_and(|one| one.tokens >= 3)
        });
        written.await.expect("tokens");
        // The head of the answer has come by then.
        sleep(Duration::from_millis(300)).await;
        let paused = SystemTime::now();
        gate.open();
        while answer.chunk().await.expect("a chunk").is_some() {}

        let names = [
            "chat stream",
            "invoke_workflow traced:Asks",
            "tower_dspy.call",
        ];
        let trace = shared.collector.trace(id, |trace| {
            names.iter().all(|name| trace.named(name).len() == 1)
        });
        let trace = trace.await;
        for name in names {
            let span = trace.named(name)[0];
            assert!(span.ended >= paused, "{name} {span:?}");
            assert_eq!(span.status, UNSET);
            assert_eq!(span.get(names::OUTCOME), Some("completed"));
        }
        let chat = trace.named("chat stream")[0];
        assert_eq!(chat.get(names::REQUEST_STREAM), Some("true"));
        assert_eq!(chat.get(names::FINISH_REASONS), Some("[\"stop\"]"));
        trace.assert_without(SECRETS);
    });
}

#[test]
fn an_exception_and_a_tool_of_the_program_show_no_content() {
    run(async {
        let shared = shared().await;
        let id = "0000000000000000000000000000a007";
        let host = shared.host().await;
        let url = serve(shared.load(&host, "traced:Fails", "none").await).await;
        let answer = post(&url, id).send().await.expect("a response");
        assert!(answer.status().is_server_error());
        let tool = "execute_tool look_up";
        let trace = shared.collector.trace(id, |trace| {
            trace.named(tool).len() == 1 && trace.named("tower_dspy.call").len() == 1
        });
        let trace = trace.await;
        let tool = trace.named(tool)[0];
        assert_eq!(
            trace.path(tool).0[1..],
            ["invoke_workflow traced:Fails", "tower_dspy.call"]
        );
        assert_eq!(
            (tool.status, tool.get(names::ERROR_TYPE)),
            (ERROR, Some("_OTHER"))
        );
        let workflow = trace.named("invoke_workflow traced:Fails")[0];
        // An event says where it was raised, without the message.
        let has_type = |(_, fields): &(String, BTreeMap<String, String>)| {
            fields.get("python_type").map(String::as_str) == Some("ValueError")
        };
        assert!(workflow.events.iter().any(has_type), "{workflow:?}");
        assert_eq!(workflow.links, [] as [&str; 0]);
        trace.assert_without(SECRETS);
    });
}
