//! The limit of a member of an LM that is made of several, until its first content, under paused time.

use std::convert::Infallible;

use futures_util::stream;
use http_body_util::StreamBody;
use tokio::time::Instant;

use super::*;
use crate::lm::{TokenRateLayer, http::MemberLimit};

const PING: &str = ": ping\n\n";
const TEXT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";

/// A stream whose head comes after `head`, and of these events each after a second.
fn streamed(head: Duration, events: &'static [&'static str]) -> (Lm, Arc<AtomicU32>) {
    lm(move |_, _| async move {
        sleep(head).await;
        let events = stream::unfold(events.iter(), |mut events| async move {
            let event = *events.next()?;
            sleep(SECOND).await;
            let frame = Frame::data(Bytes::from_static(event.as_bytes()));
            Some((Ok::<_, Infallible>(frame), events))
        });
        let answer = Response::builder().header("content-type", "text/event-stream");
        answer.body(StreamBody::new(Box::pin(events)))
    })
}

/// Sends with this limit, reads to the end; returns how it ended, after how long, and the log.
async fn run(lm: &Lm, limit: Duration) -> (Result<String, LmFailure>, Duration, LmLog) {
    let (mut request, log) = with_log(request(URL, "x", true));
    request.extensions_mut().insert(MemberLimit(limit));
    let began = Instant::now();
    let done = match connect(lm).send(request).await {
        Ok(answer) => text(answer.into_body()).await,
        Err(failure) => Err(failure),
    };
    (done, began.elapsed(), log)
}

#[tokio::test(start_paused = true)]
async fn a_member_without_content_ends_at_its_limit() {
    for (head, events, came) in [
        (60 * SECOND, &[TEXT; 3][..], "nothing"),
        (SECOND, &[PING; 60], "pings or empty events (3)"),
    ] {
        let (lm, _) = streamed(head, events);
        let (done, took, log) = run(&lm, 5 * SECOND - SECOND / 2).await;
        let failure = done.expect_err("it is too late");
        assert_eq!(failure.kind(), LmFailureKind::FirstContentTimeout);
        assert!(failure.message().contains(came), "{failure}");
        assert_eq!(took, 5 * SECOND - SECOND / 2);
        assert_eq!(outcomes(&log), [LmOutcome::Elapsed]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_holds_over_the_attempts_of_a_retry_layer() {
    let (lm, sent) = lm(|n, _| async move {
        sleep(2 * SECOND).await;
        let answer = Response::builder().status(if n < 9 { 503 } else { 200 });
        answer.body(http_body_util::Full::from("x"))
    });
    let (done, took, log) = run(&lm.layer(retries(9)), 5 * SECOND).await;
    let failure = done.expect_err("it is too late");
    assert_eq!(failure.kind(), LmFailureKind::FirstContentTimeout);
    assert_eq!((took, sent.load(Ordering::Relaxed)), (5 * SECOND, 3));
    let expected = [LmOutcome::Answered, LmOutcome::Answered, LmOutcome::Elapsed];
    assert_eq!(outcomes(&log), expected);
}

/// An LM that is busy at first, and asks to be asked again after so many seconds.
fn busy(retry_after: u64) -> (Lm, Arc<AtomicU32>) {
    lm(move |n, _| async move {
        sleep(SECOND).await;
        let answer = Response::builder().header("retry-after", retry_after);
        let answer = answer.status(if n == 0 { 429 } else { 200 });
        answer.body(http_body_util::Full::from("x"))
    })
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_beyond_the_limit_is_not_waited_for() {
    for (retry_after, attempts, expected) in [(5, 1, (429, SECOND)), (3, 2, (200, 5 * SECOND))] {
        let (lm, sent) = busy(retry_after);
        let (mut request, _) = with_log(request(URL, "x", true));
        request.extensions_mut().insert(MemberLimit(6 * SECOND));
        request.context_mut().limit(Deadline::within(60 * SECOND));
        let began = Instant::now();
        let answer = connect(&lm.layer(retries(9))).send(request).await;
        let ended = (
            answer.expect("an answer").status().as_u16(),
            began.elapsed(),
        );
        assert_eq!(ended, expected);
        assert_eq!(sent.load(Ordering::Relaxed), attempts);
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_in_a_limit_of_tokens_beyond_the_limit_is_not_waited_for() {
    let (lm, sent) = streamed(SECOND, &[TEXT]);
    let lm = lm.layer(TokenRateLayer::new(1));
    let (first, ..) = run(&lm, 5 * SECOND).await;
    assert!(first.is_ok(), "{first:?}");
    let (done, took, _) = run(&lm, 5 * SECOND).await;
    let failure = done.expect_err("its turn comes too late");
    assert_eq!(failure.kind(), LmFailureKind::Refused, "{failure}");
    assert_eq!((took, sent.load(Ordering::Relaxed)), (Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_has_begun_goes_on_beyond_the_limit() {
    let (lm, _) = streamed(SECOND, &[PING, TEXT, PING, TEXT, TEXT]);
    let (done, took, _) = run(&lm, 4 * SECOND).await;
    let text = done.expect("it began in time");
    assert_eq!((text.matches(TEXT).count(), took), (3, 6 * SECOND));
    // What is ready at that very moment wins.
    let (done, ..) = run(&lm, 3 * SECOND).await;
    assert!(done.is_ok(), "{done:?}");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_the_call_is_named_where_it_comes_first() {
    let (lm, _) = streamed(60 * SECOND, &[TEXT]);
    let mut request = request(URL, "x", true);
    request.extensions_mut().insert(MemberLimit(9 * SECOND));
    request.context_mut().limit(Deadline::within(5 * SECOND));
    let failure = connect(&lm).send(request).await.expect_err("too late");
    assert_eq!(failure.kind(), LmFailureKind::Deadline);
}
