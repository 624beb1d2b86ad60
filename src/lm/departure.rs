//! The last check of a request, which can still be kept back as its connection takes it.
//!
//! Between the poll that hands a request to the client and the one that writes it a connection is
//! made, and on a busy machine a task waits for its turn. What has ended by then is not sent.

use std::{
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

use super::{LmRequest, sent_mark::SentMark};
use crate::{
    call::{CallContext, Carrier, Cause, termination::Terminated},
    error::{ErrorKind, LmFailure},
};

/// Whether the call that a request is made for is over, so that none is to be sent for it any more.
/// Among the request's extensions, where no node of the context tells.
#[derive(Clone)]
pub(crate) struct CallOver(pub(crate) Arc<dyn Fn() -> bool + Send + Sync>);

/// What decides whether a request may still leave.
pub(super) struct Departure {
    context: CallContext,
    call: Option<CallOver>,
    sent: Option<SentMark>,
}

impl Departure {
    pub(super) fn of(request: &LmRequest) -> Self {
        Self {
            context: request.context().cloned().unwrap_or_default(),
            call: request.extensions().get().cloned(),
            sent: request.extensions().get().cloned(),
        }
    }

    /// Refuses a request that is not to leave any more.
    pub(super) fn check(&self) -> Result<(), LmFailure> {
        let is_over = self.call.as_ref().is_some_and(|call| (call.0)());
        match Terminated::by_now(&self.context.cancel, self.context.deadline) {
            Some(Terminated::Cancelled(cause)) => Err(LmFailure::cancelled(cause, false)),
            _ if is_over => Err(LmFailure::cancelled(Cause::Dropped, false)),
            Some(Terminated::DeadlinePassed) => {
                let message = "the request to the LM was not sent: its limit passed before that";
                Err(LmFailure::refused(message).sorted(ErrorKind::Deadline))
            }
            None => Ok(()),
        }
    }

    /// Waits until an enclosing layer whose limit has passed has dropped this: its error names the
    /// limit.
    pub(super) async fn left_to_layers(&self) {
        if let Some(at) = self.context.enclosing().drops_at(Instant::now()) {
            sleep_until(at).await;
            yield_now().await;
        }
    }
}

/// A request's body. A connection asks for it once the head is in its buffer, and before any of it
/// is written, so that an error here closes the connection without a byte.
pub(super) struct DepartingBody {
    /// Gone once the connection has it.
    pub(super) body: Option<Bytes>,
    pub(super) departure: Departure,
}

impl Body for DepartingBody {
    type Data = Bytes;
    type Error = LmFailure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, LmFailure>>> {
        let Some(body) = self.body.take() else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(self.departure.check().map(|()| {
            if let Some(mark) = &self.departure.sent {
                mark.sent();
            }
            Frame::data(body)
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.as_ref().map_or(0, |body| body.len() as u64))
    }
}
