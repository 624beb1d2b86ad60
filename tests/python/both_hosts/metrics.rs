//! Metrics add up, over real Python, and tell nothing of what calls are about.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tokio::sync::OnceCell;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, layer::layer_fn, service_fn};
use tower_dspy::{
    Backoff, CancelLayer, Cause, Deadline, DeadlineLayer, Error, ErrorKind, FallbackLayer, Lm,
    PredictRequest, Prediction, RetryLayer, Tenant, TrackLayer, Tracker,
    inbound::axum::{InstallError, PrometheusMetrics},
    lm::{LmBody, LmHttp, LmRequest, LmResponse},
    testing::scripted_lm::{Gate, Outcome, Reply, RequestRecord},
};

use crate::support::{HOUR, ask, eventually, host_alone, lm_server, load};

/// Long enough for an LM call to begin, on a busy machine as well.
const LIMIT: Duration = Duration::from_secs(5);

/// How often each end of a call is driven.
const ROUNDS: usize = 3;

/// The exporter of this process.
async fn exporter() -> &'static PrometheusMetrics {
    static EXPORTER: OnceCell<PrometheusMetrics> = OnceCell::const_new();
    let install = || async { PrometheusMetrics::install().expect("the first exporter") };
    EXPORTER.get_or_init(install).await
}

/// The values of a metric whose line has all of these labels.
fn sum(rendered: &str, metric: &str, labels: &[&str]) -> f64 {
    let lines = rendered.lines().filter(|line| {
        let of_metric = line
            .strip_prefix(metric)
            .is_some_and(|rest| rest.starts_with(['{', ' ']));
        of_metric && labels.iter().all(|label| line.contains(label))
    });
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// What a scripted LM reports as the tokens of a request that it has answered.
fn tokens(request: &RequestRecord) -> usize {
    let messages = request.body["messages"].as_array().into_iter().flatten();
    let words = |message: &Value| match &message["content"] {
        // Space at the end is one more.
        Value::String(text) => {
            text.split_whitespace().count() + usize::from(text.ends_with(char::is_whitespace))
        }
        parts => panic!("content in parts: {parts}"),
    };
    messages.map(words).sum::<usize>() + request.tokens
}

/// Has `calls` made of a program that asks `model` twice, with each end that a call can have.
async fn drive<S>(service: S, model: &str, tracker: &Tracker)
where
    S: Service<PredictRequest, Response = Prediction, Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    let server = lm_server().await;
    let answer = || Reply::answer("yes");
    let round = || {
        let retried = [answer(), Reply::status(503), answer(), answer()];
        let stopped = || [answer(), Reply::hang()];
        let rejected = [answer(), Reply::status(401)];
        let stopped = [(); 3].map(|()| stopped()).into_iter().flatten();
        let answered = [answer(), answer()].into_iter().chain(retried);
        answered.chain(stopped).chain(rejected)
    };
    let rounds = (0..ROUNDS).flat_map(|_| round());
    server.script(model, rounds.collect::<Vec<_>>());
    // Returns a call that the LM has been asked for so often.
    #[allow(
        clippy::async_yields_async,
        reason = "the call is awaited, or dropped, later"
    )]
    let call_with = async |request: PredictRequest, asked: usize| {
        let asked = server.requests(model).len() + asked;
        let call = tokio::spawn(service.clone().oneshot(request));
        let has_come = |all: &[RequestRecord]| all.len() >= asked;
        server.wait_for(model, has_come).await.unwrap();
        call
    };
    let call = |asked| call_with(ask("metered"), asked);
    for _ in 0..ROUNDS {
        let (answered, retried) = (call(2).await.await, call(4).await.await);
        assert!(answered.unwrap().is_ok() && retried.unwrap().is_ok());
        let limited = ask("metered").with_deadline(Deadline::within(LIMIT));
        let late = call_with(limited, 2).await.await;
        assert!(late.unwrap().is_err());
        let cancelled = call(2).await;
        let _ = tracker.cancel_all(Cause::Caller);
        assert!(cancelled.await.unwrap().is_err());
        let dropped = call(2).await;
        dropped.abort();
        assert!(dropped.await.is_err());
        let fell_back = call(2).await.await;
        assert!(fell_back.unwrap().is_ok());
    }
}

#[tokio::test]
async fn calls_and_tokens_add_up() {
    let (host, server, exporter) = (host_alone().await, lm_server().await, exporter().await);
    let (model, cheap) = ("metered", "metered-cheap");
    let tracker = Tracker::new();
    let before = host.stats().lm.wasted_tokens;
    let fallback = FallbackLayer::service(load(&host, "asks:twice", cheap).await);
    let service = ServiceBuilder::new()
        .layer(TrackLayer::new(tracker.clone()).with_label("metered"))
        .layer(DeadlineLayer::new(HOUR))
        .layer(CancelLayer::new())
        .layer(fallback.on_kinds([ErrorKind::LmRejected]))
        .layer(RetryLayer::new(2).with_backoff(Backoff::fixed(Duration::ZERO)))
        .service(load(&host, "asks:twice", model).await);
    drive(service, model, &tracker).await;
    eventually("all work to be over", || host.stats().running == 0).await;

    let rendered = exporter.render();
    let total = |metric: &str, labels: &[&str]| {
        let labels: Vec<_> = labels
            .iter()
            .copied()
            .chain([r#"program="metered""#])
            .collect();
        sum(&rendered, metric, &labels)
    };
    let calls = |outcome: &str| total("tower_dspy_calls_total", &[outcome]) as u64;
    let counts = tracker.counts();
    assert_eq!(calls(""), counts.accepted);
    let outcomes = [
        (r#"outcome="completed""#, counts.completed),
        (r#"outcome="timed_out""#, counts.timed_out),
        (r#"outcome="cancelled""#, counts.cancelled),
        (r#"outcome="failed""#, counts.failed),
    ];
    for (outcome, count) in outcomes {
        assert_eq!(calls(outcome), count, "{outcome}");
    }
    assert_eq!(
        (counts.completed, counts.timed_out, counts.cancelled),
        (9, 3, 6)
    );
    assert_eq!(
        total("tower_dspy_call_duration_seconds_count", &[]) as u64,
        counts.accepted
    );
    assert_eq!(
        total("tower_dspy_call_time_left_seconds_count", &[]) as u64,
        counts.accepted
    );
    assert_eq!(
        total("tower_dspy_call_overshoot_seconds_count", &[]) as u64,
        counts.timed_out
    );
    // Those that were told to stop: by the deadline, the caller and the drop.
    assert_eq!(total("tower_dspy_call_settle_seconds_count", &[]), 9.0);

    let requests = [server.requests(model), server.requests(cheap)].concat();
    assert_eq!(
        total("tower_dspy_lm_calls_total", &[]) as usize,
        requests.len()
    );
    let refused = total("tower_dspy_lm_calls_total", &[r#"status="503""#]);
    assert_eq!(refused, 3.0);
    // An answer of another status than 200 has no tokens.
    let is_answer =
        |request: &&RequestRecord| request.outcome == Outcome::Answered && request.tokens > 0;
    let answered = requests.iter().filter(is_answer);
    let expected: usize = answered.map(tokens).sum();
    let by_fate = ["used", "late", "wasted"]
        .map(|fate| total("tower_dspy_tokens_total", &[&format!(r#"fate="{fate}""#)]) as usize);
    assert_eq!(by_fate.iter().sum::<usize>(), expected, "{by_fate:?}");
    assert!(by_fate[0] > 0 && by_fate[2] > 0, "{by_fate:?}");
    assert_eq!(by_fate[2] as u64, host.stats().lm.wasted_tokens - before);
}

/// Sends each request in a task of its own, which reads the whole answer whatever becomes of the
/// caller.
fn to_the_end(inner: LmHttp) -> LmHttp {
    LmHttp::new(service_fn(move |request: LmRequest| {
        let inner = inner.clone();
        let call = tokio::spawn(async move {
            let (head, body) = inner.oneshot(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok::<_, BoxError>(LmResponse::from_parts(head, LmBody::new(Full::from(body))))
        });
        async { call.await? }
    }))
}

#[tokio::test]
async fn the_tokens_of_an_answer_after_the_end_of_its_call_are_late() {
    let (host, server, exporter) = (host_alone().await, lm_server().await, exporter().await);
    let (model, gate) = ("metered-late", Gate::new());
    server.script(model, Reply::answer("yes").held_by(&gate));
    let lm = crate::support::lm(model).await.layer(layer_fn(to_the_end));
    let program = host.load("question -> answer").lm(lm).await.unwrap();
    let before = host.stats().lm;
    let service = ServiceBuilder::new()
        .layer(TrackLayer::new(Tracker::new()).with_label("metered-late"))
        .service(program);
    let call = tokio::spawn(service.oneshot(ask("?")));
    let has_come = |all: &[RequestRecord]| !all.is_empty();
    server.wait_for(model, has_come).await.unwrap();
    call.abort();
    assert!(call.await.is_err());
    eventually("the call to be over", || host.stats().running == 0).await;
    gate.open();
    let late = || host.stats().lm.late_tokens - before.late_tokens;
    eventually("the late answer", || late() > 0).await;
    let of_fate = |fate: &str| {
        let labels = [&*format!(r#"fate="{fate}""#), r#"program="metered-late""#];
        sum(&exporter.render(), "tower_dspy_tokens_total", &labels) as u64
    };
    // It is emitted after the host has counted.
    eventually("the metric", || of_fate("late") > 0).await;

    let expected = tokens(&server.requests(model)[0]) as u64;
    assert_eq!(late(), expected);
    let by_fate = ["used", "late", "wasted"].map(of_fate);
    assert_eq!(by_fate, [0, expected, 0]);
}

#[tokio::test]
async fn metrics_tell_nothing_of_prompts_answers_keys_and_tenants() {
    let (host, server, exporter) = (host_alone().await, lm_server().await, exporter().await);
    let secret = "planted-secret";
    server.script("metered-secret", Reply::answer(format!("{secret}-answer")));
    let lm = Lm::new("openai/metered-secret")
        .base_url(server.base_url())
        .key(format!("sk-{secret}"));
    let program = host.load("question -> answer").lm(lm).await.unwrap();
    // A label that would be lines of its own.
    let label = "metered\"} 1\nevil{label=\"\\";
    let service = ServiceBuilder::new()
        .layer(TrackLayer::new(Tracker::new()).with_label(label))
        .layer(DeadlineLayer::new(HOUR))
        .service(program);
    let request =
        ask(&format!("{secret}-question")).with_tenant(Tenant::new(format!("{secret}-t")));
    service.oneshot(request).await.unwrap();

    let rendered = exporter.render();
    assert!(
        rendered.contains(r#"program="metered\"} 1\nevil{label=\"\\""#),
        "{rendered}"
    );
    assert!(!rendered.contains(secret) && !rendered.contains("call_id"));
    assert!(!rendered.lines().any(|line| line.starts_with("evil")));
}

#[tokio::test]
async fn a_second_exporter_is_refused() {
    exporter().await;
    let second = PrometheusMetrics::install();
    assert!(matches!(second, Err(InstallError::Installed)), "{second:?}");
}
