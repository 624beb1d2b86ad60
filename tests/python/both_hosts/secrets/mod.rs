//! Planted secrets, which are in nothing that shows calls at its default settings.

mod readings;

use std::{fmt::Debug, time::Duration};

use futures_util::StreamExt;
use serde_json::json;
use tokio::time::timeout;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, util::BoxCloneService};
use tower_dspy::{
    Backoff, CallId, CancelLayer, Carrier, Deadline, DeadlineLayer, DspyService, Error, Host, Lm,
    PredictRequest, RetryLayer, StreamEvent, Tenant, Tool, ToolCall, TrackLayer, Tracker,
    inbound::axum::PrometheusMetrics,
    metrics::Gauges,
    page::DebugPage,
    testing::scripted_lm::{Reply, ScriptedLm},
};

use self::readings::{call_pages, live_pages, pages, readings};
use crate::{
    captured_log::Captured,
    support::{HOUR, LIMIT, eventually, eventually_seen, lm_server, own_process, start},
};

/// What each secret begins with.
const MARK: &str = "SECRET-";
/// In a task, and on a thread.
const PROGRAMS: [&str; 2] = ["confides:ConfidesInTask", "confides:Confides"];
/// A program that logs, calls tools and asks the LM gets so far in it, on a busy machine as well.
const DEADLINE: Duration = Duration::from_secs(3);

fn secret(name: &str) -> String {
    format!("{MARK}{name}")
}

#[track_caller]
fn assert_none(what: &str, text: &str) {
    assert!(!text.contains(MARK), "a secret is in {what}:\n{text}");
}

#[track_caller]
fn assert_none_in(texts: &[(String, String)]) {
    for (what, text) in texts {
        assert!(!text.is_empty(), "{what}");
        assert_none(what, text);
    }
}

#[track_caller]
fn assert_hidden(value: &impl Debug) {
    assert_none("what `Debug` shows", &format!("{value:?}"));
}

/// A request, and the id of its call.
fn asks(end: &str) -> (CallId, PredictRequest) {
    let inputs = json!({"question": secret("input"), "end": end});
    let mut request = PredictRequest::new(inputs).with_tenant(Tenant::new(secret("tenant")));
    let id = request.context_mut().id();
    assert_hidden(&request);
    (id, request)
}

/// All that shows calls, but for the log.
struct Observed {
    host: Host,
    server: &'static ScriptedLm,
    tracker: Tracker,
    metrics: PrometheusMetrics,
}

impl Observed {
    async fn start() -> Self {
        let server = lm_server().await;
        server.script("confides", Reply::answer(secret("answer")));
        server.script("confides-fails", Reply::answer(secret("answer")));
        server.script("confides-401", Reply::status(401));
        server.script("confides-unreadable", Reply::content(secret("body")));
        Self {
            host: start().await,
            server,
            tracker: Tracker::new().with_samples(32).with_history(32),
            metrics: PrometheusMetrics::install().unwrap(),
        }
    }

    async fn load(&self, target: &str, model: &str) -> DspyService {
        let probe = |call: ToolCall| async move {
            assert_hidden(&call);
            match call.arguments["text"] == secret("argument") {
                true => Ok(secret("tool-answer")),
                false => Err(BoxError::from("another argument")),
            }
        };
        let fails = |_| async { Err::<(), _>(BoxError::from(secret("tool-error"))) };
        let probe = match model {
            "confides-fails" => Tool::new("probe", "Fails.", fails),
            _ => Tool::new("probe", "Answers.", probe),
        };
        let probe = probe.argument("text", json!({"type": "string"}));
        let lm = Lm::new(format!("openai/{model}"))
            .base_url(self.server.base_url())
            .key(secret("key"));
        assert_hidden(&(&lm, &probe));
        let program = self.host.load(target).lm(lm).tool(probe).await;
        program.unwrap_or_else(|error| panic!("{error}\n{}", error.traceback()))
    }

    /// A program below the layers that calls go through.
    fn stack<S, R>(&self, program: S) -> BoxCloneService<PredictRequest, R, Error>
    where
        S: Service<PredictRequest, Response = R, Error = Error> + Clone + Send + 'static,
        S::Future: Send,
        R: Send + 'static,
    {
        let stack = ServiceBuilder::new()
            .layer(TrackLayer::new(self.tracker.clone()).with_label("confides"))
            .layer(DeadlineLayer::new(HOUR))
            .layer(CancelLayer::new())
            .layer(RetryLayer::new(1).with_backoff(Backoff::fixed(Duration::ZERO)))
            .service(program);
        BoxCloneService::new(stack)
    }

    /// The page of these calls, with no other setting than the host.
    fn page(&self) -> DebugPage {
        DebugPage::new(self.tracker.clone()).host(&self.host)
    }

    /// Reads a call in each way, whose record is to have this many tools and LM calls.
    async fn read(&self, id: CallId, tools: usize, lm_calls: usize) {
        let call = self.tracker.timeline(id).expect("a call that is kept");
        assert_eq!(
            (call.tools.len(), call.lm_calls.len()),
            (tools, lm_calls),
            "{call:?}"
        );
        assert_hidden(&(&call, self.tracker.get(id)));
        assert_none_in(&readings(&call));
        assert_none_in(&call_pages(self.page().into_router(), id).await);
    }

    /// Calls that come to an answer or to an error.
    async fn end_calls(&self) {
        for target in PROGRAMS {
            for (model, end, lm_calls, error) in [
                ("confides", "answers", 1, None),
                ("confides", "raises", 1, Some("exception")),
                ("confides-fails", "answers", 0, Some("tool-error")),
                ("confides-401", "answers", 1, Some("401")),
                // DSPy asks once more, for JSON.
                ("confides-unreadable", "answers", 2, Some("body")),
            ] {
                let program = self.load(target, model).await;
                let (id, request) = asks(end);
                let result = self.stack(program).oneshot(request).await;
                assert_hidden(&result);
                match (error, result) {
                    (None, answer) => {
                        assert_eq!(answer.unwrap().outputs["answer"], secret("answer"))
                    }
                    (Some(part), result) => {
                        // Who asks for the message gets it.
                        let said = result.unwrap_err().to_string();
                        assert!(said.contains(part), "{said}");
                    }
                }
                self.read(id, 2, lm_calls).await;
            }
        }
    }

    /// Calls that are stopped after their program's LM call.
    async fn stop_calls(&self) {
        let program = self.load(PROGRAMS[0], "confides").await;
        for end in [
            "hangs until cancelled",
            "hangs until dropped",
            "hangs until the deadline",
        ] {
            let (id, mut request) = asks(end);
            if end == "hangs until the deadline" {
                request = request.with_deadline(Deadline::within(DEADLINE));
            }
            let call = tokio::spawn(self.stack(program.clone()).oneshot(request));
            eventually_seen(&self.host, end, &["hangs"]).await;
            self.read(id, 2, 1).await;
            assert_none_in(&pages(self.page().into_router()).await);
            assert_none_in(&live_pages(self.page().into_router(), id).await);
            match end {
                "hangs until cancelled" => {
                    let cancelled = self.tracker.cancel(id);
                    timeout(LIMIT, cancelled.settled()).await.unwrap();
                }
                "hangs until dropped" => call.abort(),
                _ => {}
            }
            if let Ok(result) = call.await {
                let error = result.unwrap_err();
                let partial = error.spent().and_then(|spent| spent.partial.as_ref());
                assert_eq!(partial.unwrap()["answer"], secret("partial"), "{error:?}");
                assert_hidden(&error);
            }
            eventually("the end of its work", || self.host.stats().running == 0).await;
            self.read(id, 2, 1).await;
        }
    }

    /// Streams that are read to their end, and that are dropped in the middle.
    async fn stream(&self) {
        for (target, is_dropped) in [
            (PROGRAMS[0], false),
            (PROGRAMS[0], true),
            (PROGRAMS[1], false),
        ] {
            let program = self.load(target, "confides").await;
            let (id, request) = asks("answers");
            let mut stream = self
                .stack(program.streaming())
                .oneshot(request)
                .await
                .unwrap();
            let mut text = String::new();
            while let Some(event) = stream.next().await {
                assert_hidden(&event);
                if let StreamEvent::Text { delta, .. } = event.unwrap() {
                    text += &delta;
                    if is_dropped {
                        break;
                    }
                }
            }
            assert_hidden(&stream);
            drop(stream);
            assert!(is_dropped || text == secret("answer"), "{text}");
            eventually("the end of its work", || self.host.stats().running == 0).await;
            self.read(id, 2, 1).await;
        }
    }
}

#[tokio::test]
async fn planted_secrets_are_in_nothing_that_shows_calls() {
    let name = "both_hosts::secrets::planted_secrets_are_in_nothing_that_shows_calls";
    if own_process(name).await.is_some() {
        return;
    }
    let captured = Captured::with_spans("info");
    let observed = Observed::start().await;
    observed.end_calls().await;
    observed.stop_calls().await;
    observed.stream().await;

    let requests = observed.server.requests("confides");
    let sent = requests.iter().all(|request| {
        let key = format!("Bearer {}", secret("key"));
        request.body.to_string().contains(&secret("input"))
            && request.authorization() == Some(&*key)
    });
    assert!(sent && !requests.is_empty(), "{requests:?}");
    assert_none_in(&pages(observed.page().into_router()).await);
    assert_hidden(&observed.page().token(secret("token")));
    let Observed {
        host,
        tracker,
        metrics,
        ..
    } = observed;
    assert_hidden(&(
        &host,
        host.stats(),
        &tracker,
        tracker.history(),
        tracker.programs(),
    ));
    let gauges = Gauges::new().observe_host(&host);
    gauges.observe_tracker("calls", &tracker).sample();
    let rendered = metrics.render();
    for shown in [
        r#"program="confides""#,
        "gen_ai_execute_tool",
        "tower_dspy_running",
    ] {
        assert!(rendered.contains(shown), "{rendered}");
    }
    assert_none("the metrics", &rendered);
    host.stop(Duration::from_secs(10)).await;
    let logged = captured.text();
    for shown in [
        "invoke_workflow",
        "chat",
        "execute_tool",
        "ValueError",
        "confides-401",
    ] {
        assert!(logged.contains(shown), "`{shown}` is not in\n{logged}");
    }
    assert_none("the log", &logged);
}
