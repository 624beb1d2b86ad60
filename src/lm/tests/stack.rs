//! Retries, keys and redaction, through the layers of an LM.

use tower::{limit::ConcurrencyLimitLayer, util::MapRequestLayer};

use super::*;

type Full = http_body_util::Full<Bytes>;

/// Answers `429` with a Retry-After, as often as that, and then `200`.
fn flaky(failures: u32) -> (Lm, Arc<AtomicU32>) {
    lm(move |n, request: LmRequest| {
        assert_eq!(request.context().map_or(0, |context| context.attempt), n);
        assert_eq!(request.headers()["authorization"], format!("Bearer {KEY}"));
        async move {
            let answer = Response::builder();
            Ok::<_, BoxError>(if n < failures {
                let body = format!(r#"{{"error":"slow down, {KEY}"}}"#);
                let answer = answer.status(429).header("retry-after", "3");
                let length = body.len();
                let answer = answer.header("content-length", length);
                answer.body(Full::from(body))?
            } else {
                answer.body(Full::from(r#"{"usage":{"prompt_tokens":1}}"#))?
            })
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_retry_layer_waits_as_long_as_the_provider_asks() {
    let (lm, sent) = flaky(2);
    let lm = connect(&lm.layer(retries(2)));
    let (request, log) = with_log(request(URL, "x", false));
    let began = tokio::time::Instant::now();
    let answer = lm.send(request).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(began.elapsed(), 6 * SECOND);
    assert_eq!(sent.load(Ordering::Relaxed), 3);
    text(answer.into_body()).await.expect("a body");
    let calls = log.calls();
    let seen: Vec<_> = calls
        .iter()
        .map(|call| (call.attempt, call.status, call.outcome, call.prompt_tokens))
        .collect();
    let answered = LmOutcome::Answered;
    assert_eq!(
        seen,
        [
            (0, Some(429), answered, None),
            (1, Some(429), answered, None),
            (2, Some(200), answered, Some(1)),
        ]
    );
    assert_eq!(calls[1].started, 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_status_after_the_last_retry_is_the_providers() {
    let (lm, sent) = flaky(9);
    let lm = connect(&lm.layer(retries(1)));
    let answer = lm.send(request(URL, "x", false)).await.expect("an answer");
    assert_eq!(sent.load(Ordering::Relaxed), 2);
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "3");
    let length = answer.headers()["content-length"].clone();
    let body = text(answer.into_body()).await.expect("a body");
    // Errors of providers repeat keys.
    assert_eq!(body, r#"{"error":"slow down, [redacted]"}"#);
    assert_eq!(length, body.len().to_string());
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_does_not_fit_the_deadline_is_not_made() {
    let (lm, sent) = flaky(9);
    let lm = connect(&lm.layer(retries(5)));
    let mut request = request(URL, "x", false);
    request.context_mut().limit(Deadline::within(4 * SECOND));
    let answer = lm.send(request).await.expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), sent.load(Ordering::Relaxed)),
        (429, 2)
    );
}

#[tokio::test]
async fn the_first_layer_is_outermost_and_none_sees_the_key() {
    let (lm, _) = flaky(0);
    let note = |name: &'static str| {
        MapRequestLayer::new(move |mut request: LmRequest| {
            assert!(!format!("{request:?}").contains(KEY));
            request
                .headers_mut()
                .append("seen-by", name.parse().expect("a value"));
            request
        })
    };
    let inner = service_fn(|request: LmRequest| async move {
        let mut seen = request.headers().get_all("seen-by").iter();
        assert!(seen.next().is_some_and(|name| name == "first"));
        assert!(seen.next().is_some_and(|name| name == "second"));
        assert!(
            !format!("{request:?}").contains(KEY),
            "it is marked as sensitive"
        );
        Ok::<_, BoxError>(Response::new(Full::default()))
    });
    let lm = lm.option("extra_headers", json!({"cookie": "of a user"}));
    let lm = lm.http(inner).layer(note("first")).layer(note("second"));
    let lm = lm.layer(ConcurrencyLimitLayer::new(1));
    for _ in 0..3 {
        let lm = connect(&lm);
        lm.send(request(URL, "x", false)).await.expect("an answer");
    }
    assert!(!format!("{lm:?} {:?}", lm.connect()).contains(KEY));
    let lm = connect(&lm);
    assert_eq!((lm.provider(), lm.model()), ("openai", "x"));
    assert!(!format!("{lm:?}").contains("of a user"));
}

#[tokio::test]
async fn errors_of_layers_and_services_are_redacted() {
    let (lm, _) =
        lm(|_, _| async { Err::<Response<Full>, _>(BoxError::from(format!("cannot send {KEY}"))) });
    let lm = connect(&lm);
    let error = lm
        .send(request(URL, "x", false))
        .await
        .expect_err("it says so");
    assert_eq!(error.kind(), LmFailureKind::Other);
    shows_no_key(&error);
    assert!(error.message().contains("http://lm:80"), "{error}");
}

#[tokio::test]
async fn a_call_log_keeps_a_bounded_number_of_entries_and_counts_the_others() {
    let (lm, _) = flaky(0);
    let lm = connect(&lm);
    let log = LmLog::new(1);
    for _ in 0..3 {
        let mut request = request("http://elsewhere", "x", false);
        request.extensions_mut().insert(log.clone());
        let error = lm
            .send(request)
            .await
            .expect_err("the key is not for there");
        assert_eq!(error.kind(), LmFailureKind::Refused);
        shows_no_key(&error);
    }
    assert_eq!((outcomes(&log), log.lost()), (vec![LmOutcome::Refused], 2));
}
