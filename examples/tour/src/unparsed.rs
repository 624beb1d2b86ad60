//! Answers of the model that DSPy could not parse: a real model may write what it likes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tower_dspy::Error;

use crate::stage::Trouble;

/// What DSPy raises when no adapter of its own finds the fields in an answer.
const PARSE_ERROR: &str = "AdapterParseError";

/// How many calls of a scene failed because the model's answer did not parse.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unparsed(Arc<AtomicUsize>);

impl Unparsed {
    /// Counts the error of a call if it is such a one, and returns it.
    pub(crate) fn note(&self, error: Error) -> Error {
        if is_unparsed(&error) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        error
    }

    /// Counts what kept a scene from being played, if it is such an error.
    pub(crate) fn note_trouble(&self, trouble: &Trouble) {
        if trouble.downcast_ref::<Error>().is_some_and(is_unparsed) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn is_unparsed(error: &Error) -> bool {
    let Error::Program(error) = error else {
        return false;
    };
    error.python_type().rsplit('.').next() == Some(PARSE_ERROR)
}
