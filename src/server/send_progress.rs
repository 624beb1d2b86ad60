//! The progress of what a connection sends, by which a client is known that takes nothing.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use ::axum::body::Body as AxumBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::sleep;

/// How much of a body is one part, for the progress of a slow client.
const PART: usize = 64 << 10;

/// What was given to be sent, in parts, and how much of it was sent.
#[derive(Debug, Default)]
pub(super) struct SendProgress {
    unsent: AtomicUsize,
    sent: AtomicUsize,
}

impl SendProgress {
    /// Adds a part, which is sent when it is dropped.
    pub(super) fn part(self: &Arc<Self>) -> UnsentPart {
        self.unsent.fetch_add(1, Relaxed);
        UnsentPart(self.clone())
    }

    /// Ready when something waited to be sent for `limit` and nothing was sent; it is seen by twice
    /// that time.
    pub(super) async fn stalled(&self, limit: Duration) {
        loop {
            let unsent = self.unsent.load(Relaxed);
            let sent = self.sent.load(Relaxed);
            sleep(limit).await;
            // What waited then waits still: else it had been counted.
            if unsent > 0 && self.sent.load(Relaxed) == sent {
                return;
            }
        }
    }
}

/// A part of what is sent; dropped when the client's window and the socket have taken it.
#[derive(Debug)]
pub(super) struct UnsentPart(Arc<SendProgress>);

impl Drop for UnsentPart {
    fn drop(&mut self) {
        self.0.sent.fetch_add(1, Relaxed);
        self.0.unsent.fetch_sub(1, Relaxed);
    }
}

/// Bytes that are a part of what is sent.
struct PartBytes {
    bytes: Bytes,
    _part: UnsentPart,
}

impl AsRef<[u8]> for PartBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The body of a response, in parts that report when they are sent. It waits to be sent itself
/// from the time that it is given to the connection until it is asked for its first part.
#[derive(Debug)]
pub(super) struct SentBody {
    inner: AxumBody,
    /// Of the last frame of `inner`, what is no part yet.
    rest: Bytes,
    /// Until it is asked again.
    unasked: Option<UnsentPart>,
    progress: Arc<SendProgress>,
}

impl SentBody {
    pub(super) fn new(inner: AxumBody, progress: Arc<SendProgress>) -> Self {
        let unasked = (!inner.is_end_stream()).then(|| progress.part());
        Self {
            inner,
            rest: Bytes::new(),
            unasked,
            progress,
        }
    }

    fn part(&mut self) -> Frame<Bytes> {
        let bytes = self.rest.split_to(self.rest.len().min(PART));
        if !self.is_end_stream() {
            self.unasked = Some(self.progress.part());
        }
        let _part = self.progress.part();
        Frame::data(Bytes::from_owner(PartBytes { bytes, _part }))
    }
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = ::axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ::axum::Error>>> {
        self.unasked = None;
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.part())));
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx)?);
        Poll::Ready(match frame.map(Frame::into_data) {
            None => None,
            Some(Err(trailers)) => Some(Ok(trailers)),
            Some(Ok(data)) if data.is_empty() => Some(Ok(Frame::data(data))),
            Some(Ok(data)) => {
                self.rest = data;
                Some(Ok(self.part()))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.size_hint();
        let rest = self.rest.len() as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
