//! The reply of the mock to a call.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::{
    error::{Error, ErrorKind},
    request::Prediction,
    stream::StreamEvent,
    testing::error_of,
};

/// What one call of a [`MockDspy`](super::MockDspy) comes to, and when.
///
/// A reply may have events before its outcome ([`text`](Self::text), [`stream`](Self::stream)). They
/// are for [`MockStreaming`](super::MockStreaming); a call for the whole answer takes as long, and
/// comes to the outcome alone. The outcome is the last event of a stream, or its error.
///
/// ```
/// use std::time::Duration;
/// use tower_dspy::{ErrorKind, testing::mock::Reply};
///
/// let pause = Duration::from_millis(50);
/// // An answer in three pieces; the first comes 2 s after the call.
/// let answer = Reply::text("answer", ["It is", " scat", "tered."]).pause(pause).after(40 * pause);
/// // Two pieces, and then no more, until the call is stopped.
/// let stalls = Reply::text("answer", ["It is", " scat"]).then(Reply::hang());
/// // Two pieces, and 50 ms later an error.
/// let fails = Reply::text("answer", ["It is", " scat"])
///     .then(Reply::fail(ErrorKind::LmUnavailable).after(pause));
/// # let _ = (answer, stalls, fails);
/// ```
#[derive(Debug)]
pub struct Reply {
    events: Vec<ReplyEvent>,
    outcome: Option<Result<Prediction, Error>>,
    /// From the last event, or from the call.
    delay: Duration,
    pub(super) lingers: Duration,
}

/// An event before the outcome.
#[derive(Debug)]
struct ReplyEvent {
    /// From the one before it, or from the call.
    delay: Duration,
    event: StreamEvent,
}

/// What a stream gives at an instant; `None` is nothing for ever.
pub(super) type ReplyItem = Option<Result<StreamEvent, Error>>;

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

    /// An answer whose one field is `field`, a text that comes in these pieces: of LM call 1 of the
    /// predictor `self`, as of a program that is one predictor. Pieces that are empty are left out.
    pub fn text<P: Into<String>>(field: &str, pieces: impl IntoIterator<Item = P>) -> Self {
        let pieces: Vec<String> = pieces.into_iter().map(Into::into).collect();
        let text = Value::from(pieces.concat());
        let events = pieces.into_iter().filter(|piece| !piece.is_empty());
        let events = events.map(|delta| StreamEvent::Text {
            lm_call: 1,
            predictor: "self".into(),
            field: field.into(),
            delta,
        });
        let answer = Map::from_iter([(field.to_owned(), text)]);
        Self::stream(events).then(Prediction::new(answer))
    }

    /// These events. With a [`StreamEvent::Done`] at the end it is the outcome; without one nothing
    /// follows until the call is stopped, unless you say [`then`](Self::then).
    pub fn stream(events: impl IntoIterator<Item = StreamEvent>) -> Self {
        let mut reply = Self::hang();
        for event in events {
            if let StreamEvent::Done(prediction) = event {
                reply.outcome = Some(Ok(*prediction));
                break;
            }
            let delay = Duration::ZERO;
            reply.events.push(ReplyEvent { delay, event });
        }
        reply
    }

    /// After the events of this reply `end`, with its events, in the place of the outcome. The time
    /// that `end` comes [after](Self::after) is from the last event on.
    #[must_use]
    pub fn then(mut self, end: impl Into<Self>) -> Self {
        let end = end.into();
        self.events.extend(end.events);
        Self {
            events: self.events,
            ..end
        }
    }

    /// So long before each event but the first, and before the outcome. The default is none.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Self {
        for event in self.events.iter_mut().skip(1) {
            event.delay = pause;
        }
        if !self.events.is_empty() {
            self.delay = pause;
        }
        self
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

    /// After so long, from the call on: the first event, if there are any, else the outcome. The
    /// default is at the first poll.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        match self.events.first_mut() {
            Some(first) => first.delay = delay,
            None => self.delay = delay,
        }
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
            events: Vec::new(),
            outcome,
            delay: Duration::ZERO,
            lingers: Duration::ZERO,
        }
    }

    /// The outcome, and when it comes, from the call on.
    pub(super) fn into_outcome(self) -> (Duration, Option<Result<Prediction, Error>>) {
        let delays = self.events.iter().map(|event| event.delay);
        let delay = delays.fold(self.delay, Duration::saturating_add);
        (delay, self.outcome)
    }

    /// The items of a stream, and when each comes, from the call on.
    pub(super) fn into_items(self) -> impl Iterator<Item = (Duration, ReplyItem)> {
        let outcome = self.outcome;
        let outcome = outcome.map(|outcome| outcome.map(|answer| StreamEvent::Done(answer.into())));
        let events = self.events.into_iter();
        let events = events.map(|event| (event.delay, Some(Ok(event.event))));
        let items = events.chain([(self.delay, outcome)]);
        items.scan(Duration::ZERO, |due, (delay, item)| {
            *due = due.saturating_add(delay);
            Some((*due, item))
        })
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
