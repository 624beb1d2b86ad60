//! The body of a reply: the work that writes it, as hyper asks for bytes.

use std::future::ready;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, PollNext, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::Reply;
use crate::call::Deadline;

/// The script closes the connection in the middle of the body.
#[derive(Clone, Copy, Debug, Error)]
#[error("the script cuts the body here")]
pub(super) struct BodyCut;

/// A body that owns the work which writes it, so that dropping the body drops the work.
pub(super) type ReplyBody = UnsyncBoxBody<Bytes, BodyCut>;

/// Makes a body of what `work` writes, at the pace and up to the cut that `reply` sets.
pub(super) fn written_by<F>(reply: Reply, work: impl FnOnce(Reply, BodyWriter) -> F) -> ReplyBody
where
    F: Future<Output = Result<(), BodyCut>> + Send + 'static,
{
    // One frame at a time: the work gets no further ahead of the connection.
    let (sender, mut frames) = mpsc::channel(1);
    let out = BodyWriter {
        frames: sender,
        trickle: reply.trickle.map(Pace::new),
        left: reply.cut_after.unwrap_or(usize::MAX),
    };
    let work = stream::once(work(reply, out)).filter_map(|done| ready(done.err().map(Err)));
    let frames = stream::poll_fn(move |cx| frames.poll_recv(cx));
    let frames = frames.map(|bytes| Ok(Frame::data(bytes)));
    // What is written goes out before the work goes on.
    let first = |_: &mut ()| PollNext::Left;
    StreamBody::new(stream::select_with_strategy(frames, work, first)).boxed_unsync()
}

/// Where the work writes.
#[derive(Debug)]
pub(super) struct BodyWriter {
    frames: mpsc::Sender<Bytes>,
    trickle: Option<Pace>,
    /// Bytes before the cut.
    left: usize,
}

impl BodyWriter {
    pub(super) async fn write(&mut self, mut bytes: Bytes) -> Result<(), BodyCut> {
        let cut = bytes.len() > self.left;
        bytes.truncate(self.left);
        self.left -= bytes.len();
        let mut piece = bytes.len();
        if let Some(trickle) = &mut self.trickle {
            piece = 1;
            // Time spent elsewhere since the last write is not to be made up for.
            trickle.restart();
        }
        while !bytes.is_empty() {
            if let Some(trickle) = &mut self.trickle {
                trickle.tick().await;
            }
            // The receiver lives as long as the work: both are in the body.
            let _ = self.frames.send(bytes.split_to(piece)).await;
        }
        if cut {
            // hyper drops what it has buffered when a body fails. So wait until it has taken the
            // last frame, and then let it flush, which it does when the body is pending.
            let _ = self.frames.reserve().await;
            tokio::task::yield_now().await;
            return Err(BodyCut);
        }
        Ok(())
    }
}

/// A steady pace: a tick that comes late does not put off the next.
#[derive(Debug)]
pub(super) struct Pace {
    each: Duration,
    last: Instant,
}

impl Pace {
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
