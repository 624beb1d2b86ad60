//! Errors that only a body tells of, as layers around the LM and its program see them.

use http_body_util::{Full, StreamBody};

use super::*;

const GOOD: &str = r#"{"choices":[]}"#;

/// Answers with these, and then with the last of them; counts.
fn says(answers: &'static [(u16, &'static str)]) -> (LmHandle, Arc<AtomicU32>) {
    let (lm, sent) = lm(move |n, _| {
        let (status, body) = answers[(n as usize).min(answers.len() - 1)];
        async move {
            let answer = Response::builder().status(status);
            let answer = answer.header("content-type", "application/json; charset=utf-8");
            Ok::<_, BoxError>(answer.body(Full::<Bytes>::from(body))?)
        }
    });
    (connect(&lm.layer(retries(2))), sent)
}

#[tokio::test]
async fn an_exhausted_quota_is_not_retried() {
    let used_up = r#"{"error":{"message":"m","type":"insufficient_quota"}}"#;
    let billing = r#"{"error":{"message":"m","code":"billing_hard_limit_reached"}}"#;
    for (lm, sent) in [
        says(Box::leak(Box::new([(429, used_up)]))),
        says(Box::leak(Box::new([(429, billing)]))),
        says(&[(402, "{}")]),
    ] {
        let answer = lm.send(request(URL, "x", false)).await.expect("an answer");
        assert!([402, 429].contains(&answer.status().as_u16()));
        assert_eq!(sent.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_delay_in_the_body_is_honoured() {
    const LATER: &str = r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[
        {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"33.2s"}]}}"#;
    let (lm, sent) = says(&[(429, LATER), (200, GOOD)]);
    let began = tokio::time::Instant::now();
    let answer = lm.send(request(URL, "x", false)).await.expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), sent.load(Ordering::Relaxed)),
        (200, 2)
    );
    assert_eq!(began.elapsed(), Duration::from_millis(33_200));

    let (lm, sent) = says(&[(429, LATER)]);
    let mut request = request(URL, "x", false);
    request.context_mut().limit(Deadline::within(5 * SECOND));
    let answer = lm.send(request).await.expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), sent.load(Ordering::Relaxed)),
        (429, 1)
    );
    // For what reads headers alone.
    assert_eq!(answer.headers()["retry-after"], "34");
    assert_eq!(text(answer.into_body()).await.as_deref(), Ok(LATER));
}

#[tokio::test(start_paused = true)]
async fn the_reset_of_a_used_up_rate_limit_is_honoured() {
    let limited = |status, more: &'static [(&'static str, &'static str)]| {
        let (lm, sent) = lm(move |n, _| async move {
            let answer = Response::builder().status(if n == 0 { status } else { 200 });
            let headers = [
                ("x-ratelimit-remaining-requests", "12"),
                ("x-ratelimit-reset-requests", "9m0s"),
                ("x-ratelimit-remaining-tokens", "0"),
                ("x-ratelimit-reset-tokens", "1m6.5s"),
            ];
            let headers = headers.iter().chain(more);
            let answer = headers.fold(answer, |answer, (name, value)| answer.header(*name, *value));
            Ok::<_, BoxError>(answer.body(Full::<Bytes>::from("{}"))?)
        });
        (connect(&lm.layer(retries(2))), sent)
    };
    for (status, more, wait) in [
        (429, &[][..], Duration::from_millis(66_500)),
        (429, &[("retry-after", "3")][..], 3 * SECOND),
        // Not what it is unavailable for.
        (503, &[][..], Duration::ZERO),
    ] {
        let (lm, sent) = limited(status, more);
        let began = tokio::time::Instant::now();
        let answer = lm.send(request(URL, "x", false)).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!((began.elapsed(), sent.load(Ordering::Relaxed)), (wait, 2));
    }

    let (lm, _) = limited(429, &[]);
    let mut request = request(URL, "x", false);
    request.context_mut().limit(Deadline::within(5 * SECOND));
    let answer = lm.send(request).await.expect("an answer");
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "67");
}

#[tokio::test]
async fn an_error_in_the_body_of_a_200_is_retried_by_its_status() {
    const BUSY: &str = r#"

        {"error":{"code":429,"message":"slow down"},"user_id":"u"}"#;
    let (lm, sent) = says(&[(200, BUSY), (200, BUSY), (200, GOOD)]);
    let answer = lm.send(request(URL, "x", false)).await.expect("an answer");
    assert_eq!(sent.load(Ordering::Relaxed), 3);
    assert_eq!(text(answer.into_body()).await.as_deref(), Ok(GOOD));

    // What is left is the answer that it was.
    let (lm, sent) = says(&[(200, BUSY)]);
    let (request, log) = with_log(request(URL, "x", false));
    let answer = lm.send(request).await.expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), sent.load(Ordering::Relaxed)),
        (200, 3)
    );
    assert_eq!(text(answer.into_body()).await.as_deref(), Ok(BUSY));
    assert_eq!(outcomes(&log), [LmOutcome::Answered; 3]);
}

#[tokio::test]
async fn a_client_error_in_the_body_of_a_200_is_not_retried() {
    for (lm, sent) in [
        says(&[(200, r#"{"error":{"code":400,"message":"m"}}"#)]),
        says(&[(200, r#"{"error":{"code":402,"message":"m"}}"#)]),
        says(&[(200, r#"{"error":{"code":429,"type":"insufficient_quota"}}"#)]),
    ] {
        let answer = lm.send(request(URL, "x", false)).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(sent.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn an_answer_that_is_not_an_error_passes_unchanged() {
    for body in [
        r#"{"error":null,"output":[]}"#,
        r#"{"error":{"code":200}}"#,
        r#"{"content":"{\"error\":{\"code\":429}}"}"#,
        r#"{"error":{"#,
        "",
        " ",
    ] {
        let (lm, sent) = says(Box::leak(Box::new([(200, body)])));
        let answer = lm.send(request(URL, "x", false)).await.expect("an answer");
        assert_eq!(text(answer.into_body()).await.as_deref(), Ok(body));
        assert_eq!(sent.load(Ordering::Relaxed), 1);
    }
}

/// An answer of this type that begins like that and then breaks off.
fn breaks(kind: &'static str, begins: &'static [&'static str]) -> LmHandle {
    let (lm, _) = lm(move |_, _| async move {
        let pieces = begins
            .iter()
            .map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
        let frames = pieces.chain([Err(BoxError::from("broken"))]);
        let frames = StreamBody::new(futures_util::stream::iter(frames));
        Ok::<_, BoxError>(
            Response::builder()
                .header("content-type", kind)
                .body(frames)?,
        )
    });
    connect(&lm)
}

#[tokio::test]
async fn a_truncated_answer_counts_as_begun() {
    for begins in [
        &[][..],
        &[" "],
        &["{\"error\":{", "\"code\":429"],
        &["{\"id\":1", "}"],
    ] {
        for kind in ["application/json", "text/event-stream"] {
            let lm = breaks(kind, begins);
            let (request, log) = with_log(request(URL, "x", false));
            let mut body = lm.send(request).await.expect("a head").into_body();
            for piece in begins {
                let frame = body.frame().await.expect("a piece").expect("a piece");
                assert_eq!(frame.into_data().expect("data"), piece);
            }
            let end = body.frame().await.expect("an end");
            assert!(end.is_err());
            assert_eq!(outcomes(&log), [LmOutcome::Failed]);
        }
    }
}
