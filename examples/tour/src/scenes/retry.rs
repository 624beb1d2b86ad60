//! Another attempt when the first takes too long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;
use tower::ServiceBuilder;
use tower_dspy::{
    Backoff, DspyServiceBuilderExt, ErrorKind, PredictRequest, RetryLayer,
    testing::scripted_lm::Reply,
};

use crate::{
    act::Act,
    calls::{NAIVE, OURS},
    stage::{LONG, Trouble, ask, count, question, time},
};

const RETRIES: u32 = 2;

pub(crate) async fn play(act: &mut Act<'_>) -> Result<(), Trouble> {
    let stage = act.stage;
    let limit = stage.short();
    let script = |first| {
        let second = Reply::answer("Rayleigh scattering").delay(Duration::from_millis(20));
        [first, second]
    };
    // Given up and asked again: the first one goes on beside the second.
    let too_late = Reply::answer("too late").delay(4 * limit);
    let program = stage.answerer("retry-naive", script(too_late)).await?;
    for _ in 0..2 {
        let asked = act
            .calls
            .ask_naively(NAIVE, program.clone(), question(LONG), sleep(limit));
        let naive = asked.await;
        let is_answered = !naive.given_up;
        act.calls.leave(naive);
        if is_answered {
            break;
        }
    }

    let attempts = Arc::new(AtomicUsize::new(0));
    let counter = attempts.clone();
    let service = ServiceBuilder::new()
        // The LM sees the first one leave within the pause, also on a busy machine.
        .layer(RetryLayer::new(RETRIES).with_backoff(Backoff::fixed(limit)))
        .attempt_timeout(limit)
        .map_request(move |request: PredictRequest| {
            counter.fetch_add(1, Ordering::Relaxed);
            request
        })
        .service(stage.answerer("retry", script(Reply::hang())).await?);
    let service = act.calls.tracked(OURS, service);

    let asked = ask(service, question(LONG)).await;
    let attempts = attempts.load(Ordering::Relaxed);
    act.say(format_args!(
        "At most {} of {} each. After {} and {}: {}",
        count(RETRIES as usize + 1, "attempt"),
        time(limit),
        count(attempts, "attempt"),
        time(asked.took),
        asked.text()
    ));
    let Some(records) = act.lm_let_go("retry", asked.ended).await else {
        // A real LM is too slow each time.
        act.check(
            asked.failure() == Some(ErrorKind::Elapsed) && attempts == RETRIES as usize + 1,
            "every attempt was made, and elapsed",
        );
        return Ok(());
    };
    act.check(asked.result.is_ok(), "the second attempt was answered");
    act.check(
        records.len() == 2 && attempts == 2,
        format_args!("there were 2 attempts (the LM saw {})", records.len()),
    );
    let [first, second, ..] = &records[..] else {
        return Ok(());
    };
    let one_at_a_time = first.client_gone.is_some_and(|gone| gone <= second.arrived);
    if act.check(one_at_a_time, "the first was gone before the second came") {
        act.say("The LM saw the first one leave before the second came: never two at once.");
    }
    Ok(())
}
