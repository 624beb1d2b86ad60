//! The record of each request, as a test reads it.

use std::sync::Arc;

use http::HeaderValue;
use serde_json::Value;
use tokio::time::Instant;

use super::request::ChatRequest;

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The LM is still at work on it.
    Running,
    /// The whole reply was handed to the connection; a scripted error or cut counts as one.
    Answered,
    /// The client closed the connection first, and the LM stopped working.
    ClientGone,
}

/// One request, as it stood when the record was read.
///
/// Times are of the real clock. They do not compare with those of a runtime whose time is paused.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RequestRecord {
    /// Which request of its model this is, counted from 0.
    pub n: usize,
    /// The model it names.
    pub model: String,
    /// When its head was read.
    pub arrived: Instant,
    /// Its body.
    pub body: Arc<Value>,
    /// How far it has come.
    pub outcome: Outcome,
    /// When the client was seen to be gone, if it went before the reply was complete.
    pub client_gone: Option<Instant>,
    /// When the reply was complete.
    pub finished: Option<Instant>,
    /// How many tokens were produced so far.
    pub tokens: usize,
    /// When each token was produced.
    pub token_times: Vec<Instant>,
    authorization: Option<HeaderValue>,
}

impl RequestRecord {
    /// A request that has arrived `at` this moment.
    pub(super) fn new(
        at: Instant,
        request: &ChatRequest,
        authorization: Option<HeaderValue>,
    ) -> Self {
        Self {
            n: 0,
            model: request.model.clone(),
            arrived: at,
            body: Arc::clone(&request.body),
            outcome: Outcome::Running,
            client_gone: None,
            finished: None,
            tokens: 0,
            token_times: Vec::new(),
            authorization,
        }
    }

    pub(super) fn token(&mut self) {
        self.tokens += 1;
        self.token_times.push(Instant::now());
    }

    pub(super) fn answered(&mut self) {
        self.outcome = Outcome::Answered;
        self.finished = Some(Instant::now());
    }

    /// The work has ended; the client is gone if there is no reply.
    pub(super) fn gone(&mut self) {
        if self.outcome == Outcome::Running {
            self.outcome = Outcome::ClientGone;
            self.client_gone = Some(Instant::now());
        }
    }

    /// How many tokens were produced after this moment: for nobody, if the caller gave up then.
    #[must_use]
    pub fn tokens_after(&self, moment: Instant) -> usize {
        let up_to = self.token_times.partition_point(|&at| at <= moment);
        self.token_times.len() - up_to
    }

    /// Whether the LM was at work at this moment: the request had come, and its reply was neither
    /// complete nor broken off.
    #[must_use]
    pub fn running_at(&self, moment: Instant) -> bool {
        self.arrived <= moment && self.ended().is_none_or(|end| end > moment)
    }

    /// When the work ended, in whichever way.
    #[must_use]
    pub fn ended(&self) -> Option<Instant> {
        self.finished.or(self.client_gone)
    }

    /// The header that holds the key, for a test that checks which one was sent: OpenAI's
    /// `Authorization`, Anthropic's `x-api-key`, Gemini's `x-goog-api-key`. `Debug` does not print
    /// it.
    #[must_use]
    pub fn authorization(&self) -> Option<&str> {
        self.authorization.as_ref()?.to_str().ok()
    }
}

/// Many requests, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Requests that came in.
    pub requests: usize,
    /// Requests answered in full.
    pub answered: usize,
    /// Requests whose client went away first.
    pub client_gone: usize,
    /// Requests that the LM is still at work on.
    pub running: usize,
    /// Tokens produced for all of them.
    pub tokens: usize,
}

impl Summary {
    pub(super) fn of<'a>(records: impl IntoIterator<Item = &'a RequestRecord>) -> Self {
        let mut sum = Self::default();
        for record in records {
            sum.requests += 1;
            sum.tokens += record.tokens;
            match record.outcome {
                Outcome::Running => sum.running += 1,
                Outcome::Answered => sum.answered += 1,
                Outcome::ClientGone => sum.client_gone += 1,
            }
        }
        sum
    }
}
