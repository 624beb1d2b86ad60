use std::{
    future::{pending, ready},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::json;
use tokio::time::{advance, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_dspy::{
    Cancel, Cause, Classify, DeadlineLayer, Error, ErrorKind, FallbackLayer, PredictRequest,
    Prediction, Tenant, WithContext,
    layers::{FallbackStrategy, Stale, StalePrediction, StaleValue, Value},
};

use crate::{
    script::{Log, answer, busy, request, too_slow},
    support::secs,
};

const MAX_AGE: u64 = 60;

fn stale() -> StalePrediction {
    Stale::predictions(secs(MAX_AGE))
}

/// Answers the first `good` calls with their number, and none after.
fn good_at_first(
    good: usize,
) -> impl Service<PredictRequest, Response = Prediction, Error = Error, Future: Send> + Clone {
    Log::default().service(move |n| {
        ready(if n < good {
            Ok(answer(&n.to_string()))
        } else {
            Err(too_slow())
        })
    })
}

/// Repeats the question, as long as it is up, which it is at first.
fn up_or_down<A>(
    layer: FallbackLayer<A>,
) -> (
    Arc<AtomicBool>,
    impl Service<PredictRequest, Response = Prediction, Error = Error> + Clone,
)
where
    A: FallbackStrategy<PredictRequest, Prediction, Error> + Clone,
{
    let up = Arc::new(AtomicBool::new(true));
    let is_up = Arc::clone(&up);
    let service = service_fn(move |request: PredictRequest| {
        ready(if is_up.load(Ordering::SeqCst) {
            Ok(answer(&format!("to {}", request.inputs())))
        } else {
            Err(too_slow())
        })
    });
    (up, layer.layer(service))
}

/// The answer's text, and its age in seconds.
fn told(result: Result<Prediction, Error>) -> (String, Option<u64>) {
    let prediction = result.expect("an answer");
    let text = prediction.get("answer").and_then(|text| text.as_str());
    (
        text.expect("a text").to_owned(),
        prediction.stale_age.map(|age| age.as_secs()),
    )
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_gets_the_last_good_answer_and_its_age() {
    let service = FallbackLayer::new(stale()).layer(good_at_first(2));
    for n in ["0", "1"] {
        let result = service.clone().oneshot(request()).await;
        assert_eq!(told(result), (n.to_owned(), None));
        advance(secs(10)).await;
    }
    // The age goes on from the answer, not from when it was last given.
    for age in [10, 20] {
        let result = service.clone().oneshot(request()).await;
        assert_eq!(told(result), ("1".to_owned(), Some(age)));
        advance(secs(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_old_leaves_the_error() {
    let service = FallbackLayer::stale(secs(MAX_AGE)).layer(good_at_first(1));
    let fresh = service.clone().oneshot(request()).await;
    assert_eq!(told(fresh), ("0".to_owned(), None));
    advance(secs(MAX_AGE)).await;
    let result = service.clone().oneshot(request()).await;
    assert_eq!(told(result), ("0".to_owned(), Some(MAX_AGE)));
    advance(secs(1)).await;
    let error = service.oneshot(request()).await.expect_err("too old");
    assert_eq!(error.kind(), ErrorKind::Elapsed);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_call_gets_the_last_good_answer_too() {
    let first = Log::default();
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(10)))
        .layer(FallbackLayer::stale(secs(MAX_AGE)).with_reserve(secs(1)))
        .service(first.service(|n| async move {
            match n {
                0 => Ok(answer("0")),
                _ => pending().await,
            }
        }));
    service
        .clone()
        .oneshot(request())
        .await
        .expect("the first answers");
    let result = service.oneshot(request()).await;
    assert_eq!(told(result), ("0".to_owned(), Some(9)));
}

#[tokio::test(start_paused = true)]
async fn the_cost_of_a_kept_answer_is_not_counted_twice() {
    let service = FallbackLayer::new(stale()).layer(Log::default().service(|n| {
        let mut fresh = answer("0");
        (
            fresh.lm_calls_bypassed,
            fresh.usage.total_tokens,
            fresh.elapsed,
        ) = (3, 70, secs(2));
        ready(if n == 0 { Ok(fresh) } else { Err(too_slow()) })
    }));
    let fresh = service.clone().oneshot(request()).await.expect("fresh");
    let stale = service.oneshot(request()).await.expect("stale");
    assert_eq!((fresh.lm_calls_bypassed, fresh.usage.total_tokens), (3, 70));
    assert_eq!(
        (stale.lm_calls_bypassed, stale.usage),
        (0, Default::default())
    );
    assert_eq!(stale.outputs, fresh.outputs);
}

#[tokio::test(start_paused = true)]
async fn each_question_has_its_own_answer() {
    let (up, service) = up_or_down(FallbackLayer::new(stale()));
    let ask = |text: &str| service.clone().oneshot(PredictRequest::new(json!(text)));
    ask("a").await.expect("fresh");
    ask("b").await.expect("fresh");
    up.store(false, Ordering::SeqCst);
    assert_eq!(told(ask("a").await), ("to \"a\"".to_owned(), Some(0)));
    assert_eq!(told(ask("b").await), ("to \"b\"".to_owned(), Some(0)));
    assert!(ask("c").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn any_response_type_can_be_kept_by_any_key() {
    let by_tenant =
        Stale::<_, _, StaleValue<u32>>::by(secs(MAX_AGE), |ask: &WithContext<(u8, bool)>| {
            ask.request.0
        });
    let layer = FallbackLayer::new(by_tenant.clone());
    let service = layer.layer(service_fn(|ask: WithContext<(u8, bool)>| {
        let (tenant, up) = ask.request;
        ready(if up {
            Ok(StaleValue::fresh(u32::from(tenant) * 10))
        } else {
            Err(too_slow())
        })
    }));
    let ask = |tenant, up| service.clone().oneshot(WithContext::new((tenant, up)));
    assert_eq!(ask(1, true).await.expect("fresh"), StaleValue::fresh(10));
    advance(secs(3)).await;
    let stale = ask(1, false).await.expect("stale");
    assert_eq!((stale.answer, stale.stale_age), (10, Some(secs(3))));
    assert!(ask(2, false).await.is_err(), "another tenant's");
    by_tenant.clear();
    assert!(ask(1, false).await.is_err(), "it was forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_of_a_layer_inside_is_not_kept() {
    let service = ServiceBuilder::new()
        .layer(FallbackLayer::stale(secs(2 * MAX_AGE)))
        .layer(FallbackLayer::stale(secs(MAX_AGE)))
        .service(good_at_first(1));
    let ask = || service.clone().oneshot(request());
    ask().await.expect("fresh");
    advance(secs(MAX_AGE)).await;
    assert_eq!(told(ask().await).1, Some(MAX_AGE));
    advance(secs(1)).await;
    // The inner one has none that is young enough any more; the outer one kept the first.
    assert_eq!(told(ask().await).1, Some(MAX_AGE + 1));
}

#[tokio::test(start_paused = true)]
async fn only_failures_of_the_chosen_kinds_are_answered() {
    let layer = FallbackLayer::stale(secs(MAX_AGE)).on_kinds([ErrorKind::LmUnavailable]);
    let service = layer.layer(Log::default().service(|n| {
        ready(match n {
            0 => Ok(answer("0")),
            1 => Err(busy(None)),
            _ => Err(too_slow()),
        })
    }));
    let ask = || service.clone().oneshot(request());
    ask().await.expect("fresh");
    assert_eq!(told(ask().await).1, Some(0));
    assert_eq!(ask().await.expect_err("slow").kind(), ErrorKind::Elapsed);
}

#[tokio::test(start_paused = true)]
async fn a_chain_asks_its_fallbacks_in_order() {
    // The second service answers its first call only.
    let second = Log::default();
    let fallback = FallbackLayer::service(second.service(|n| {
        ready(if n == 0 {
            Ok(answer("second"))
        } else {
            Err(busy(None))
        })
    }))
    .or(stale())
    .or(Value::new(answer("value")));
    let first = Log::default();
    let service = fallback.layer(first.service(|n| {
        ready(if n == 2 {
            Ok(answer("first"))
        } else {
            Err(too_slow())
        })
    }));
    let mut answers = Vec::new();
    for _ in 0..4 {
        let (text, age) = told(service.clone().oneshot(request()).await);
        answers.push((text, age));
        advance(secs(1)).await;
    }
    let said = |text: &str, age| (text.to_owned(), age);
    assert_eq!(
        answers,
        [
            said("second", None),
            // What the second service answered is not the last good answer of the first.
            said("value", None),
            said("first", None),
            said("first", Some(1)),
        ]
    );
    assert_eq!((first.len(), second.len()), (4, 3));
}

#[tokio::test(start_paused = true)]
async fn a_chain_ends_when_the_call_is_cancelled() {
    let cancel = Cancel::new();
    let stop = cancel.clone();
    let second = service_fn(move |_: PredictRequest| {
        stop.cancel(Cause::ClientGone);
        ready(Err::<Prediction, _>(busy(None)))
    });
    let layer = FallbackLayer::service(second).or(Value::new(answer("value")));
    let error = layer
        .layer(good_at_first(0))
        .oneshot(request().with_cancel(cancel))
        .await
        .expect_err("nobody waits");
    assert_eq!(error.kind(), ErrorKind::LmUnavailable);
}

#[tokio::test(start_paused = true)]
async fn a_chain_without_an_answer_returns_the_last_error() {
    let second = service_fn(|_: PredictRequest| async {
        sleep(secs(1)).await;
        Err::<Prediction, _>(busy(None))
    });
    let layer = FallbackLayer::service(second).or(stale());
    let error = layer
        .layer(good_at_first(0))
        .oneshot(request())
        .await
        .expect_err("no answer at all");
    assert_eq!(error.kind(), ErrorKind::LmUnavailable);
}

#[tokio::test(start_paused = true)]
async fn the_number_of_kept_answers_is_bounded_by_the_capacity() {
    const QUESTIONS: usize = 4_000;
    let layer = FallbackLayer::new(stale().with_capacity(10));
    let (up, service) = up_or_down(layer);
    let ask = |n: usize| service.clone().oneshot(PredictRequest::new(json!(n)));
    for n in 0..QUESTIONS {
        ask(n).await.expect("fresh");
    }
    up.store(false, Ordering::SeqCst);
    let mut kept = 0;
    for n in 0..QUESTIONS {
        kept += usize::from(ask(n).await.is_ok());
    }
    // The cache makes room now and then, not at once.
    assert!(kept < QUESTIONS / 2, "{kept} were kept");
}

#[tokio::test(start_paused = true)]
async fn debug_shows_neither_questions_nor_answers() {
    let layer = FallbackLayer::new(stale()).or(Value::new(answer("sesame")));
    let (_, service) = up_or_down(layer.clone());
    let request = PredictRequest::new(json!({"question": "open sesame"}));
    service.oneshot(request).await.expect("fresh");
    let shown = format!("{layer:?}");
    assert!(shown.contains("max_age: 60s"), "{shown}");
    assert!(!shown.contains("sesame"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_tenant_never_gets_the_answer_of_another() {
    let (up, mut program) = up_or_down(FallbackLayer::new(stale()));
    let of = |tenant: Option<&str>| match tenant {
        Some(name) => request().with_tenant(Tenant::new(name)),
        None => request(),
    };
    told(program.ready().await.unwrap().call(of(Some("a"))).await);
    up.store(false, Ordering::SeqCst);
    for tenant in [Some("b"), None] {
        let result = program.ready().await.unwrap().call(of(tenant)).await;
        assert!(result.is_err(), "{tenant:?}");
    }
    let result = program.ready().await.unwrap().call(of(Some("a"))).await;
    assert_eq!(told(result).1, Some(0));
}
