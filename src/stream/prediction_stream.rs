//! [`PredictionStream`]: the events of one answer.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{
    Stream, StreamExt,
    stream::{self, BoxStream, FusedStream},
};

use super::StreamEvent;
use crate::{
    call::{CallEnd, Cause, OpenStream, drop_scope},
    error::{Classify, Error, Lost},
    request::Prediction,
};

/// The answer of a program as it is written: a [`Stream`] of [`StreamEvent`]s.
///
/// Its last item is [`StreamEvent::Done`] or an error, after which it gives `None`. An error of a
/// program of this process has what the call spent and, as the
/// [partial answer](crate::Spent::partial), the texts that had come. An error over gRPC has no partial
/// answer.
///
/// ```
/// use futures_util::StreamExt;
/// use serde_json::Map;
/// use tower_dspy::{Prediction, PredictionStream, StreamEvent};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let events = [
///     StreamEvent::Status { message: "searching".into() },
///     StreamEvent::Done(Box::new(Prediction::new(Map::new()))),
/// ];
/// let mut stream = PredictionStream::new(futures_util::stream::iter(events.map(Ok)));
/// while let Some(event) = stream.next().await {
///     println!("{event:?}");
/// }
/// # }
/// ```
///
/// # Cancel safety
/// Dropping it before its end cancels the call: the connection to the LM is closed, and the work in
/// Python is signalled once. An item is never lost by dropping the future of a `next()`.
#[must_use = "dropping the stream cancels the call"]
pub struct PredictionStream {
    /// `None` once it has ended.
    events: Option<BoxStream<'static, Result<StreamEvent, Error>>>,
    open: OpenStream,
}

impl PredictionStream {
    /// A stream of these events. It ends with the first [`StreamEvent::Done`] or error; if there is
    /// none, it ends with the error [`Lost`].
    pub fn new(events: impl Stream<Item = Result<StreamEvent, Error>> + Send + 'static) -> Self {
        Self {
            events: Some(events.boxed()),
            open: OpenStream::default(),
        }
    }

    /// Shows the layers around a call, by its progress, that it goes on until this stream ends.
    #[cfg(any(feature = "_host", feature = "test-util", feature = "tonic"))]
    pub(crate) fn in_call(self, progress: &crate::call::Progress) -> Self {
        progress.open_stream(&self.open);
        self
    }

    /// Drops the events, and then what the layers hold.
    fn end(&mut self, end: CallEnd) {
        if self.events.take().is_some() {
            self.open.end(end);
        }
    }

    /// Waits for the whole answer, without the events before it.
    ///
    /// # Errors
    /// The error that the stream ends with.
    pub async fn prediction(mut self) -> Result<Prediction, Error> {
        loop {
            match self.next().await {
                Some(Ok(StreamEvent::Done(prediction))) => return Ok(*prediction),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Err(without_end()),
            }
        }
    }
}

/// The whole answer as the one event: for a fallback of a stream, say.
impl From<Prediction> for PredictionStream {
    fn from(prediction: Prediction) -> Self {
        let done = StreamEvent::Done(Box::new(prediction));
        Self::new(stream::iter([Ok(done)]))
    }
}

fn without_end() -> Error {
    Lost::new("its stream ended without an answer").into()
}

impl Stream for PredictionStream {
    type Item = Result<StreamEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(events) = &mut self.events else {
            return Poll::Ready(None);
        };
        let item = ready!(events.poll_next_unpin(cx)).unwrap_or_else(|| Err(without_end()));
        match &item {
            Ok(StreamEvent::Done(_)) => self.end(CallEnd::Completed),
            Err(error) => self.end(CallEnd::of_error(error.kind(), error.cancel_cause())),
            Ok(_) => {}
        }
        Poll::Ready(Some(item))
    }
}

impl Drop for PredictionStream {
    fn drop(&mut self) {
        self.end(match drop_scope::cause() {
            Cause::Dropped => CallEnd::Dropped,
            Cause::Elapsed | Cause::Deadline => CallEnd::TimedOut(None),
            cause => CallEnd::Cancelled(Some(cause), None),
        });
    }
}

impl FusedStream for PredictionStream {
    fn is_terminated(&self) -> bool {
        self.events.is_none()
    }
}

impl fmt::Debug for PredictionStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PredictionStream")
            .field("ended", &self.is_terminated())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream::iter;
    use serde_json::Map;

    use super::*;
    use crate::error::ErrorKind;

    fn done() -> StreamEvent {
        StreamEvent::Done(Box::new(Prediction::new(Map::new())))
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_answer() {
        let mut stream = PredictionStream::new(iter([Ok(done()), Ok(done())]));
        let last = stream.next().await;
        assert!(matches!(last, Some(Ok(StreamEvent::Done(_)))), "{last:?}");
        assert!(stream.is_terminated() && stream.next().await.is_none());
    }

    #[tokio::test]
    async fn a_stream_that_ends_without_an_answer_is_lost() {
        let status = StreamEvent::Status {
            message: "working".into(),
        };
        let stream = PredictionStream::new(iter([Ok(status)]));
        let error = stream.prediction().await.expect_err("there is no answer");
        assert_eq!(error.kind(), ErrorKind::Lost);
    }
}
