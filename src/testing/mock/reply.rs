//! The reply of the mock to a call.

use std::time::Duration;

use serde_json::Value;

use crate::{
    error::{Error, ErrorKind},
    request::Prediction,
    testing::error_of,
};

/// What one call of a [`MockDspy`](super::MockDspy) comes to, and when.
#[derive(Debug)]
pub struct Reply {
    pub(super) outcome: Option<Result<Prediction, Error>>,
    pub(super) delay: Duration,
    pub(super) lingers: Duration,
}

impl Reply {
    /// A prediction with the fields of `outputs`, a JSON object; anything else is its one field
    /// `answer`. For usage and the like, make a [`Prediction`]: it is a reply too (`From`).
    pub fn answer(outputs: impl Into<Value>) -> Self {
        Prediction::new(match outputs.into() {
            Value::Object(fields) => fields,
            answer => [("answer".to_owned(), answer)].into_iter().collect(),
        })
        .into()
    }

    /// This error.
    pub fn error(error: impl Into<Error>) -> Self {
        Self::new(Some(Err(error.into())))
    }

    /// A typical error of this kind.
    ///
    /// # Panics
    /// For [`ErrorKind::Other`]: no [`Error`] is of that kind.
    #[must_use]
    pub fn fail(kind: ErrorKind) -> Self {
        match error_of(kind) {
            Some(error) => Self::error(error),
            None => panic!("`tower_dspy::Error` has no variant of the kind `{kind:?}`"),
        }
    }

    /// Nothing, until the call is stopped.
    #[must_use]
    pub fn hang() -> Self {
        Self::new(None)
    }

    /// After so long, from the call on. The default is at the first poll.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Once the call is signalled to stop, its work goes on for so long, as clean-up code does, or C
    /// code that cannot be interrupted. The default is not at all.
    ///
    /// Meanwhile it holds its permit and is in flight, also when its caller has gone; a layer's
    /// grace waits for it. `Duration::MAX` is work that never ends.
    #[must_use]
    pub fn lingers(mut self, time: Duration) -> Self {
        self.lingers = time;
        self
    }

    fn new(outcome: Option<Result<Prediction, Error>>) -> Self {
        Self {
            outcome,
            delay: Duration::ZERO,
            lingers: Duration::ZERO,
        }
    }
}

impl From<Prediction> for Reply {
    fn from(prediction: Prediction) -> Self {
        Self::new(Some(Ok(prediction)))
    }
}

impl From<Error> for Reply {
    fn from(error: Error) -> Self {
        Self::error(error)
    }
}
