//! All of it at once: a batch under one deadline, each question through the whole stack.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower_dspy::{
    Backoff, Deadline, DeadlineLayer, DspyServiceBuilderExt, ErrorKind, FallbackLayer, Prediction,
    RetryLayer,
    testing::scripted_lm::{Reply, Script},
};

use crate::{
    act::Act,
    calls::NAIVE,
    stage::{LONG, Trouble, ask, count, question, time},
};

const QUESTIONS: usize = 20;
const FROM_CACHE: &str = "an earlier answer";

pub(crate) async fn play(act: &mut Act<'_>) -> Result<(), Trouble> {
    let stage = act.stage;
    let limit = stage.short();
    let batch = 6 * limit;
    let script = |last| {
        [
            // Answered at the second attempt.
            Reply::status(503),
            Reply::answer("one"),
            // No capacity in either attempt: from the cache.
            Reply::status(503),
            Reply::status(503),
            Reply::answer("three"),
            // Too slow from here on.
            last,
        ]
    };
    ask_all_naively(act, script(Reply::answer("too late").delay(4 * limit))).await?;

    let script = script(Reply::hang());
    let cached = [("answer".to_owned(), json!(FROM_CACHE))];
    let cached = Prediction::new(cached.into_iter().collect());
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::from_context())
        .cancellable()
        .layer(FallbackLayer::value(cached).on_kinds([ErrorKind::LmUnavailable]))
        .layer(RetryLayer::new(1).with_backoff(Backoff::fixed(Duration::from_millis(20))))
        .attempt_timeout(limit)
        .service(stage.answerer("combined", script).await?);
    let service = act.calls.tracked("one of the batch", service);

    let token = CancellationToken::new();
    let deadline = Deadline::within(batch);
    let (mut answered, mut from_cache, mut skipped, mut stopped) = (0, 0, 0, None);
    for _ in 0..QUESTIONS {
        if token.is_cancelled() {
            break;
        }
        let request = question(LONG)
            .with_deadline(deadline)
            .with_cancel(token.clone());
        let asked = ask(service.clone(), request).await;
        match asked.failure() {
            None if asked.text().contains(FROM_CACHE) => from_cache += 1,
            None => answered += 1,
            // The retries are used up: on to the next question.
            Some(ErrorKind::Elapsed) => skipped += 1,
            Some(_) => {
                stopped = Some(asked);
                break;
            }
        }
    }
    let Some(stopped) = stopped else {
        return Err("the batch was done before its deadline".into());
    };
    act.say(format_args!(
        "deadline > cancel > fallback > retry > attempt timeout; {} for {QUESTIONS} questions:",
        time(batch)
    ));
    act.say(format_args!(
        "{answered} answered, {from_cache} from the cache, {skipped} too slow and skipped, the next \
         stopped by the deadline."
    ));
    act.check(
        stopped.failure() == Some(ErrorKind::Deadline),
        format_args!("the deadline stopped the loop ({})", stopped.text()),
    );
    if let Some(records) = act.lm_let_go("combined", stopped.ended).await {
        act.check(
            answered == 2 && from_cache == 1 && skipped > 0,
            "the retry, the fallback and the skipping each had their turn",
        );
        let most = 5 + 2 * (skipped + 1);
        act.say(format_args!(
            "The LM was asked {} times, at most twice for a question.",
            records.len()
        ));
        act.check(
            records.len() <= most,
            format_args!("there were at most {}", count(most, "attempt")),
        );
    }
    Ok(())
}

/// The same questions with a `timeout` around each attempt, two attempts, and a limit around all: each
/// attempt that is given up goes on.
async fn ask_all_naively(act: &mut Act<'_>, script: impl Into<Script>) -> Result<(), Trouble> {
    let limit = act.stage.short();
    let program = act.stage.answerer("combined-naive", script).await?;
    let end = Instant::now() + 6 * limit;
    let mut given_up = 0;
    for _ in 0..QUESTIONS {
        for _ in 0..2 {
            let until = sleep_until(end.min(Instant::now() + limit));
            let asked = act
                .calls
                .ask_naively(NAIVE, program.clone(), question(LONG), until);
            let naive = asked.await;
            let is_answered = naive.is_answered;
            given_up += usize::from(naive.given_up);
            act.calls.leave(naive);
            if is_answered || Instant::now() >= end {
                break;
            }
        }
        if Instant::now() >= end {
            break;
        }
    }
    act.check(given_up > 0, "naive callers gave up");
    Ok(())
}
