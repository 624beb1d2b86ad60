//! A connection's socket, which notes what hyper does not tell and closes in a way that lets the
//! last answer arrive.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// By so many bytes, the preface of HTTP/2, it is known which protocol a client speaks.
const ENOUGH: usize = 24;

/// How long a client that was answered before it had sent all may go on sending.
const LINGER: Duration = Duration::from_secs(5);

/// What is known of a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<State>);

#[derive(Debug, Default)]
struct State {
    bytes: AtomicUsize,
    /// The body of a request was not read to its end.
    unread: AtomicBool,
}

impl Heard {
    fn add(&self, bytes: usize) {
        let heard = self.0.bytes.load(Relaxed);
        if heard < ENOUGH {
            self.0.bytes.store(heard.saturating_add(bytes), Relaxed);
        }
    }

    /// Whether hyper knows which protocol the client speaks.
    pub(super) fn enough(&self) -> bool {
        self.0.bytes.load(Relaxed) >= ENOUGH
    }

    /// The same body, which is noted if it is not read to its end.
    pub(super) fn body<B: Body>(&self, inner: B) -> Noted<B> {
        Noted {
            inner,
            ended: false,
            heard: self.clone(),
        }
    }
}

/// The body of a request.
#[derive(Debug)]
pub(super) struct Noted<B: Body> {
    inner: B,
    ended: bool,
    heard: Heard,
}

impl<B: Body> Drop for Noted<B> {
    fn drop(&mut self) {
        if !self.ended && !self.inner.is_end_stream() {
            self.heard.0.unread.store(true, Relaxed);
        }
    }
}

impl<B: Body + Unpin> Body for Noted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        self.ended = frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[derive(Debug)]
pub(super) struct Socket<Io> {
    io: Io,
    heard: Heard,
    /// Until when the client may go on sending; this side is closed then.
    linger: Option<Pin<Box<Sleep>>>,
}

impl<Io> Socket<Io> {
    pub(super) fn new(io: Io) -> (Self, Heard) {
        let heard = Heard::default();
        let socket = Self {
            io,
            heard: heard.clone(),
            linger: None,
        };
        (socket, heard)
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Socket<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.heard.add(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Closes this side. If the client is still sending, what it sends is thrown away for a while:
    /// to close the other side as well would reset the connection, and the answer that says why
    /// would be lost to a client that writes before it reads.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            if !this.heard.0.unread.load(Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        let linger = this.linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        loop {
            if linger.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut scratch = [0; 4096];
            let mut scratch = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.io).poll_read(cx, &mut scratch)) {
                Ok(()) if scratch.filled().is_empty() => return Poll::Ready(Ok(())),
                Ok(()) => {}
                // It has gone: there is nobody left to reset.
                Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}
