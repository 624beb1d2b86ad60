//! A limit on one call.

use tokio::time::sleep;
use tower::ServiceBuilder;
use tower_dspy::{DspyServiceBuilderExt, ErrorKind, testing::scripted_lm::Reply};

use crate::{
    act::Act,
    calls::{NAIVE, OURS},
    stage::{LONG, Trouble, ask, left_after, question, time},
};

pub(crate) async fn play(act: &mut Act<'_>) -> Result<(), Trouble> {
    let stage = act.stage;
    let limit = stage.short();
    let slow = Reply::answer("too late").delay(4 * limit);
    let program = stage.answerer("timeout-naive", slow).await?;
    let naive = act
        .calls
        .ask_naively(NAIVE, program, question(LONG), sleep(limit))
        .await;
    act.check(naive.given_up, "the naive caller gave up at the limit");
    act.calls.leave(naive);

    let service = ServiceBuilder::new()
        .attempt_timeout(limit)
        .service(stage.answerer("timeout", Reply::hang()).await?);
    let asked = ask(act.calls.tracked(OURS, service), question(LONG)).await;
    act.say(format_args!(
        "A slow LM and a limit of {}: stopped after {}.",
        time(limit),
        time(asked.took)
    ));
    act.check(
        asked.failure() == Some(ErrorKind::Elapsed),
        format_args!("the call elapsed ({})", asked.text()),
    );
    act.check(asked.took >= limit, "no limit passes early");
    if let Some(records) = act.lm_let_go("timeout", asked.ended).await {
        let left = left_after(&records, asked.ended);
        act.check(left.is_some(), "the LM saw the caller leave");
        act.say(format_args!(
            "The LM saw the connection close {} later.",
            time(left.unwrap_or_default())
        ));
    }
    Ok(())
}
