//! Several operations under one deadline: each gets what the others left.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep_until};
use tower::ServiceBuilder;
use tower_dspy::{
    Deadline, DeadlineLayer, Error, ErrorKind, Lm, PredictRequest, Stage,
    testing::scripted_lm::Reply,
};

use crate::{
    act::Act,
    calls::NAIVE,
    stage::{LONG, Trouble, ask, count, time},
};

/// Three programs, each of which takes what the one before it made.
const STEPS: [(&str, &str, &str); 3] = [
    ("question -> outline", "question", "outline"),
    ("outline -> draft", "outline", "draft"),
    ("draft -> summary", "draft", "summary"),
];

pub(crate) async fn play(act: &mut Act<'_>) -> Result<(), Trouble> {
    let stage = act.stage;
    let limit = 3 * stage.short();
    // Two steps fit, the third does not.
    let script = |third| {
        let step = Reply::echo().delay(stage.short());
        [step.clone(), step, third]
    };
    let too_late = Reply::echo().delay(limit);
    let lm = stage.lm("deadline-naive", script(too_late));
    ask_all_naively(act, limit, lm).await?;

    let lm = stage.lm("deadline", script(Reply::hang()));
    let mut steps = Vec::new();
    for (signature, takes, gives) in STEPS {
        let program = stage.host.load(signature).lm(lm.clone()).await?;
        let service = ServiceBuilder::new()
            .layer(DeadlineLayer::from_context())
            .service(program);
        let service = act.calls.tracked(signature, service);
        steps.push((service, takes, gives));
    }

    let deadline = Deadline::within(limit);
    let request = |takes: &str, text: &str| {
        PredictRequest::new(json!({ takes: text })).with_deadline(deadline)
    };
    let mut done = Vec::new();
    let mut text = LONG.to_owned();
    let mut stopped = None;
    for (service, takes, gives) in &steps {
        let asked = ask(service.clone(), request(takes, &text)).await;
        match &asked.result {
            Ok(prediction) => {
                text = prediction.outputs[*gives].to_string();
                done.push(*gives);
            }
            Err(_) => {
                stopped = Some((*gives, asked));
                break;
            }
        }
    }
    let Some((unfinished, stopped)) = stopped else {
        return Err("the LM was too quick for the deadline".into());
    };
    act.say(format_args!(
        "One deadline, {} for three programs in a row: {} done, the {unfinished} stopped.",
        time(limit),
        count(done.len(), "step"),
    ));
    act.check(
        stopped.failure() == Some(ErrorKind::Deadline),
        format_args!("the deadline ended it ({})", stopped.text()),
    );

    // Nothing is left for this one.
    let (service, takes, _) = &steps[0];
    let late = ask(service.clone(), request(takes, LONG)).await;
    let refused = |error: &Error| matches!(error, Error::Elapsed(elapsed) if elapsed.stage() == Stage::BeforeStart);
    act.say(format_args!(
        "The next call is refused after {}, before anything is asked.",
        time(late.took)
    ));
    act.check(
        late.result.as_ref().is_err_and(refused),
        format_args!("a late call is not started ({})", late.text()),
    );
    if let Some(records) = act.lm_let_go("deadline", stopped.ended).await {
        // The deadline may also pass between two steps.
        let asked = records.len() - records.len().min(done.len());
        act.check(
            records.len() >= done.len() && asked <= 1,
            format_args!(
                "the LM was asked for the steps done and the one stopped ({} times)",
                records.len()
            ),
        );
    }
    Ok(())
}

/// The same steps with one `timeout` around them: the step that it passes in goes on.
async fn ask_all_naively(act: &mut Act<'_>, limit: Duration, lm: Lm) -> Result<(), Trouble> {
    let mut programs = Vec::new();
    for (signature, takes, _) in STEPS {
        let program = act.stage.host.load(signature).lm(lm.clone()).await?;
        programs.push((program, PredictRequest::new(json!({ takes: LONG }))));
    }
    let end = Instant::now() + limit;
    for (program, request) in programs {
        let asked = act
            .calls
            .ask_naively(NAIVE, program, request, sleep_until(end));
        let naive = asked.await;
        let given_up = naive.given_up;
        act.calls.leave(naive);
        if given_up {
            return Ok(());
        }
    }
    Err("the LM was too quick for the naive caller".into())
}
