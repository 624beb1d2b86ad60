//! The progress of what a connection or a stream sends, by which a client is known that takes nothing.

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
    /// The streams that are open, of a connection over HTTP/2.
    streams: AtomicUsize,
    /// Of a stream.
    connection: Option<Arc<Self>>,
}

impl SendProgress {
    pub(super) fn of_stream(connection: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self {
            connection: Some(connection.clone()),
            ..Self::default()
        })
    }

    /// Adds a part, which is sent when it is dropped.
    pub(super) fn part(self: &Arc<Self>) -> UnsentPart {
        for progress in self.with_connection() {
            progress.unsent.fetch_add(1, Relaxed);
        }
        UnsentPart(self.clone())
    }

    fn with_connection(&self) -> impl Iterator<Item = &Self> {
        [Some(self), self.connection.as_deref()]
            .into_iter()
            .flatten()
    }

    /// Adds a stream, which is open until it is dropped.
    pub(super) fn stream(self: &Arc<Self>) -> OpenStream {
        self.streams.fetch_add(1, Relaxed);
        OpenStream(self.clone())
    }

    /// Ready when something waited to be sent for `limit` and nothing was sent; it is seen by twice
    /// that time. A connection whose streams are open is not stalled: each has a limit of its own.
    pub(super) async fn stalled(&self, limit: Duration) {
        loop {
            let unsent = self.unsent.load(Relaxed);
            let sent = self.sent.load(Relaxed);
            sleep(limit).await;
            // What waited then waits still: else it had been counted.
            if unsent > 0 && self.sent.load(Relaxed) == sent && self.streams.load(Relaxed) == 0 {
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
        for progress in self.0.with_connection() {
            progress.sent.fetch_add(1, Relaxed);
            progress.unsent.fetch_sub(1, Relaxed);
        }
    }
}

/// An open stream of a connection.
#[derive(Debug)]
pub(super) struct OpenStream(Arc<SendProgress>);

impl OpenStream {
    /// Whether no other stream of the connection is open.
    pub(super) fn is_only(&self) -> bool {
        self.0.streams.load(Relaxed) == 1
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
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
    /// What is left of the last frame of `inner`.
    rest: Bytes,
    /// Set until hyper asks for the next part.
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
        let mut bytes = self.rest.split_to(self.rest.len().min(PART));
        if self.rest.is_empty() {
            // The last part of a long frame would keep all of it.
            bytes = Bytes::copy_from_slice(&bytes);
        }
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
