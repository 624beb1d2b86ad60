//! LMs that are made of several.

mod ends;
mod fallback;
mod hedge;
mod streams;

use tower::ServiceExt;
use tower_dspy::{DspyService, Error, Lm, LmCall, LmOutcome, Prediction};

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

/// The LM calls in the order in which they began.
fn calls(lm_calls: &[LmCall]) -> Vec<Call> {
    let mut calls: Vec<_> = lm_calls.iter().collect();
    calls.sort_by_key(|call| call.started);
    calls
        .into_iter()
        .map(|one| call(&one.provider, &one.model, one.outcome))
        .collect()
}

async fn answer(program: &DspyService) -> Prediction {
    program.clone().oneshot(ask("?")).await.expect("an answer")
}

async fn error(program: &DspyService) -> Error {
    program.clone().oneshot(ask("?")).await.expect_err("none")
}
