//! The end of a program's call from outside: when its work is signalled, and who answers the call.
//!
//! One limit has three timers. The layer's drops the future and returns the error. The service's,
//! in this file, signals the work, once, and answers only if no enclosing layer has done so. The
//! LM's drops the request, which closes its connection; its failure is withheld from the program.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    task::yield_now,
    time::{Instant, sleep_until},
};

use crate::{
    call::{
        CallContext, Cancel, Cause, Deadline, Enclosing, Scope, StreamLimit, drop_scope,
        termination::{Terminated, Termination, pass_on_shared},
    },
    error::{Cancelled, Elapsed, Error, Stage},
};

/// Watches the deadline and the cancellation of one call.
pub(crate) struct ServiceTermination {
    started: Instant,
    termination: Pin<Box<Termination>>,
    enclosing: Enclosing,
    /// The name of the deadline, unless an enclosing layer gives it one.
    scope: Scope,
    /// Of a stream: passes on what its layers passed on until the response.
    shared: Option<BoxFuture<'static, ()>>,
    /// Once the work is signalled: ready when this answers.
    layers: Option<BoxFuture<'static, ()>>,
}

impl ServiceTermination {
    /// The error for a call that is to end before it has started.
    pub(crate) fn refuse(context: &CallContext) -> Option<Error> {
        let stage = Stage::BeforeStart;
        let ended = Terminated::by_now(&context.cancel, context.deadline)?;
        Some(match ended {
            Terminated::Cancelled(cause) => Cancelled::new(cause).with_stage(stage).into(),
            Terminated::DeadlinePassed => {
                Elapsed::new(Scope::Deadline, stage, Duration::ZERO).into()
            }
        })
    }

    pub(crate) fn new(context: &CallContext, started: Instant) -> Self {
        Self {
            started,
            termination: Box::pin(Termination::new(context.cancel.clone(), context.deadline)),
            enclosing: context.enclosing(),
            scope: Scope::Deadline,
            shared: None,
            layers: None,
        }
    }

    /// Watches the limit and the cancellation of a stream after its response, which no layer does.
    pub(crate) fn of_stream(cancel: Cancel, limit: Option<StreamLimit>, started: Instant) -> Self {
        Self {
            started: limit.and_then(|limit| limit.since).unwrap_or(started),
            shared: pass_on_shared(&cancel),
            termination: Box::pin(Termination::new(cancel, limit.map(|limit| limit.at))),
            enclosing: Enclosing::default(),
            scope: limit.map_or(Scope::Deadline, |limit| limit.scope),
            layers: None,
        }
    }

    /// Why the work was signalled; `None` if it was not.
    pub(super) fn ended(&self) -> Option<Terminated> {
        self.termination.ended()
    }

    /// The cause that the work was signalled with; `None` if it was not.
    pub(crate) fn signalled(&self) -> Option<Cause> {
        self.ended().map(Terminated::cause)
    }

    /// The error of a call whose work was signalled. Another task may have signalled it since the last
    /// poll, so the deadline and the node are read. `None` if neither ends the call.
    #[cfg(any(feature = "_host", test))]
    pub(crate) fn stopped(&self) -> Option<Error> {
        let termination = &self.termination;
        let by_now = || Terminated::by_now(&termination.cancel, termination.deadline);
        let ended = termination.ended().or_else(by_now);
        ended.map(|ended| self.error(ended))
    }

    /// The cause of a call that ends now. In order of precedence: the cause of a cancellation, even
    /// after the last poll; the cause from the enclosing layer, by [`drop_scope`]; the cause that the
    /// work was signalled with, which is [`Cause::Deadline`] for the limit of an attempt as well.
    pub(crate) fn reason(&self) -> Cause {
        let signalled = self.signalled();
        let known = match signalled {
            None | Some(Cause::Deadline) => self.termination.cancel.cause(),
            known => known,
        };
        known.unwrap_or_else(|| match (signalled, drop_scope::cause()) {
            (Some(signalled), Cause::Dropped) => signalled,
            (_, cause) => cause,
        })
    }

    /// Signals the work when the call is cancelled or its deadline has passed, once. Ready with the
    /// error if no enclosing layer has ended the call by the end of its grace.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, signal: impl FnOnce(Cause)) -> Poll<Error> {
        if let Some(shared) = &mut self.shared {
            let _ = shared.as_mut().poll(cx);
        }
        let ended = ready!(self.termination.as_mut().poll(cx));
        let layers = self.layers.get_or_insert_with(|| {
            signal(ended.cause());
            let drops_at = self.enclosing.drops_at(Instant::now());
            Box::pin(left_to_layers(drops_at, ended))
        });
        ready!(layers.as_mut().poll(cx));
        Poll::Ready(self.error(ended))
    }

    /// The error of a call that ends so.
    pub(super) fn error(&self, ended: Terminated) -> Error {
        match ended {
            Terminated::Cancelled(cause) => Cancelled::new(cause).into(),
            Terminated::DeadlinePassed => {
                let at = self.termination.deadline;
                let at = at.unwrap_or(Deadline::at(self.started));
                // The limit of an enclosing layer has its own name.
                let (scope, since) = match self.enclosing.limit_over(at) {
                    Some(limit) => (limit.scope, limit.since),
                    None => (self.scope, self.started),
                };
                Elapsed::new(scope, Stage::Running, at.remaining_at(since)).into()
            }
        }
    }
}

/// Waits while an enclosing layer may end the call: until `drops_at`, and for one more poll, as a layer
/// is polled after its work. An earlier answer would win the tie, and cut the grace short.
async fn left_to_layers(drops_at: Option<Instant>, ended: Terminated) {
    match (drops_at, ended) {
        (Some(at), _) => sleep_until(at).await,
        (None, Terminated::Cancelled(_)) => {}
        // No layer enforces the deadline.
        (None, Terminated::DeadlinePassed) => return,
    }
    yield_now().await;
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::{call::ErrorKind, error::Classify};

    #[tokio::test(start_paused = true)]
    async fn work_that_stops_at_its_deadline_is_out_of_time_and_not_cancelled() {
        let mut context = CallContext::new();
        context.deadline = Some(Deadline::within(Duration::from_secs(1)));
        let mut termination = ServiceTermination::new(&context, Instant::now());
        assert!(termination.stopped().is_none());
        let unpolled = ServiceTermination::new(&context, Instant::now());
        poll_fn(|cx| termination.poll(cx, |_| ())).await;
        for termination in [termination, unpolled] {
            let stopped = termination.stopped().expect("its deadline has passed");
            assert_eq!(stopped.kind(), ErrorKind::Deadline);
        }
    }

    #[test]
    fn a_cancellation_after_the_last_poll_is_the_cause_of_the_drop() {
        let mut context = CallContext::new();
        context.cancel = Cancel::new();
        let termination = ServiceTermination::new(&context, Instant::now());
        assert_eq!(termination.reason(), Cause::Dropped);
        context.cancel.cancel(Cause::Caller);
        assert_eq!(termination.reason(), Cause::Caller);
    }
}
