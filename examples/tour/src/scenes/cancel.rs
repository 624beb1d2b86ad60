//! A call that somebody else ends.

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower_dspy::{Cause, DspyServiceBuilderExt, Error, testing::scripted_lm::Reply};

use crate::{
    act::Act,
    calls::{NAIVE, OURS},
    stage::{LONG, Trouble, ask, left_after, question, time},
};

pub(crate) async fn play(act: &mut Act<'_>) -> Result<(), Trouble> {
    let stage = act.stage;
    let slow = Reply::answer("too late").delay(4 * stage.short());
    let program = stage.answerer("cancel-naive", slow).await?;
    // An aborted caller: nothing tells Python.
    let at_work = async { drop(stage.at_work("cancel-naive").await) };
    let naive = act
        .calls
        .ask_naively(NAIVE, program, question(LONG), at_work)
        .await;
    act.check(naive.given_up, "the naive caller is gone");
    act.calls.leave(naive);

    let service = ServiceBuilder::new()
        .cancellable()
        .service(stage.answerer("cancel", Reply::hang()).await?);
    let service = act.calls.tracked(OURS, service);

    let token = CancellationToken::new();
    let request = question(LONG).with_cancel(token.clone());
    let caller = tokio::spawn(ask(service, request));
    stage.at_work("cancel").await?;
    let cancelled = Instant::now();
    token.cancel();
    let asked = caller.await?;

    act.say(format_args!(
        "A token is cancelled from another task: the caller has its outcome {} later.",
        time(asked.ended - cancelled)
    ));
    let by_caller = matches!(&asked.result, Err(Error::Cancelled(cancelled))
        if cancelled.cause() == Cause::Caller);
    act.check(
        by_caller,
        format_args!("the caller cancelled ({})", asked.text()),
    );
    if let Some(records) = act.lm_let_go("cancel", asked.ended).await {
        let left = left_after(&records, cancelled);
        act.check(left.is_some(), "the LM saw the caller leave");
        act.say(format_args!(
            "The LM saw the connection close {} after the token was cancelled.",
            time(left.unwrap_or_default())
        ));
    }
    Ok(())
}
