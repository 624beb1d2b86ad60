//! The time limits of an LM call, and the termination that enforces them.
//!
//! What is ready wins against the clock, and no timer is armed before there is something to wait
//! for. What a limit ends is dropped at once, in a [`drop_scope`](crate::drop_scope) that names
//! the cause, which closes its connection.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use tokio::time::Instant;

use super::{LmRequest, first_content::FirstContentLimit, http::MemberLimit};
use crate::{
    call::{
        Cancel, Carrier, Cause, Deadline,
        termination::{Terminated, Termination},
    },
    error::{ErrorKind, LmFailure, LmFailureKind},
};

/// How long an LM call may take, and its parts.
///
/// ```
/// use std::time::Duration;
/// use tower_dspy::{Lm, lm::LmLimits};
///
/// let limits = LmLimits::new()
///     .with_first_byte(Duration::from_secs(20))
///     .with_first_content(Duration::from_secs(60))
///     .with_idle(Duration::from_secs(5))
///     .with_reserve(Duration::from_millis(50));
/// let lm = Lm::new("openai/gpt-4o-mini").limits(limits);
/// ```
///
/// | limit | bounds the time | its failure |
/// |---|---|---|
/// | `connect` | until there is a connection | `ConnectTimeout` |
/// | `first_byte` | from sending until the head of the answer | `FirstByteTimeout` |
/// | `first_content` | from sending until the first content | `FirstContentTimeout` |
/// | `idle`, before the first content | from the head, or any piece of the body, until the next piece; nothing if `first_content` is set | `IdleTimeout` |
/// | `idle`, from then on | from content until the next content, or the end | `IdleTimeout` |
/// | `total`, and the deadline less `reserve` | of the whole LM call | `TotalTimeout`, `Deadline` |
///
/// **Content** is, in a streamed answer, a part of it: text, thinking, a tool's name or arguments,
/// audio, a citation; or its end, with the reason, the usage, or an error. Pings, comments, roles
/// and empty deltas are none, but an event that is not understood is. This is read of
/// `text/event-stream` and `application/x-ndjson`, in the dialects of OpenAI, Anthropic, Gemini and
/// Ollama. In other answers each piece of the body is content, apart from white space before it.
///
/// A model that thinks may be silent for long before it answers, and then write without a pause.
/// With `first_content` for the one and a shorter `idle` for the other, each is bounded; with `idle`
/// alone pings bear out that a model thinks, and a pause without them is bounded as any other.
///
/// Of the body only the time counts in which its reader waits: a program that does not read is not
/// a pause.
///
/// `connect`, `first_byte`, `first_content` and `idle` hold for each attempt of a retry layer anew,
/// and the wait for a concurrency limit does not count. Once the head has come an attempt is not
/// retried.
/// `total` and the deadline hold for the LM call as the program sees it, layers included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LmLimits {
    /// Until there is a connection, TLS included: 10 s by default. A service given by
    /// [`Lm::http`](crate::Lm::http) has its own.
    pub connect: Option<Duration>,
    /// Until the head of the answer is there, from when the request is handed to the client:
    /// `None` by default.
    pub first_byte: Option<Duration>,
    /// Until the first content of the answer is there, from when the request is handed to the
    /// client: `None` by default.
    pub first_content: Option<Duration>,
    /// Between two pieces of content; and before the first, unless `first_content` is set, between
    /// the head and the first piece of the body, and between any two pieces: `None` by default.
    pub idle: Option<Duration>,
    /// For all of it, the body included: `None` by default. The deadline of the program's call
    /// holds anyway.
    pub total: Option<Duration>,
    /// Time kept back from the program's deadline, in which the program uses the answer, or handles
    /// its absence: `None` by default.
    pub reserve: Option<Duration>,
}

impl LmLimits {
    /// The default limits.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            connect: Some(Duration::from_secs(10)),
            first_byte: None,
            first_content: None,
            idle: None,
            total: None,
            reserve: None,
        }
    }

    /// Limits [`connect`](Self::connect).
    #[must_use]
    pub const fn with_connect(mut self, limit: Duration) -> Self {
        self.connect = Some(limit);
        self
    }

    /// Limits [`first_byte`](Self::first_byte).
    #[must_use]
    pub const fn with_first_byte(mut self, limit: Duration) -> Self {
        self.first_byte = Some(limit);
        self
    }

    /// Limits [`first_content`](Self::first_content).
    #[must_use]
    pub const fn with_first_content(mut self, limit: Duration) -> Self {
        self.first_content = Some(limit);
        self
    }

    /// Limits [`idle`](Self::idle).
    #[must_use]
    pub const fn with_idle(mut self, limit: Duration) -> Self {
        self.idle = Some(limit);
        self
    }

    /// Limits [`total`](Self::total).
    #[must_use]
    pub const fn with_total(mut self, limit: Duration) -> Self {
        self.total = Some(limit);
        self
    }

    /// Keeps [`reserve`](Self::reserve) back of the deadline.
    #[must_use]
    pub const fn with_reserve(mut self, reserve: Duration) -> Self {
        self.reserve = Some(reserve);
        self
    }
}

impl Default for LmLimits {
    fn default() -> Self {
        Self::new()
    }
}

/// The end of an LM call from outside: its limit, or its context.
#[derive(Debug)]
pub(super) struct LmTermination {
    pub(super) end: Option<LmEnd>,
    termination: Pin<Box<Termination>>,
    /// Until the first content has come.
    first_content: Option<FirstContentLimit>,
}

/// The end of an LM call by its limit or its deadline. It is among the extensions of the answer, for
/// a reader that does not poll the body all the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LmEnd {
    at: Deadline,
    limit: Duration,
    /// Whether it is the deadline of the context, and not the limit of the call itself.
    deadline: bool,
}

impl LmTermination {
    /// The end of the call that `request` begins now; its context then says so to the layers.
    ///
    /// # Errors
    /// If the call is to be refused: it is cancelled already, or has no time left.
    pub(super) fn of(request: &mut LmRequest, limits: &LmLimits) -> Result<Self, LmFailure> {
        let context = request.context();
        let deadline = context.and_then(|context| context.deadline);
        let node = context.map_or(Cancel::none(), |context| context.cancel.clone());
        if let Some(cause) = node.cause() {
            return Err(LmFailure::cancelled(cause, false));
        }
        let end = LmEnd::of(deadline, limits)?;
        if let Some(end) = end {
            request.context_mut().limit(end.at);
        }
        let member = request.extensions().get().map(|MemberLimit(limit)| *limit);
        let first_content = member.map(FirstContentLimit::new);
        if let Some(limit) = &first_content {
            // Layers wait no longer than that, as for a Retry-After.
            request.context_mut().content_by = Some(limit.end());
        }
        Ok(Self {
            end,
            termination: Box::pin(Termination::new(node, end.map(|end| end.at))),
            first_content,
        })
    }

    /// The head of the answer came.
    pub(super) fn head(&mut self, headers: &HeaderMap) {
        if let Some(limit) = &mut self.first_content {
            limit.head(headers);
        }
    }

    /// A frame of the answer came.
    pub(super) fn read(&mut self, frame: &Frame<Bytes>) {
        let data = frame.data_ref().map(Bytes::as_ref).unwrap_or_default();
        self.first_content.take_if(|limit| limit.read(data));
    }

    /// Ready once the call is to end, with the cause and the failure that it then is.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Cause, LmFailure)> {
        if let Poll::Ready(ended) = self.termination.as_mut().poll(cx) {
            return Poll::Ready(match (ended, self.end) {
                (Terminated::DeadlinePassed, Some(end)) => end.ended(),
                (ended, _) => (ended.cause(), LmFailure::cancelled(ended.cause(), true)),
            });
        }
        let Some(limit) = &mut self.first_content else {
            return Poll::Pending;
        };
        limit.poll(cx).map(|failure| (Cause::Elapsed, failure))
    }

    /// `failure`; or that of the call's own limit, if that has passed and a layer inside reported it
    /// first, or an attempt was refused because of it. To a layer any limit is the deadline: the
    /// context has no other name for it.
    pub(super) fn rename(&self, failure: LmFailure) -> LmFailure {
        let Some(end) = self.end.filter(|end| end.at.is_past()) else {
            return failure;
        };
        match failure.kind() {
            LmFailureKind::Deadline if !end.deadline => end.ended().1,
            LmFailureKind::Refused if failure.sort == ErrorKind::Deadline => end.ended().1,
            _ => failure,
        }
    }
}

impl LmEnd {
    fn of(deadline: Option<Deadline>, limits: &LmLimits) -> Result<Option<Self>, LmFailure> {
        let now = Instant::now();
        let reserve = limits.reserve.unwrap_or_default();
        let outer = deadline.map(|deadline| deadline.earlier_by(reserve));
        let own = limits.total.map(|total| Deadline::at(now).later_by(total));
        let Some(at) = outer.into_iter().chain(own).min() else {
            return Ok(None);
        };
        // Where both end at once, it is the deadline that is named.
        let deadline = outer == Some(at);
        let limit = at.remaining_at(now);
        if deadline && limit.is_zero() {
            let refused = LmFailure::refused(format!(
                "no LM call was made: the deadline of its call, less a reserve of {reserve:?}, \
                 had passed"
            ));
            return Err(refused.sorted(ErrorKind::Deadline));
        }
        Ok(Some(Self {
            at,
            limit,
            deadline,
        }))
    }

    /// The time until then.
    #[cfg(feature = "_host")]
    pub(crate) fn remaining(self) -> Duration {
        self.at.remaining()
    }

    /// The cause and the failure of a call that it ended.
    pub(crate) fn ended(self) -> (Cause, LmFailure) {
        let limit = self.limit;
        let (cause, kind, message) = if self.deadline {
            let message =
                format!("the deadline of its call passed during the LM call, which had {limit:?}");
            (Cause::Deadline, LmFailureKind::Deadline, message)
        } else {
            let message = format!("the LM call took longer than its limit of {limit:?}");
            (Cause::Elapsed, LmFailureKind::TotalTimeout, message)
        };
        (cause, LmFailure::new(kind, message))
    }
}
