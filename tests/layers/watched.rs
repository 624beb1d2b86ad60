//! Predictions whose clean-up is looked at.

use std::sync::{Arc, Mutex};

use tower_dspy::{Cause, patterns::CancellablePrediction};

/// What clean-up code saw, in order.
pub(crate) type Seen = Arc<Mutex<Vec<(&'static str, Cause)>>>;

pub(crate) fn watched(prediction: CancellablePrediction) -> (CancellablePrediction, Seen) {
    let seen = Seen::default();
    let note = |name| {
        let seen = seen.clone();
        move |cause| seen.lock().unwrap().push((name, cause))
    };
    let prediction = prediction
        .on_cancel(note("first"))
        .on_cancel(note("second"));
    (prediction, seen)
}

pub(crate) fn seen(seen: &Seen) -> Vec<(&'static str, Cause)> {
    seen.lock().unwrap().clone()
}

pub(crate) fn both(cause: Cause) -> [(&'static str, Cause); 2] {
    [("first", cause), ("second", cause)]
}
