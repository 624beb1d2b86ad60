//! The events of a stream that the layers around its call see as open until it ends.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{Stream, StreamExt};

use super::{PredictionStream, StreamEvent};
use crate::{
    call::{CallEnd, Cause, OpenStream, Progress, drop_scope},
    error::{Classify, Error},
};

/// The same events, open in the `progress` of their call until the last one, or until they are
/// dropped.
pub(crate) fn open_events(events: PredictionStream, progress: &Progress) -> PredictionStream {
    let open = OpenStream::default();
    progress.open_stream(&open);
    let open = EndOnDrop(open);
    PredictionStream::new(OpenEvents { events, open })
}

struct OpenEvents {
    events: PredictionStream,
    // After the events: a call has not ended while it holds something.
    open: EndOnDrop,
}

struct EndOnDrop(OpenStream);

impl Stream for OpenEvents {
    type Item = Result<StreamEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(self.events.poll_next_unpin(cx));
        match &item {
            Some(Ok(StreamEvent::Done(_))) => self.open.0.end(CallEnd::Completed),
            Some(Err(error)) => self.open.0.end(error.kind().call_end(error.cancel_cause())),
            _ => {}
        }
        Poll::Ready(item)
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end(match drop_scope::cause() {
            Cause::Dropped => CallEnd::Dropped,
            Cause::Elapsed | Cause::Deadline => CallEnd::TimedOut,
            cause => CallEnd::Cancelled(Some(cause)),
        });
    }
}
