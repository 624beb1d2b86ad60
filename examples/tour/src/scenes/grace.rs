//! Cancellation that lets Python clean up, but not for ever.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower_dspy::{
    CancelLayer, Carrier, DspyService, Error, PredictRequest, service::Function,
    testing::scripted_lm::Reply,
};

use crate::{
    act::Act,
    calls::NAIVE,
    stage::{LONG, SETTLE, Trouble, ask, count, left_after, time},
};

pub(crate) async fn play(act: &mut Act<'_>) -> Result<(), Trouble> {
    let short = act.stage.short();
    // Its outcome, and a look at what still runs, come while it cleans up.
    let hasty = Cleanup {
        notebook: "hasty",
        takes: Duration::from_millis(1000).max(2 * short),
        grace: Duration::from_millis(200),
    };
    hasty.cancel_naively(act).await?;

    let lm = act.stage.lm("grace", Reply::hang());
    let host = &act.stage.host;
    let program = host.load("tour.notebook:Research").lm(lm).await?;
    let state = host.function("tour.notebook:state", None).await?;

    let patient = Cleanup {
        notebook: "patient",
        takes: Duration::from_millis(200).max(short),
        grace: Duration::from_secs(5).max(10 * short),
    };
    let waited = patient.cancel(act, &program).await?;
    let closed = patient.state(&state).await?;
    act.say(format_args!(
        "Clean-up takes {}, the grace is {}: the outcome comes after {}, with `finally` done.",
        time(patient.takes),
        time(patient.grace),
        time(waited)
    ));
    act.check(waited >= patient.takes, "the grace waits for the clean-up");
    act.check(
        closed == "closed",
        format_args!("the notebook was closed (it is {closed})"),
    );

    let waited = hasty.cancel(act, &program).await?;
    let at_outcome = Instant::now();
    let orphans = act.stage.host.stats().orphans;
    let (open, in_flight) = (hasty.state(&state).await?, program.in_flight());
    act.say(format_args!(
        "Clean-up takes {}, the grace is {}: the outcome comes after {}, and {} is counted",
        time(hasty.takes),
        time(hasty.grace),
        time(waited),
        count(orphans as usize, "orphan")
    ));
    act.check(
        (hasty.grace..hasty.takes).contains(&waited),
        "the grace is bounded",
    );
    act.check(
        orphans == 1 && open == "open" && in_flight == 1,
        format_args!("the clean-up is still counted ({orphans} orphans, {in_flight} in flight)"),
    );
    // It still runs to its end.
    let ended = act.stage.python_idle(hasty.takes + 4 * SETTLE).await;
    act.say(format_args!(
        "until the clean-up is done, {} later.",
        time(at_outcome.elapsed())
    ));
    let closed = hasty.state(&state).await?;
    act.check(
        ended && closed == "closed",
        format_args!("the clean-up ran to its end (the notebook is {closed})"),
    );
    Ok(())
}

struct Cleanup {
    notebook: &'static str,
    takes: Duration,
    grace: Duration,
}

impl Cleanup {
    /// Aborts a caller in mid-work. Nothing tells Python, which cleans up once it has its answer.
    async fn cancel_naively(&self, act: &mut Act<'_>) -> Result<(), Trouble> {
        let slow = Reply::answer("too late").delay(4 * act.stage.short());
        let lm = act.stage.lm("grace-naive", slow);
        let program = act.stage.host.load("tour.notebook:Research").lm(lm).await?;
        let stage = act.stage;
        let at_work = async { drop(stage.at_work("grace-naive").await) };
        let request = self.request("naive");
        let naive = act.calls.ask_naively(NAIVE, program, request, at_work);
        let naive = naive.await;
        act.check(naive.given_up, "the naive caller is gone");
        act.calls.leave(naive);
        // What follows looks at all that runs in Python.
        act.end_naive().await;
        Ok(())
    }

    fn request(&self, notebook: &str) -> PredictRequest {
        PredictRequest::new(json!({
            "question": LONG,
            "notebook": notebook,
            "closing": self.takes.as_secs_f64(),
        }))
    }

    /// Cancels a call in mid-work; how long the caller then waited for its outcome.
    async fn cancel(&self, act: &mut Act<'_>, program: &DspyService) -> Result<Duration, Trouble> {
        let service = ServiceBuilder::new()
            .layer(CancelLayer::new().with_grace(self.grace))
            .service(program.clone());
        let service = act.calls.tracked(self.notebook, service);
        let token = CancellationToken::new();
        let mut request = self.request(self.notebook);
        let id = request.context_mut().id();
        let seen = act
            .stage
            .scripted()
            .map_or(0, |lm| lm.requests("grace").len());
        let caller = tokio::spawn(ask(service, request.with_cancel(token.clone())));
        match act.stage.scripted() {
            Some(lm) => {
                lm.wait_for("grace", |requests| requests.len() > seen)
                    .await?;
            }
            None => tokio::time::sleep(act.stage.short()).await,
        }
        let cancelled = Instant::now();
        token.cancel();
        let asked = caller.await?;
        if act.calls.has_lm_answer(id) {
            // It was cleaning up already, and that is what was cancelled.
            act.spoil("the model had answered before the call was cancelled");
        }
        act.check(
            matches!(asked.result, Err(Error::Cancelled(_))),
            format_args!("the call was cancelled ({})", asked.text()),
        );
        if let Some(records) = act.lm_let_go("grace", cancelled).await {
            let left = left_after(&records, cancelled);
            act.check(
                left.is_some_and(|left| left < self.takes),
                "the LM's connection closes before the clean-up is over",
            );
        }
        Ok(asked.ended - cancelled)
    }

    /// How Python says the notebook is.
    async fn state(&self, state: &Function) -> Result<String, Trouble> {
        let answer = state.call(json!({"notebook": self.notebook})).await?;
        Ok(answer.as_str().unwrap_or("unknown").to_owned())
    }
}
