//! The last good answer: what was known before is better than nothing, if it says how old it is.

use std::time::Duration;

use tokio::time::sleep;
use tower::ServiceBuilder;
use tower_dspy::{
    DspyServiceBuilderExt, FallbackLayer, layers::Stale, testing::scripted_lm::Reply,
};

use crate::{
    act::Act,
    stage::{LONG, SHORT, Trouble, ask, count, question, time},
};

/// Between the good answer and the failures, so that there is an age to tell.
const PAUSE: Duration = Duration::from_millis(120);

pub(crate) async fn play(act: &mut Act<'_>) -> Result<(), Trouble> {
    let stage = act.stage;
    act.has_no_naive_side(
        "without the layer there is no earlier answer, but the error alone. What a caller leaves \
         behind who gives up is in scene 1.",
    );
    let script = [
        Reply::answer("Rayleigh scattering"),
        Reply::status(503),
        Reply::hang(),
    ];
    let program = stage.answerer("stale", script).await?;
    let answers = Stale::predictions(Duration::from_secs(600));
    let within = |act: &Act<'_>, label, limit| {
        let service = ServiceBuilder::new()
            .layer(FallbackLayer::new(answers.clone()))
            .attempt_timeout(limit)
            .service(program.clone());
        act.calls.tracked(label, service)
    };

    let fresh = ask(
        within(act, "the LM is well", stage.ample()),
        question(SHORT),
    )
    .await;
    let began = fresh.ended - fresh.took;
    act.say(format_args!("The LM is well: {}", fresh.text()));
    act.check(
        fresh
            .result
            .as_ref()
            .is_ok_and(|fresh| fresh.stale_age.is_none()),
        "the first answer was fresh",
    );
    sleep(PAUSE).await;

    let troubles = match stage.scripted() {
        Some(_) => ["it has no capacity", "it is stuck"],
        None => ["it has too little time", "once more"],
    };
    for trouble in troubles {
        let stale = ask(within(act, trouble, stage.short()), question(SHORT)).await;
        let age = stale.result.as_ref().ok().and_then(|stale| stale.stale_age);
        act.say(format_args!(
            "Then {trouble}. After {}, the same answer, which says that it is {} old.",
            time(stale.took),
            age.map_or("not".to_owned(), time)
        ));
        act.check(
            stale.text() == fresh.text(),
            format_args!("the answer was the one of before ({})", stale.text()),
        );
        act.check(
            age.is_some_and(|age| age >= PAUSE && age <= stale.ended - began),
            "its age was the time since it was given",
        );
    }

    let other = within(act, "another question", stage.short());
    let other = ask(other, question(LONG)).await;
    act.say(format_args!(
        "Another question has no answer of before, and keeps its error: {}",
        other.text()
    ));
    act.check(other.result.is_err(), "another question had no answer");
    if let Some(records) = act.lm_let_go("stale", other.ended).await {
        act.check(
            records.len() == 4,
            format_args!(
                "each call asked the LM once ({})",
                count(records.len(), "request")
            ),
        );
    }
    Ok(())
}
