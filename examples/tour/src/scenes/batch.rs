//! A batch under one deadline: what is finished comes, the rest says why not, and nothing goes on.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep_until};
use tower_dspy::{
    Deadline, Error, Scope, Stage, predict_all,
    testing::scripted_lm::{Outcome, Reply},
};

use crate::{
    act::Act,
    calls::NAIVE,
    progress::Step,
    stage::{LONG, SETTLE, SHORT, Trouble, question, time},
};

const QUESTIONS: usize = 12;
const AT_ONCE: usize = 3;
/// The LM answers so many and is stuck with all others.
const ANSWERED: usize = 6;

pub(crate) async fn play(act: &mut Act<'_>) -> Result<(), Trouble> {
    let stage = act.stage;
    let limit = 4 * stage.short();
    let script = |last| {
        let mut script = vec![Reply::answer("yes").delay(Duration::from_millis(20)); ANSWERED];
        script.push(last);
        script
    };
    // A real LM answers the short ones and is too slow for the others.
    let questions = (0..QUESTIONS).map(|n| question(if n < ANSWERED { SHORT } else { LONG }));

    // One `timeout` around all: those that it passes in go on.
    let too_late = Reply::answer("too late").delay(2 * limit);
    let program = stage.answerer("batch-naive", script(too_late)).await?;
    let end = Instant::now() + limit;
    let begun = questions.clone().take_while(|_| Instant::now() < end);
    let ask = |question| {
        let calls = &act.calls;
        calls.ask_naively(NAIVE, program.clone(), question, sleep_until(end))
    };
    let naive: Vec<_> = stream::iter(begun.map(ask))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let given_up = naive.iter().filter(|naive| naive.given_up).count();
    act.check(given_up > 0, "naive callers gave up at the limit");
    naive.into_iter().for_each(|naive| act.calls.leave(naive));

    let program = stage.answerer("batch", script(Reply::hang())).await?;

    let deadline = Deadline::within(limit);
    let program = act.calls.tracked("one of the batch", program);
    let step = Step::begin("a batch under one deadline");
    let mut batch = predict_all(program, questions, deadline).with_concurrency(AT_ONCE);
    let (mut answered, mut stopped, mut refused, mut others) = (0, 0, 0, 0);
    while let Some((_, result)) = batch.next().await {
        match result {
            Ok(_) => answered += 1,
            Err(Error::Elapsed(elapsed)) if elapsed.scope() == Scope::Deadline => {
                match elapsed.stage() {
                    Stage::BeforeStart => refused += 1,
                    _ => stopped += 1,
                }
            }
            Err(_) => others += 1,
        }
        let over = answered + stopped + refused + others;
        step.detail(format_args!("{over} of {QUESTIONS}"));
    }
    let ended = Instant::now();
    step.done();
    act.say(format_args!(
        "{QUESTIONS} questions, {AT_ONCE} at a time, under a deadline of {}:",
        time(limit)
    ));
    act.say(format_args!(
        "{answered} answered, {stopped} stopped at the deadline, {refused} never begun; each said so."
    ));
    act.check(
        answered + stopped + refused == QUESTIONS && others == 0,
        format_args!("each had an answer or the deadline's error ({others} others)"),
    );
    act.check(
        ended.saturating_duration_since(deadline.instant()) <= SETTLE,
        "the batch kept its deadline",
    );
    if act.lm_let_go("batch", ended).await.is_some() {
        // Also what would come later, were there anything that went on.
        sleep_until(ended + stage.short()).await;
        let records = stage.scripted().map(|lm| lm.requests("batch"));
        let records = records.unwrap_or_default();
        let of = |outcome| records.iter().filter(|of| of.outcome == outcome).count();
        let (complete, gone) = (of(Outcome::Answered), of(Outcome::ClientGone));
        act.say(format_args!(
            "The LM saw {} requests: {complete} answered, {gone} broken off, none after that.",
            records.len()
        ));
        act.check(
            (answered, stopped, refused) == (ANSWERED, AT_ONCE, QUESTIONS - ANSWERED - AT_ONCE),
            "the LM's answers came, what it was stuck with was stopped, and no more was begun",
        );
        act.check(
            (complete, gone, records.len()) == (ANSWERED, AT_ONCE, ANSWERED + AT_ONCE),
            "the LM's records say the same",
        );
    }
    Ok(())
}
