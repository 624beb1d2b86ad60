//! The last moment at which a request can be kept back: as its connection takes it.
//!
//! Between the poll that hands a request to the client and the one that writes it a connection is
//! made, and on a busy machine a task waits for its turn. What has ended by then is not sent.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::{
    task::yield_now,
    time::{Instant, sleep_until},
};

use super::{LmRequest, lm_log::SentMark};
use crate::{
    call::{CallContext, Cancel, Carrier, Cause, Deadline, Enclosing, termination::Terminated},
    error::{ErrorKind, LmFailure, LmFailureKind},
};

/// The status of the call that LM calls are made for, which may end while they are on their way.
pub(crate) trait CallStatus: Send + Sync {
    /// Whether no LM call is to be sent for it any more.
    fn is_over(&self) -> bool;
}

/// The call that a request is made for, among its extensions, where no node of the context tells.
#[derive(Clone)]
pub(crate) struct CallOver(pub(crate) Arc<dyn CallStatus>);

impl fmt::Debug for CallOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallOver").field(&self.0.is_over()).finish()
    }
}

/// Until when a request may leave.
#[derive(Clone, Debug)]
pub(super) struct Departure {
    deadline: Option<Deadline>,
    enclosing: Enclosing,
    cancel: Cancel,
    call: Option<CallOver>,
    sent: Option<SentMark>,
}

impl Departure {
    pub(super) fn of(request: &LmRequest) -> Self {
        let context = request.context();
        Self {
            deadline: context.and_then(|context| context.deadline),
            enclosing: context.map_or(Enclosing::default(), CallContext::enclosing),
            cancel: context.map_or(Cancel::none(), |context| context.cancel.clone()),
            call: request.extensions().get().cloned(),
            sent: request.extensions().get().cloned(),
        }
    }

    /// Why the request is not to leave any more.
    pub(super) fn refusal(&self) -> Option<LmFailure> {
        let is_over = self.call.as_ref().is_some_and(|call| call.0.is_over());
        match Terminated::by_now(&self.cancel, self.deadline) {
            Some(Terminated::Cancelled(cause)) => Some(LmFailure::cancelled(cause, false)),
            _ if is_over => Some(LmFailure::cancelled(Cause::Dropped, false)),
            Some(Terminated::DeadlinePassed) => {
                let message = "the request to the LM was not sent: its limit passed before that";
                Some(LmFailure::new(LmFailureKind::Refused, message).sorted(ErrorKind::Deadline))
            }
            None => None,
        }
    }

    /// Waits until an enclosing layer whose limit has passed has dropped this: its error names the
    /// limit.
    pub(super) async fn left_to_layers(&self) {
        if let Some(at) = self.enclosing.drops_at(Instant::now()) {
            sleep_until(at).await;
            yield_now().await;
        }
    }
}

/// A request's body. A connection asks for it once the head is in its buffer, and before any of it
/// is written, so that an error here closes the connection without a byte.
pub(super) struct Departing {
    body: Option<Bytes>,
    departure: Departure,
}

impl Departing {
    pub(super) const fn new(body: Bytes, departure: Departure) -> Self {
        Self {
            body: Some(body),
            departure,
        }
    }
}

impl Body for Departing {
    type Data = Bytes;
    type Error = LmFailure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, LmFailure>>> {
        let Some(body) = self.body.take() else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(match self.departure.refusal() {
            Some(refusal) => Err(refusal),
            None => {
                if let Some(sent) = &self.departure.sent {
                    sent.now();
                }
                Ok(Frame::data(body))
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.as_ref().map_or(0, |body| body.len() as u64))
    }
}
