//! The limit of tokens a minute, under paused time.

use std::{convert::Infallible, sync::Mutex};

use futures_util::future::join_all;
use http_body_util::Full;
use tokio::time::{Instant, timeout};
use tower::{limit::ConcurrencyLimitLayer, load_shed::LoadShedLayer, util::MapRequestLayer};

use super::*;
use crate::call::{Cancel, Cause};

const MINUTE: Duration = Duration::from_secs(60);

/// What a server saw: when a call came, and what it took.
type Arrivals = Arc<Mutex<Vec<(Instant, u64)>>>;

/// A request whose estimate is `tokens`.
fn asks_for(tokens: u64) -> LmRequest {
    let body = format!(r#"{{"max_tokens":{}}}"#, tokens - 7);
    assert!(body.len() <= 21, "{body}");
    let body = format!("{body:<21}");
    let request = ::http::Request::post(format!("{URL}/chat/completions"));
    request.body(body.into()).expect("a request")
}

/// The same with all of them in the prompt, where estimates are exact.
fn prompt_of(tokens: u64) -> LmRequest {
    let length = 3 * (tokens as usize - 1);
    let body = format!("{:<length$}", r#"{"max_tokens":1}"#);
    let request = ::http::Request::post(format!("{URL}/chat/completions"));
    request.body(body.into()).expect("a request")
}

/// An LM that takes as much as is asked for, less `saved`, and answers after `wait`.
fn metered(layer: &TokenRateLayer, wait: Duration, saved: u64) -> (LmHandle, Arrivals) {
    let (lm, arrivals) = unlimited(move |_| wait, saved);
    (connect(&lm.layer(layer.clone())), arrivals)
}

/// The same without a limit; the nth answer, from 0 on, comes after `wait(n)`.
fn unlimited(
    wait: impl Fn(u32) -> Duration + Clone + Send + Sync + 'static,
    saved: u64,
) -> (Lm, Arrivals) {
    let arrivals = Arrivals::default();
    let seen = arrivals.clone();
    let (lm, _) = lm(move |n, request: LmRequest| {
        let wait = wait(n);
        let asked: serde_json::Value = serde_json::from_slice(request.body()).expect("JSON");
        let most = asked["max_tokens"].as_u64().expect("a number");
        let tokens = request.body().len() as u64 / 3 + most - saved;
        seen.lock()
            .expect("no panic")
            .push((Instant::now(), tokens));
        async move {
            sleep(wait).await;
            let completion = most.saturating_sub(saved);
            let usage = json!({
                "prompt_tokens": tokens - completion,
                "completion_tokens": completion,
            });
            let body = json!({ "usage": usage }).to_string();
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(body)))
        }
    });
    (lm, arrivals)
}

fn taken(arrivals: &Arrivals) -> Vec<(Instant, u64)> {
    arrivals.lock().expect("no panic").clone()
}

/// The most tokens that arrived in 60 seconds.
fn most_of_a_minute(arrivals: &Arrivals) -> u64 {
    let arrivals = taken(arrivals);
    let minute = |at: Instant| {
        let within = arrivals
            .iter()
            .filter(move |(of, _)| *of <= at && *of + MINUTE > at);
        within.map(|(_, tokens)| tokens).sum::<u64>()
    };
    let minutes = arrivals.iter().map(|(at, _)| minute(*at));
    minutes.max().unwrap_or_default()
}

/// Sends, reads to the end, and tells how it ended after how long.
async fn run(lm: &LmHandle, request: LmRequest) -> (Result<u16, LmFailure>, Duration) {
    let began = Instant::now();
    let done = match lm.send(request).await {
        Ok(answer) => {
            let status = answer.status().as_u16();
            text(answer.into_body()).await.map(|_| status)
        }
        Err(failure) => Err(failure),
    };
    (done, began.elapsed())
}

fn within(mut request: LmRequest, limit: Duration) -> LmRequest {
    request.context_mut().limit(Deadline::within(limit));
    request
}

/// A layer with so many tokens, of which `used` are spent.
async fn spent(limit: u64, used: u64) -> TokenRateLayer {
    let layer = TokenRateLayer::new(limit);
    let (lm, _) = metered(&layer, Duration::ZERO, 0);
    assert_eq!(run(&lm, asks_for(used)).await.0, Ok(200));
    assert_eq!(layer.remaining(), limit - used);
    layer
}

fn refused(done: Result<u16, LmFailure>, wait: Duration) {
    let failure = done.expect_err("it is refused");
    assert_eq!(failure.kind(), LmFailureKind::Refused);
    assert_eq!(Classify::kind(&failure), ErrorKind::Overloaded);
    assert_eq!(Classify::retry_after(&failure), Some(wait));
}

#[tokio::test(start_paused = true)]
async fn calls_at_once_stay_within_the_limit_of_each_minute() {
    let layer = TokenRateLayer::new(1000);
    // Two programs that were loaded with one LM.
    let (one, arrivals) = metered(&layer, SECOND, 0);
    let other = one.clone();
    let calls = (0..64).map(|n| run(if n % 2 == 0 { &one } else { &other }, asks_for(100)));
    let done = join_all(calls).await;
    assert!(done.iter().all(|(done, _)| *done == Ok(200)));
    // In the order of arrival, ten a minute.
    for (n, (_, took)) in done.iter().enumerate() {
        assert_eq!(*took, MINUTE * (n as u32 / 10) + SECOND, "{n}");
    }
    assert_eq!(taken(&arrivals).len(), 64);
    assert_eq!(most_of_a_minute(&arrivals), 1000);
}

#[tokio::test(start_paused = true)]
async fn the_minute_of_a_call_begins_when_a_layer_inside_lets_it_go() {
    let layer = TokenRateLayer::new(1000);
    // The first call keeps the others of its minute from the server until its last second.
    let hold = |n| if n == 0 { 59 * SECOND } else { Duration::ZERO };
    let (lm, arrivals) = unlimited(hold, 0);
    let lm = lm.layer(layer.clone()).layer(ConcurrencyLimitLayer::new(1));
    let lm = connect(&lm);
    let calls = [100, 300, 300, 300, 300, 300, 300].map(|tokens| run(&lm, prompt_of(tokens)));
    let done = join_all(calls).await;
    assert!(done.iter().all(|(done, _)| *done == Ok(200)));
    assert_eq!(most_of_a_minute(&arrivals), 1000);
    let took: Vec<_> = done.iter().map(|(_, took)| took.as_secs()).collect();
    assert_eq!(took, [59, 59, 59, 59, 119, 119, 119]);
}

#[tokio::test(start_paused = true)]
async fn random_calls_stay_within_the_limit_of_each_minute() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let layer = TokenRateLayer::new(1000);
        let (lm, arrivals) = metered(
            &layer,
            Duration::from_secs(random.u64(..90)),
            random.u64(..5),
        );
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let (after, tokens) = (random.u64(..200), random.u64(20..400));
                // Some give up, waiting or under way.
                let patience = random.bool().then(|| random.u64(..600));
                let lm = &lm;
                async move {
                    sleep(Duration::from_secs(after)).await;
                    let call = run(lm, prompt_of(tokens));
                    match patience.map(Duration::from_secs) {
                        None => Some(call.await.0),
                        Some(patience) => timeout(patience, call).await.ok().map(|done| done.0),
                    }
                    .ok_or(patience.is_some())
                }
            })
            .collect();
        // Each that waits for as long as it takes has its answer.
        for done in join_all(calls).await {
            assert!(matches!(done, Ok(Ok(200)) | Err(true)), "{seed}: {done:?}");
        }
        assert!(most_of_a_minute(&arrivals) <= 1000, "{seed}");
        sleep(2 * MINUTE).await;
        assert_eq!(layer.remaining(), 1000, "{seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_answer_did_not_take_is_free_at_once() {
    let layer = TokenRateLayer::new(1000);
    let (lm, _) = metered(&layer, 3 * SECOND, 400);
    let (first, second) = tokio::join!(run(&lm, asks_for(900)), run(&lm, asks_for(500)));
    assert_eq!((first.0, first.1), (Ok(200), 3 * SECOND));
    assert_eq!((second.0, second.1), (Ok(200), 6 * SECOND));
    assert_eq!(layer.remaining(), 1000 - 500 - 100);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_fit_before_its_deadline_is_refused_at_once() {
    let layer = spent(1000, 900).await;
    let (lm, arrivals) = metered(&layer, Duration::ZERO, 0);
    sleep(20 * SECOND).await;
    let (done, took) = run(&lm, within(asks_for(200), 30 * SECOND)).await;
    assert_eq!(took, Duration::ZERO);
    refused(done, 40 * SECOND);
    assert!(taken(&arrivals).is_empty());
    assert_eq!(layer.remaining(), 100);
    // It does not wait behind those that were refused.
    assert_eq!(
        run(&lm, within(asks_for(50), SECOND)).await.1,
        Duration::ZERO
    );
    let (done, took) = run(&lm, within(asks_for(200), 41 * SECOND)).await;
    assert_eq!((done, took), (Ok(200), 40 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn the_queue_before_a_call_counts_for_its_deadline() {
    let layer = spent(995, 990).await;
    let (lm, _) = metered(&layer, Duration::ZERO, 0);
    // The first cannot be sent before 60 s, and takes its prompt then at least.
    let (_, done, late) = tokio::join!(
        run(&lm, asks_for(1000)),
        run(&lm, within(asks_for(1000), 100 * SECOND)),
        run(&lm, within(asks_for(500), 59 * SECOND)),
    );
    refused(done.0, 120 * SECOND);
    assert_eq!(done.1, Duration::ZERO);
    refused(late.0, 60 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fits_if_others_settle_for_less_is_not_refused() {
    let layer = TokenRateLayer::new(1000);
    let (lm, _) = metered(&layer, 5 * SECOND, 600);
    let (_, second) = tokio::join!(
        run(&lm, asks_for(900)),
        run(&lm, within(asks_for(610), 20 * SECOND))
    );
    assert_eq!((second.0, second.1), (Ok(200), 10 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn the_longest_wait_is_bounded() {
    let layer = TokenRateLayer::new(1000).with_max_wait(10 * SECOND);
    let (lm, arrivals) = metered(&layer, 30 * SECOND, 0);
    let (_, second) = tokio::join!(run(&lm, asks_for(1000)), run(&lm, asks_for(500)));
    assert_eq!(second.1, 10 * SECOND);
    // The other may settle for its prompt alone.
    let failure = second.0.expect_err("it is refused");
    assert_eq!(Classify::kind(&failure), ErrorKind::Overloaded);
    assert_eq!(taken(&arrivals).len(), 1);
    // It has left the queue.
    sleep(MINUTE).await;
    assert_eq!(run(&lm, asks_for(1000)).await.1, 30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_gives_up_makes_room_for_those_behind_it() {
    let layer = spent(1000, 500).await;
    let (lm, _) = metered(&layer, Duration::ZERO, 0);
    let (large, small) = tokio::join!(
        timeout(10 * SECOND, run(&lm, asks_for(900))),
        run(&lm, asks_for(400))
    );
    assert!(large.is_err());
    assert_eq!((small.0, small.1), (Ok(200), 10 * SECOND));
    assert_eq!(layer.remaining(), 100);

    let layer = spent(1000, 500).await;
    let (lm, _) = metered(&layer, Duration::ZERO, 0);
    let mut cancelled = asks_for(900);
    let node = Cancel::new();
    cancelled.context_mut().cancel = node.clone();
    let (done, ()) = tokio::join!(run(&lm, cancelled), async {
        sleep(SECOND).await;
        node.cancel(Cause::ClientGone);
    });
    assert_eq!(done.1, SECOND);
    assert_eq!(layer.remaining(), 500);
}

#[tokio::test(start_paused = true)]
async fn a_call_with_a_greater_estimate_than_the_limit_is_sent_alone() {
    let layer = spent(100, 10).await;
    let (lm, _) = metered(&layer, Duration::ZERO, 0);
    assert_eq!(run(&lm, asks_for(900)).await.1, MINUTE);
    assert_eq!(layer.remaining(), 0);
    assert_eq!(run(&lm, asks_for(50)).await.1, MINUTE);
}

#[tokio::test(start_paused = true)]
async fn refused_requests_take_nothing_and_cut_ones_their_estimate() {
    for (status, left) in [(Some(429), 1000), (Some(503), 1000), (None, 1000)] {
        let layer = TokenRateLayer::new(1000);
        let (lm, _) = lm(move |_, _| async move {
            match status {
                Some(status) => Ok(Response::builder().status(status).body(Pieces::after([]))?),
                None => Err(BoxError::from(LmFailure::new(
                    LmFailureKind::Connect,
                    "down",
                ))),
            }
        });
        let _ = run(&connect(&lm.layer(layer.clone())), asks_for(300)).await;
        assert_eq!(layer.remaining(), left, "{status:?}");
    }
    let layer = TokenRateLayer::new(1000);
    let (lm, _) = metered(&layer, 9 * SECOND, 200);
    let cut = timeout(SECOND, run(&lm, asks_for(300))).await;
    assert!(cut.is_err());
    assert_eq!(layer.remaining(), 700);
    sleep(MINUTE).await;
    assert_eq!(layer.remaining(), 1000);
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_not_sent_take_nothing() {
    // The call is over before its request is sent.
    let layer = TokenRateLayer::new(1000);
    let (lm, arrivals) = unlimited(|_| Duration::ZERO, 0);
    let cancels = MapRequestLayer::new(|request: LmRequest| {
        let context = request.context().expect("a context");
        context.cancel.cancel(Cause::ClientGone);
        request
    });
    let mut cancelled = asks_for(300);
    cancelled.context_mut().cancel = Cancel::new();
    let lm = connect(&lm.layer(layer.clone()).layer(cancels));
    assert!(run(&lm, cancelled).await.0.is_err());
    assert_eq!((taken(&arrivals).len(), layer.remaining()), (0, 1000));

    // A layer inside refuses one.
    let layer = TokenRateLayer::new(1000);
    let (lm, arrivals) = unlimited(|_| SECOND, 0);
    let lm = lm.layer(layer.clone()).layer(LoadShedLayer::new());
    let lm = connect(&lm.layer(ConcurrencyLimitLayer::new(1)));
    let (first, second) = tokio::join!(run(&lm, asks_for(300)), run(&lm, asks_for(300)));
    assert_eq!((first.0, second.0.is_err()), (Ok(200), true));
    assert_eq!((taken(&arrivals).len(), layer.remaining()), (1, 700));
}

#[tokio::test(start_paused = true)]
async fn what_the_provider_says_is_left_counts_if_it_is_less() {
    let told = |headers: &'static [(&'static str, &'static str)], status: u16| async move {
        let layer = TokenRateLayer::new(1000);
        let (lm, _) = lm(move |_, _| {
            let answer = Response::builder().status(status);
            let told = headers.iter();
            let answer = told.fold(answer, |answer, (name, value)| answer.header(*name, *value));
            let body = r#"{"usage":{"prompt_tokens":7,"completion_tokens":93}}"#;
            std::future::ready(answer.body(Full::<Bytes>::from(body)))
        });
        let lm = connect(&lm.layer(layer.clone()));
        let (done, _) = run(&lm, asks_for(100)).await;
        assert_eq!(done, Ok(status));
        (layer.remaining(), run(&lm, asks_for(400)).await.1)
    };
    let openai = [
        ("x-ratelimit-remaining-tokens", "300"),
        ("x-ratelimit-reset-tokens", "7s"),
    ];
    assert_eq!(
        told(Box::leak(Box::new(openai)), 200).await,
        (300, 7 * SECOND)
    );
    let more = [("x-ratelimit-remaining-tokens", "150000")];
    let free = (900, Duration::ZERO);
    assert_eq!(told(Box::leak(Box::new(more)), 200).await, free);
    assert_eq!(
        told(&[("x-ratelimit-remaining-tokens", "-1")], 200).await,
        free
    );
    let (left, wait) = told(&[("anthropic-ratelimit-tokens-remaining", "0")], 429).await;
    assert_eq!((left, wait), (0, MINUTE));
}

#[tokio::test(start_paused = true)]
async fn each_attempt_of_a_retry_reserves_for_itself() {
    let layer = TokenRateLayer::new(1000);
    let (lm, sent) = lm(|n, _| async move {
        let answer = Response::builder().status(if n == 0 { 503 } else { 200 });
        let body = r#"{"usage":{"prompt_tokens":7,"completion_tokens":93}}"#;
        answer.body(Full::<Bytes>::from(body))
    });
    let lm = connect(&lm.layer(retries(1)).layer(layer.clone()));
    assert_eq!(run(&lm, asks_for(600)).await.0, Ok(200));
    assert_eq!(sent.load(Ordering::Relaxed), 2);
    assert_eq!(layer.remaining(), 900);
}
