//! An LM that never answers: the usual way, and ours.

use tokio::time::{sleep, sleep_until};
use tower::ServiceBuilder;
use tower_dspy::{
    DspyServiceBuilderExt, ErrorKind,
    testing::scripted_lm::{Outcome, Reply},
};

use crate::{
    act::Act,
    calls::{NAIVE, OURS},
    stage::{LONG, SETTLE, Trouble, ask, left_after, question, time},
};

pub(crate) async fn play(act: &mut Act<'_>) -> Result<(), Trouble> {
    let stage = act.stage;
    let limit = stage.short();

    let program = stage.answerer("hang-naive", Reply::hang()).await?;
    let naive = act
        .calls
        .ask_naively(NAIVE, program.clone(), question(LONG), sleep(limit))
        .await;
    // A real LM does answer, some time.
    let later = match stage.scripted() {
        Some(_) => 2 * limit,
        None => limit,
    };
    sleep_until(naive.ended + later).await;
    let in_python = stage.host.stats().running;
    act.say(format_args!(
        "tokio::time::timeout gave up after {}; {} later Python still works for nobody.",
        time(naive.took),
        time(later)
    ));
    act.check(
        naive.given_up && in_python == 1 && program.in_flight() == 1,
        "the naive call goes on when its caller has given up",
    );
    if let Some(lm) = stage.scripted() {
        let at_work = lm.requests("hang-naive");
        act.check(
            at_work
                .iter()
                .all(|record| record.outcome == Outcome::Running),
            "the LM is still at work on the naive call",
        );
    }
    act.calls.end(&naive);
    stage.python_idle(4 * SETTLE).await;

    let service = ServiceBuilder::new()
        .attempt_timeout(limit)
        .service(stage.answerer("hang", Reply::hang()).await?);
    let asked = ask(act.calls.tracked(OURS, service), question(LONG)).await;
    act.check(
        asked.failure() == Some(ErrorKind::Elapsed),
        format_args!("the call elapsed ({})", asked.text()),
    );
    let idle = stage.python_idle(SETTLE).await;
    let since = asked.ended.elapsed();
    act.check(idle, "Python's work ends with the call");
    match act.lm_let_go("hang", asked.ended).await {
        Some(records) => {
            let left = left_after(&records, asked.ended);
            act.check(left.is_some(), "the LM saw the caller leave");
            act.say(format_args!(
                "tower-dspy gave up after {}; {} later the connection is closed and Python is idle.",
                time(asked.took),
                time(left.unwrap_or_default().max(since))
            ));
        }
        None => act.say(format_args!(
            "tower-dspy gave up after {}; {} later Python is idle.",
            time(asked.took),
            time(since)
        )),
    }
    Ok(())
}
