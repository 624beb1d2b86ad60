//! The doctor of this crate, given what the tour needs, and one check more: whether the LM's server
//! stops an answer whose connection is closed.

mod chat;
mod stopping;
mod work_gauge;

use std::time::Duration;

use tower_dspy::{
    Host, Lm,
    doctor::{Check, CheckOutcome, Diagnosis, Doctor},
    testing::scripted_lm::{Reply, ScriptedLm},
};

use self::{
    chat::ChatClient,
    stopping::{Stopping, StoppingLimits},
};
use crate::{
    args::RealLm,
    stage::{PROGRAMS, venv_path},
};

/// The longest time of one answer.
const ANSWER: Duration = Duration::from_secs(30);
const STOPS: &str = "LM stops";

/// Makes all checks; true if all is well. The host is handed to `started`, to be stopped.
pub(crate) async fn run(real: Option<RealLm>, started: impl FnOnce(&Host)) -> bool {
    let scripted = match ScriptedLm::start().await {
        Ok(scripted) => scripted,
        Err(error) => {
            println!("{}", Check::wrong("LM", error));
            return false;
        }
    };
    let lm = match &real {
        Some(real) => real_lm(real),
        None => scripted_lm(&scripted),
    };
    let host = Host::embedded().venv(venv_path()).python_path(PROGRAMS);
    let doctor = Doctor::new().embedded(host).ask_lms(ANSWER);
    let mut diagnosis = doctor.program("tour.answer:Answer", lm.clone()).run().await;
    if let Some(host) = diagnosis.host() {
        started(host);
    }
    diagnosis.push(stopping(&diagnosis, &lm, real.as_ref()).await);
    print!("{diagnosis}");
    if has_no_venv(&diagnosis) {
        println!("The tour makes a venv: cargo run --release");
    }
    diagnosis.is_well()
}

fn real_lm(real: &RealLm) -> Lm {
    let lm = Lm::new(format!("openai/{}", real.model)).base_url(&real.url);
    match &real.key_env {
        Some(variable) => lm.key_env(variable),
        None => lm.key("none"),
    }
}

fn scripted_lm(scripted: &ScriptedLm) -> Lm {
    scripted.script("doctor", Reply::content("yes"));
    let lm = Lm::new("openai/doctor").base_url(scripted.base_url());
    lm.key("none")
}

fn has_no_venv(diagnosis: &Diagnosis) -> bool {
    diagnosis.checks().iter().any(|check| {
        matches!(check.name(), "venv" | "DSPy") && check.outcome() == CheckOutcome::Wrong
    })
}

/// Measures whether the LM's server stops an answer whose connection is closed.
async fn stopping(diagnosis: &Diagnosis, lm: &Lm, real: Option<&RealLm>) -> Check {
    let Some(real) = real else {
        return Check::skipped(
            STOPS,
            "--lm URL --model NAME measures whether closing a connection stops the generation",
        );
    };
    if !diagnosis.is_well() {
        return Check::skipped(STOPS, "it is measured once all else is well");
    }
    let server = match ChatClient::new(lm, &real.url) {
        Ok(server) => server,
        Err(error) => return Check::wrong(STOPS, error),
    };
    match StoppingLimits::default().measure(&server).await {
        stopped @ Stopping::Stopped { .. } => Check::ok(STOPS, stopped),
        unknown @ Stopping::Unknown(_) => Check::skipped(STOPS, unknown),
        went_on @ Stopping::WentOn { .. } => Check::warning(
            STOPS,
            format_args!(
                "{went_on}. You pay for that: limit it by max_tokens, and if the server takes a \
                 request to stop, send that by Lm::abort"
            ),
        ),
    }
}
