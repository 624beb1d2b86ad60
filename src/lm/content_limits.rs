//! The limits of the waits for an answer's body: for its first content, and for more of it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::HeaderMap;
use tokio::time::{Instant, Sleep, sleep};

use super::{LmLimits, content::ContentReader, first_content::came};
use crate::error::{LmFailure, LmFailureKind};

/// The limits of the waits for an answer's body, as [`LmLimits`]'s table has them.
///
/// Only the time in which the reader of the body waits counts.
#[derive(Debug)]
pub(super) struct ContentLimits {
    limits: LmLimits,
    /// The limit of a wait for the next piece of any kind that the program itself has.
    read_timeout: Option<Duration>,
    reader: ContentReader,
    /// The wait for the next piece of any kind.
    piece: Option<WaitLimit>,
    /// The wait for the next content.
    content: Option<WaitLimit>,
}

impl ContentLimits {
    /// The limits of the body below this head, of a request that was sent then.
    pub(super) fn of(
        headers: &HeaderMap,
        limits: LmLimits,
        read_timeout: Option<Duration>,
        sent: Instant,
    ) -> Self {
        let first_content = limits.first_content.map(|limit| WaitLimit {
            left: limit.saturating_sub(sent.elapsed()),
            ..WaitLimit::new(limit)
        });
        // Until there is content, anything shows that the provider is at work.
        let idle = limits.idle.filter(|_| first_content.is_none());
        let piece = idle.into_iter().chain(read_timeout).min();
        Self {
            limits,
            read_timeout,
            reader: ContentReader::of(headers),
            piece: piece.map(WaitLimit::new),
            content: first_content,
        }
    }

    /// Ready once a wait took too long, with the failure that it is.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LmFailure> {
        if let Some(wait) = &mut self.content
            && wait.poll(cx).is_ready()
        {
            let limit = wait.limit;
            return Poll::Ready(self.no_content(limit));
        }
        let Some(wait) = &mut self.piece else {
            return Poll::Pending;
        };
        ready!(wait.poll(cx));
        Poll::Ready(LmFailure::new(
            LmFailureKind::IdleTimeout,
            format!(
                "the provider's answer paused for longer than {:?}",
                wait.limit
            ),
        ))
    }

    /// A piece came; true if it is the first with content.
    pub(super) fn read(&mut self, bytes: &[u8]) -> bool {
        if let Some(piece) = &mut self.piece {
            piece.restart();
        }
        let first = !self.reader.begun();
        if !self.reader.read(bytes) {
            if let Some(content) = &mut self.content {
                content.pause();
            }
            return false;
        }
        if first {
            self.piece = self.read_timeout.map(WaitLimit::new);
            self.content = self.limits.idle.map(WaitLimit::new);
        } else if let Some(content) = &mut self.content {
            content.restart();
        }
        first
    }

    /// About how many tokens of the answer came.
    pub(super) fn tokens(&self) -> u64 {
        self.reader.tokens()
    }

    /// The failure of an answer whose content did not come within this limit.
    fn no_content(&self, limit: Duration) -> LmFailure {
        let empty = self.reader.empty();
        if self.reader.begun() {
            let mut message = format!("the provider's answer paused for longer than {limit:?}");
            if empty > 0 {
                message += &format!(": only pings or empty events ({empty}) came");
            }
            return LmFailure::new(LmFailureKind::IdleTimeout, message);
        }
        LmFailure::first_content(limit, &came(empty))
    }
}

/// A limit of the time in which a reader waits.
#[derive(Debug)]
struct WaitLimit {
    limit: Duration,
    /// What is left of it, without the present wait.
    left: Duration,
    /// The beginning of the present wait, and the end that it may have.
    wait: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl WaitLimit {
    const fn new(limit: Duration) -> Self {
        Self {
            limit,
            left: limit,
            wait: None,
        }
    }

    /// Waits; ready once the limit is used up.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.left;
        let wait = || (Instant::now(), Box::pin(sleep(left)));
        self.wait.get_or_insert_with(wait).1.as_mut().poll(cx)
    }

    /// The wait ends, and what it took is used up.
    fn pause(&mut self) {
        if let Some((began, _)) = self.wait.take() {
            self.left = self.left.saturating_sub(began.elapsed());
        }
    }

    /// The wait ends, and the next has the whole limit again.
    fn restart(&mut self) {
        self.wait = None;
        self.left = self.limit;
    }
}
