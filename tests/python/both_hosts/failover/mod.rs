//! LMs that are made of several.

mod ends;
mod fallback;
mod streams;

use tower::ServiceExt;
use tower_dspy::{DspyService, Error, Lm, LmOutcome, Prediction};

use crate::support::{ask, lm_server};

/// A program that awaits its LM, one whose threads wait for theirs, and a sync one.
const PROGRAMS: [&str; 3] = [
    "question -> answer",
    "lm_calls:asks_on_a_thread",
    "shapes:SyncOnly",
];

/// The model of the LM server, by this provider's dialect.
async fn member(provider: &str, model: &str) -> Lm {
    let lm = Lm::new(format!("{provider}/{model}"));
    lm.base_url(lm_server().await.base_url()).key("test-key")
}

/// An LM call as the record has it: its provider, its model, and how it ended.
type Call = (String, String, LmOutcome);

fn call(provider: &str, model: &str, outcome: LmOutcome) -> Call {
    (provider.into(), model.into(), outcome)
}

fn calls(lm_calls: &[tower_dspy::LmCall]) -> Vec<Call> {
    let calls = lm_calls.iter();
    calls
        .map(|lm_call| call(&lm_call.provider, &lm_call.model, lm_call.outcome))
        .collect()
}

async fn answer(program: &DspyService) -> Prediction {
    program.clone().oneshot(ask("?")).await.expect("an answer")
}

async fn error(program: &DspyService) -> Error {
    program.clone().oneshot(ask("?")).await.expect_err("none")
}
