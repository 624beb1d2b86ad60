//! An answer all the same: a value at hand, then a cheaper model.

use serde_json::json;
use tokio::time::sleep;
use tower::ServiceBuilder;
use tower_dspy::{
    DspyServiceBuilderExt, Prediction,
    testing::scripted_lm::{Outcome, Reply},
};

use crate::{
    act::Act,
    calls::NAIVE,
    stage::{LONG, SHORT, Trouble, ask, question, time},
};

pub(crate) async fn play(act: &mut Act<'_>) -> Result<(), Trouble> {
    let stage = act.stage;
    let limit = stage.short();
    // A value after a `timeout`: the large model goes on.
    let slow = Reply::answer("too late").delay(4 * limit);
    let program = stage.answerer("large-naive", slow).await?;
    let naive = act
        .calls
        .ask_naively(NAIVE, program, question(LONG), sleep(limit))
        .await;
    act.check(naive.given_up, "the naive caller gave up at the limit");
    act.calls.leave(naive);

    let large = stage.answerer("large", Reply::hang()).await?;
    let small = stage
        .answerer("small", Reply::answer("Rayleigh scattering"))
        .await?;

    let value = [("answer".to_owned(), json!("Please ask again later."))];
    let with_value = ServiceBuilder::new()
        .deadline(stage.ample())
        .fallback_value(Prediction::new(value.into_iter().collect()))
        .attempt_timeout(limit)
        .service(large.clone());
    let with_value = act.calls.tracked("with a value", with_value);
    let asked = ask(with_value, question(LONG)).await;
    act.say(format_args!(
        "The large model is stuck. After {}, a value in its place: {}",
        time(asked.took),
        asked.text()
    ));
    act.check(
        asked.text().contains("Please ask again later."),
        "the value was the answer",
    );

    let with_service = ServiceBuilder::new()
        .deadline(stage.ample())
        .fallback_service(small)
        .attempt_timeout(limit)
        .service(large);
    let with_service = act.calls.tracked("with another model", with_service);
    let asked = ask(with_service, question(SHORT)).await;
    act.say(format_args!(
        "After {}, the answer of a smaller model: {}",
        time(asked.took),
        asked.text()
    ));
    act.check(
        asked.result.is_ok(),
        format_args!("the smaller model answered ({})", asked.text()),
    );
    if let Some(large) = act.lm_let_go("large", asked.ended).await {
        let dropped = large
            .iter()
            .filter(|record| record.outcome == Outcome::ClientGone);
        act.check(dropped.count() == 2, "the large model was let go twice");
    }
    if let Some(small) = act.lm_let_go("small", asked.ended).await {
        act.check(small.len() == 1, "the small model was asked once");
    }
    Ok(())
}
