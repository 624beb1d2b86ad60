//! The socket of a connection: it counts what comes in, and closes so that the last answer arrives.

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

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::send_progress::{SendProgress, UnsentPart};

/// The length of HTTP/2's preface, by which hyper knows the protocol of a client.
const PREFACE: usize = 24;

/// How long a client that was answered before it had sent all may go on sending.
const LINGER: Duration = Duration::from_secs(5);

/// The state of a socket that hyper does not report.
#[derive(Debug, Default)]
pub(super) struct SocketState {
    /// Bytes that came, as far as they tell the protocol.
    received: AtomicUsize,
    /// The body of a request was not read to its end.
    pub(super) unread: AtomicBool,
    /// What is sent of bodies.
    pub(super) bodies: Arc<SendProgress>,
    /// What the socket sends.
    pub(super) writes: Arc<SendProgress>,
}

impl SocketState {
    /// Whether hyper knows which protocol the client speaks.
    pub(super) fn knows_protocol(&self) -> bool {
        self.received.load(Relaxed) >= PREFACE
    }
}

#[derive(Debug)]
pub(super) struct Socket<Io> {
    io: Io,
    state: Arc<SocketState>,
    /// Until when the client may go on sending; this side is closed then.
    linger: Option<Pin<Box<Sleep>>>,
    /// While the system takes no more to be sent.
    blocked: Option<UnsentPart>,
}

impl<Io> Socket<Io> {
    pub(super) const fn new(io: Io, state: Arc<SocketState>) -> Self {
        Self {
            io,
            state,
            linger: None,
            blocked: None,
        }
    }

    /// Notes whether a write has to wait.
    fn written<T>(&mut self, write: Poll<T>) -> Poll<T> {
        if write.is_ready() {
            self.blocked = None;
        } else if self.blocked.is_none() {
            self.blocked = Some(self.state.writes.part());
        }
        write
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
        if !self.state.knows_protocol() {
            let received = buf.filled().len() - before;
            self.state.received.fetch_add(received, Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.io).poll_write(cx, buf);
        self.written(write)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.written(write)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS keeps what it was given until it is flushed.
        let flush = Pin::new(&mut self.io).poll_flush(cx);
        self.written(flush)
    }

    /// Closes this side. If the client is still sending, what it sends is thrown away for a while:
    /// to close the other side as well would reset the connection, and the answer that says why
    /// would be lost to a client that writes before it reads.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            if !this.state.unread.load(Relaxed) {
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
                // The client has gone.
                Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}
