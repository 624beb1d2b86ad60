//! A session: a limit for each request, and one around them all.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tower::ServiceBuilder;
use tower_dspy::{
    Deadline, DeadlineLayer, DspyServiceBuilderExt, ErrorKind,
    testing::scripted_lm::{Outcome, Reply},
};

use crate::{
    act::Act,
    calls::{NAIVE, OURS},
    stage::{LONG, SETTLE, SHORT, Trouble, ask, count, question, time},
};

const REQUESTS: usize = 10;

pub(crate) async fn play(act: &mut Act<'_>) -> Result<(), Trouble> {
    let stage = act.stage;
    let (request, session) = (stage.short(), 4 * stage.short());
    let quick = || Reply::answer("yes").delay(Duration::from_millis(20));
    ask_all_naively(act, quick()).await?;

    let script = [quick(), Reply::hang(), quick(), quick(), Reply::hang()];
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::from_context())
        .attempt_timeout(request)
        .service(stage.answerer("session", script).await?);
    let service = act.calls.tracked(OURS, service);

    let began = Instant::now();
    let deadline = Deadline::within(session);
    let (mut answered, mut skipped, mut ended_by) = (0, 0, None);
    for n in 0..REQUESTS {
        // A real LM answers some and is too slow for the others.
        let text = if n % 2 == 0 { SHORT } else { LONG };
        let asked = ask(service.clone(), question(text).with_deadline(deadline)).await;
        match asked.failure() {
            None => answered += 1,
            Some(ErrorKind::Elapsed) => skipped += 1,
            Some(_) => {
                ended_by = Some(asked);
                break;
            }
        }
    }
    let Some(last) = ended_by else {
        return Err("the session was over before its limit".into());
    };
    act.say(format_args!(
        "{REQUESTS} requests of at most {} in a session of {}: {answered} answered, {skipped} \
         too slow and skipped,",
        time(request),
        time(session),
    ));
    act.say(format_args!(
        "then one stopped by the session's own limit, {} after the start.",
        time(last.ended - began)
    ));
    act.check(
        last.failure() == Some(ErrorKind::Deadline),
        format_args!("the session's limit ended it ({})", last.text()),
    );
    act.check(
        last.ended - began <= session + SETTLE,
        "the session kept its limit",
    );
    if let Some(records) = act.lm_let_go("session", last.ended).await {
        let complete = records
            .iter()
            .filter(|record| record.outcome == Outcome::Answered);
        act.check(
            answered > 0 && skipped > 0,
            "some were answered, some skipped",
        );
        act.check(
            complete.count() == answered,
            format_args!(
                "the LM answered {}, and broke off the rest",
                count(answered, "request")
            ),
        );
    }
    Ok(())
}

/// The same requests with a `timeout` around each, and around all: each that it passes in goes on.
async fn ask_all_naively(act: &mut Act<'_>, quick: Reply) -> Result<(), Trouble> {
    let (request, session) = (act.stage.short(), 4 * act.stage.short());
    let slow = Reply::answer("too late").delay(4 * request);
    let script = [&quick, &slow, &quick, &quick, &slow].map(Reply::clone);
    let program = act.stage.answerer("session-naive", script).await?;
    let end = Instant::now() + session;
    let mut given_up = 0;
    for n in 0..REQUESTS {
        let text = if n % 2 == 0 { SHORT } else { LONG };
        let until = sleep_until(end.min(Instant::now() + request));
        let asked = act
            .calls
            .ask_naively(NAIVE, program.clone(), question(text), until);
        let naive = asked.await;
        given_up += usize::from(naive.given_up);
        act.calls.leave(naive);
        if Instant::now() >= end {
            break;
        }
    }
    act.check(given_up > 0, "naive callers gave up");
    Ok(())
}
