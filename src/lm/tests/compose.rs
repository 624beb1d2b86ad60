//! Layers of others, and all of ours together, around LM calls.

use std::{
    io::{self, Write},
    sync::Mutex,
};

use tower::{ServiceBuilder, limit::GlobalConcurrencyLimitLayer};
use tower_resilience::circuitbreaker::{CircuitBreakerError, CircuitBreakerLayer};
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::layers::HedgeLayer;

type Reply = Result<Response<Pieces>, BoxError>;

/// An LM that answers the nth request, from 0 on, with `reply(n)`, after as long.
fn replies(
    reply: impl Fn(u32) -> (Duration, Reply) + Clone + Send + Sync + 'static,
) -> (Lm, Arc<AtomicU32>) {
    lm(move |n, _| {
        let (wait, reply) = reply(n);
        async move {
            sleep(wait).await;
            reply
        }
    })
}

fn status(status: u16) -> Reply {
    let answer = Response::builder().status(status);
    Ok(answer.body(Pieces::after([Duration::ZERO]))?)
}

#[tokio::test(start_paused = true)]
async fn only_retryable_failures_are_retried() {
    let refused = || BoxError::from(io::Error::from(io::ErrorKind::ConnectionRefused));
    for (first, attempts) in [
        (408, 2),
        (409, 2),
        (425, 2),
        (429, 2),
        (500, 2),
        (502, 2),
        (503, 2),
        (529, 2),
        (0, 2), // no connection
        (400, 1),
        (401, 1),
        (403, 1),
        (404, 1),
        (422, 1),
    ] {
        let (lm, sent) = replies(move |n| {
            let reply = match (n, first) {
                (0, 0) => Err(refused()),
                (0, first) => status(first),
                _ => status(200),
            };
            (Duration::ZERO, reply)
        });
        let lm = connect(&lm.layer(retries(1)));
        let answer = lm.send(request(URL, "x", false)).await.expect("an answer");
        let last = if attempts == 2 { 200 } else { first };
        assert_eq!(answer.status(), last, "{first}");
        assert_eq!(sent.load(Ordering::Relaxed), attempts, "{first}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_not_retried_after_the_body_has_begun() {
    let (lm, sent) = replies(|_| {
        let waits = [Duration::ZERO, 60 * SECOND];
        (Duration::ZERO, Ok(Response::new(Pieces::after(waits))))
    });
    let lm = lm.limits(LmLimits::new().with_idle(SECOND));
    let lm = connect(&lm.layer(retries(5)));
    let answer = lm.send(request(URL, "x", true)).await.expect("a head");
    let error = text(answer.into_body()).await.expect_err("it stalls");
    assert_eq!(error.kind(), LmFailureKind::IdleTimeout);
    assert_eq!(sent.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_stops_the_slower_attempt() {
    let (lm, sent) = replies(|n| (if n == 0 { 60 * SECOND } else { SECOND }, status(200)));
    let lm = lm
        .layer(HedgeLayer::after(2 * SECOND))
        .layer(GlobalConcurrencyLimitLayer::new(2));
    let lm = connect(&lm);
    let (request, log) = with_log(request(URL, "x", false));
    let began = tokio::time::Instant::now();
    let answer = lm.send(request).await.expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), began.elapsed()),
        (200, 3 * SECOND)
    );
    assert_eq!(sent.load(Ordering::Relaxed), 2);
    // Stopped before the answer of the other was handed out.
    assert_eq!(outcomes(&log), [LmOutcome::Cancelled]);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_breaker_is_shared_by_all_programs_and_keeps_the_status() {
    let (lm, sent) = replies(|_| (Duration::ZERO, status(503)));
    let (breaker, watch) = CircuitBreakerLayer::builder()
        .consecutive_failures(3)
        .failure_classifier(|answer: &Result<LmResponse, BoxError>| {
            let kind = answer.as_ref().err().map(Classify::kind);
            kind == Some(ErrorKind::LmUnavailable)
        })
        .build_with_handle()
        .expect("a breaker");
    let breaker = ServiceBuilder::new()
        .map_err(|error| match error {
            CircuitBreakerError::Inner(error) => error,
            CircuitBreakerError::OpenCircuit => {
                let down = LmFailure::new(LmFailureKind::Refused, "down");
                BoxError::from(down.sorted(ErrorKind::Overloaded))
            }
        })
        .layer(breaker)
        .into_inner();
    let lm = lm.layer(retries(1)).layer(breaker);
    // Two attempts by one program, one by the other; then it is open for both.
    let (one, other) = (connect(&lm), connect(&lm));
    let answer = one.send(request(URL, "x", false)).await.expect("an answer");
    assert_eq!(answer.status(), 503);
    let answer = other.send(request(URL, "x", false)).await;
    assert_eq!(sent.load(Ordering::Relaxed), 3);
    // Its second attempt was not let through.
    let refused = answer.expect_err("it was not asked");
    for _ in 0..3 {
        let error = one.send(request(URL, "x", false)).await;
        assert_eq!(error.expect_err("it was not asked"), refused);
    }
    assert_eq!(refused.kind(), LmFailureKind::Refused);
    assert_eq!(Classify::kind(&refused), ErrorKind::Overloaded);
    assert_eq!(sent.load(Ordering::Relaxed), 3);
    drop(watch);
}

/// What was traced, as text.
#[derive(Clone, Default)]
struct Traced(Arc<Mutex<Vec<u8>>>);

impl Write for Traced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("a lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Traced {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn each_exchange_is_traced_in_the_span_of_its_call_without_secrets() {
    let traced = Traced::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(traced.clone())
        .finish();
    // With one subscriber alone, tracing asks that of whichever thread meets an event first, and the
    // other tests' threads have none.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _default = tracing::subscriber::set_default(subscriber);
    let (lm, _) = replies(|n| match n {
        0 => (Duration::ZERO, status(503)),
        1 => (Duration::ZERO, Err(format!("cannot send {KEY}").into())),
        _ => (Duration::ZERO, status(200)),
    });
    let lm = connect(&lm.layer(retries(1)));
    let call = tracing::info_span!("predict");
    for _ in 0..2 {
        let mut request = request(URL, "x", false);
        request
            .extensions_mut()
            .insert(super::super::http::CallSpan(call.clone()));
        if let Ok(answer) = lm.send(request).await {
            text(answer.into_body()).await.expect("a body");
        }
    }
    let traced = String::from_utf8(traced.0.lock().expect("a lock").clone()).expect("text");
    let spans: Vec<_> = traced
        .lines()
        .filter(|line| line.contains("close"))
        .collect();
    assert_eq!(spans.len(), 3, "{traced}");
    for (span, said) in spans.iter().zip([
        &[
            "tower_dspy.attempt=0",
            "http.response.status_code=503",
            "tower_dspy.outcome=\"failed\"",
            "error.type=\"503\" otel.status_code=\"ERROR\"",
        ][..],
        &[
            "tower_dspy.attempt=1",
            "tower_dspy.outcome=\"failed\"",
            "error.type=\"failed\"",
        ],
        &[
            "tower_dspy.attempt=0",
            "http.response.status_code=200",
            "tower_dspy.outcome=\"completed\"",
            "server.address=\"lm\" server.port=80",
        ],
    ]) {
        let begin = "predict:chat{otel.name=chat x otel.kind=\"client\" \
                     gen_ai.operation.name=\"chat\" gen_ai.provider.name=\"openai\" \
                     gen_ai.request.model=\"x\"";
        assert!(span.contains(begin), "{span}");
        assert!(said.iter().all(|field| span.contains(field)), "{span}");
    }
    for secret in [KEY, "ping", "Bearer"] {
        assert!(!traced.contains(secret), "{traced}");
    }
}
