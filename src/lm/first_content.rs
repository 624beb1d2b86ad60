//! The limit of a whole LM call until the first content of its answer.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::HeaderMap;
use tokio::time::{Sleep, sleep_until};

use super::content::ContentReader;
use crate::{
    call::Deadline,
    error::{LmFailure, LmFailureKind},
};

/// The limit of a whole LM call, its layers included, until the first content of its answer.
///
/// It is a time of the clock: also that in which nobody reads the answer counts.
#[derive(Debug)]
pub(super) struct FirstContentLimit {
    limit: Duration,
    /// When it passes.
    end: Deadline,
    /// Made at the first wait.
    sleep: Option<Pin<Box<Sleep>>>,
    /// Of the answer, once its head has come.
    reader: Option<ContentReader>,
}

impl FirstContentLimit {
    /// A limit that begins now.
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            end: Deadline::within(limit),
            sleep: None,
            reader: None,
        }
    }

    /// When it passes.
    pub(super) const fn end(&self) -> Deadline {
        self.end
    }

    /// Ready once it has passed, with the failure that it is.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LmFailure> {
        let end = self.end.instant();
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(end)));
        ready!(sleep.as_mut().poll(cx));
        let reader = self.reader.as_ref();
        let came = reader.map_or_else(|| "nothing".into(), |reader| came(reader.empty()));
        Poll::Ready(LmFailure::first_content(self.limit, &came))
    }

    /// The head of the answer came.
    pub(super) fn head(&mut self, headers: &HeaderMap) {
        self.reader = Some(ContentReader::of(headers));
    }

    /// A piece came; true if it has content.
    pub(super) fn read(&mut self, bytes: &[u8]) -> bool {
        let reader = self.reader.as_mut();
        reader.is_none_or(|reader| reader.read(bytes))
    }
}

/// What came of an answer before its first content, with so many empty events.
pub(super) fn came(empty: u32) -> String {
    match empty {
        0 => "only the head of the answer".to_owned(),
        empty => format!("only the head and pings or empty events ({empty})"),
    }
}

impl LmFailure {
    /// No content came within this limit. `came` is what did.
    pub(super) fn first_content(limit: Duration, came: &str) -> Self {
        let message = format!("no content of an answer came within {limit:?}: {came} came");
        Self::new(LmFailureKind::FirstContentTimeout, message)
    }
}
