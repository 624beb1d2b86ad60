//! The time left that a layer sends to the provider.

use std::sync::Mutex;

use super::*;
use crate::layers::outbound::OutboundLayer;

const HEADER: ::http::HeaderName = ::http::HeaderName::from_static("x-time-left");

/// An LM that takes down the header of each request, and fails.
fn noting() -> (Lm, Arc<Mutex<Vec<Option<String>>>>) {
    let seen: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
    let log = seen.clone();
    let (lm, _) = lm(move |_, request| {
        let value = request.headers().get(HEADER);
        let value = value.map(|value| value.to_str().expect("text").to_owned());
        log.lock().expect("a lock").push(value);
        let answer = Response::builder().status(503);
        std::future::ready(answer.body(http_body_util::Full::default()))
    });
    (lm, seen)
}

fn within(limit: Option<Duration>) -> LmRequest {
    let mut request = request(URL, "x", false);
    request
        .headers_mut()
        .insert(HEADER, "old".parse().expect("a value"));
    if let Some(limit) = limit {
        request.context_mut().limit(Deadline::within(limit));
    }
    request
}

#[tokio::test(start_paused = true)]
async fn each_attempt_sends_the_time_left_less_the_reserve() {
    let (lm, seen) = noting();
    let retries = RetryLayer::new(2).with_backoff(Backoff::fixed(SECOND));
    let reserve = Duration::from_micros(500_500);
    let lm = lm.layer(retries);
    let lm = lm.layer(OutboundLayer::header(HEADER).with_reserve(reserve));
    let lm = connect(&lm);
    lm.send(within(Some(4 * SECOND))).await.expect("an answer");
    let seen = seen.lock().expect("a lock");
    // Rounded down.
    let told = ["3499ms", "2499ms", "1499ms"].map(|left| Some(left.to_owned()));
    assert_eq!(*seen, told);
}

#[tokio::test(start_paused = true)]
async fn the_total_limit_is_sent_and_without_a_limit_nothing_is() {
    let (lm, seen) = noting();
    let layer = OutboundLayer::millis(HEADER);
    let lm = lm.layer(layer);
    let unlimited = connect(&lm);
    unlimited.send(within(None)).await.expect("an answer");
    let lm = lm.limits(LmLimits::new().with_total(3 * SECOND));
    let limited = connect(&lm);
    limited.send(within(None)).await.expect("an answer");
    let seen = seen.lock().expect("a lock");
    assert_eq!(*seen, [Some("old".to_owned()), Some("3000".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_request_with_no_more_time_than_the_reserve_is_not_sent() {
    let (lm, seen) = noting();
    let lm = lm.layer(RetryLayer::new(2));
    let lm = lm.layer(OutboundLayer::header(HEADER).with_reserve(2 * SECOND));
    let lm = connect(&lm);
    let error = lm.send(within(Some(2 * SECOND))).await;
    let error = error.expect_err("too late");
    assert_eq!(Classify::kind(&error), ErrorKind::Deadline);
    assert!(seen.lock().expect("a lock").is_empty());
}
