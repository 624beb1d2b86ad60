//! The body of a reply: work that writes bytes as hyper asks for them.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::Reply;
use crate::call::Deadline;

/// The script closes the connection in the middle of the body.
#[derive(Clone, Copy, Debug, Error)]
#[error("the script cuts the body here")]
pub(super) struct Cut;

type Work = Pin<Box<dyn Future<Output = Result<(), Cut>> + Send>>;

/// A body that owns the work which writes it, so that dropping the body drops the work.
pub(super) struct ReplyBody {
    /// `None` once the work is done.
    work: Option<Work>,
    frames: mpsc::Receiver<Bytes>,
}

impl ReplyBody {
    /// Makes a body of what `work` writes, at the pace and up to the cut that `reply` sets.
    pub(super) fn new<F>(reply: Reply, work: impl FnOnce(Reply, Out) -> F) -> Self
    where
        F: Future<Output = Result<(), Cut>> + Send + 'static,
    {
        // One frame at a time: the work gets no further ahead of the connection.
        let (sender, frames) = mpsc::channel(1);
        let out = Out {
            frames: sender,
            trickle: reply.trickle.map(Ticks::new),
            left: reply.cut_after.unwrap_or(usize::MAX),
        };
        Self {
            work: Some(Box::pin(work(reply, out))),
            frames,
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        // What is written goes out before the work goes on.
        if let Poll::Ready(Some(bytes)) = this.frames.poll_recv(cx) {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if let Some(work) = &mut this.work
            && let Poll::Ready(done) = work.as_mut().poll(cx)
        {
            this.work = None;
            if let Err(cut) = done {
                return Poll::Ready(Some(Err(cut)));
            }
        }
        let frame = this.frames.poll_recv(cx);
        frame.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyBody")
            .field("done", &self.work.is_none())
            .finish_non_exhaustive()
    }
}

/// Where the work writes.
#[derive(Debug)]
pub(super) struct Out {
    frames: mpsc::Sender<Bytes>,
    trickle: Option<Ticks>,
    /// Bytes before the cut.
    left: usize,
}

impl Out {
    pub(super) async fn write(&mut self, mut bytes: Bytes) -> Result<(), Cut> {
        let cut = bytes.len() > self.left;
        bytes.truncate(self.left);
        self.left -= bytes.len();
        if let Some(trickle) = &mut self.trickle {
            // Time spent elsewhere since the last write is not to be made up for.
            trickle.restart();
            while !bytes.is_empty() {
                trickle.tick().await;
                send(&self.frames, bytes.split_to(1)).await;
            }
        } else if !bytes.is_empty() {
            send(&self.frames, bytes).await;
        }
        if cut {
            // hyper drops what it has buffered when a body fails. So wait until it has taken the
            // last frame, and then let it flush, which it does when the body is pending.
            let _ = self.frames.reserve().await;
            tokio::task::yield_now().await;
            return Err(Cut);
        }
        Ok(())
    }
}

/// The receiver lives as long as the work: both are in the body.
async fn send(frames: &mpsc::Sender<Bytes>, bytes: Bytes) {
    let _ = frames.send(bytes).await;
}

/// A steady pace: a tick that comes late does not put off the next.
#[derive(Debug)]
pub(super) struct Ticks {
    each: Duration,
    last: Instant,
}

impl Ticks {
    pub(super) fn new(each: Duration) -> Self {
        Self {
            each,
            last: Instant::now(),
        }
    }

    pub(super) fn restart(&mut self) {
        self.last = Instant::now();
    }

    pub(super) async fn tick(&mut self) {
        if !self.each.is_zero() {
            self.last = Deadline::at(self.last).later_by(self.each).instant();
            sleep_until(self.last).await;
        }
    }
}
