//! The innermost service: one program.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Service;

use super::{
    PredictFuture, Schema, Typed,
    program::{Program, Waiting},
};
use crate::{
    Cancelled, Elapsed, Error, Overloaded, PredictRequest, Prediction, Scope, Stage, bridge,
};

/// A DSPy program as a [`tower::Service`], from [`Host::load`](crate::Host::load).
///
/// # What it does to a request
/// It checks the inputs against the program's schema, refuses a request whose deadline has passed
/// or that is already cancelled, and hands it to Python. Dropping the returned future cancels the
/// work there.
///
/// # Readiness
/// `poll_ready` waits for one of `max_in_flight` permits. The permit moves into the work and comes
/// back when that has really ended: after a timeout, not before the Python work stopped. With
/// `max_waiting` calls waiting already it is ready at once, and the call answers
/// [`Overloaded`]: an error from `poll_ready` would say that the service is dead.
///
/// # Limits
/// A deadline in the request's context is kept, and a cancelled context ends the call, also
/// without a layer. Layers add the rest, and grace for clean-up.
#[derive(Debug)]
pub struct DspyService {
    program: Arc<Program>,
    turn: Turn,
}

/// Where the service stands between `poll_ready` and `call`.
enum Turn {
    Idle,
    Waiting { acquire: Acquire, _place: Waiting },
    Ready(OwnedSemaphorePermit),
    Overloaded,
}

type Acquire = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send + Sync>>;

impl DspyService {
    pub(super) fn new(program: Arc<Program>) -> Self {
        Self {
            program,
            turn: Turn::Idle,
        }
    }

    /// What the program takes and gives.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.program.schema
    }

    /// The program, as it was asked for.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program.name
    }

    /// How many calls of this program are in flight: their work has not ended.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.program
            .max_in_flight
            .saturating_sub(self.program.permits.available_permits())
    }

    /// The same service with the inputs and outputs as structs.
    #[must_use]
    pub fn typed<In, Out>(self) -> Typed<Self, In, Out> {
        Typed::new(self)
    }

    fn admit(&self, request: &PredictRequest) -> Result<(), Error> {
        let program = &*self.program;
        program.schema.check(&program.name, request.inputs())?;
        let context = request.context_ref();
        if let Some(cause) = context.cancel.cause() {
            return Err(Cancelled::new(cause).into());
        }
        if context.deadline.is_some_and(|deadline| deadline.is_past()) {
            let limit = std::time::Duration::ZERO;
            return Err(Elapsed::new(Scope::Deadline, Stage::BeforeStart, limit).into());
        }
        if let Some(reason) = program.host.closed() {
            return Err(bridge::lost(reason));
        }
        match program.host.exhausted() {
            Some(threads) if program.blocking => {
                Err(Overloaded::abandoned(&program.name, threads).into())
            }
            _ => Ok(()),
        }
    }
}

/// A clone waits for a permit of its own.
impl Clone for DspyService {
    fn clone(&self) -> Self {
        Self::new(self.program.clone())
    }
}

impl Service<PredictRequest> for DspyService {
    type Response = Prediction;
    type Error = Error;
    type Future = PredictFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            match &mut self.turn {
                Turn::Ready(_) | Turn::Overloaded => return Poll::Ready(Ok(())),
                Turn::Waiting { acquire, .. } => match acquire.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    // The semaphore is never closed; if it were, the call would say so.
                    Poll::Ready(permit) => {
                        self.turn = permit.map_or(Turn::Overloaded, Turn::Ready);
                    }
                },
                Turn::Idle => {
                    let permits = &self.program.permits;
                    self.turn = match permits.clone().try_acquire_owned() {
                        Ok(permit) => Turn::Ready(permit),
                        Err(_) => match self.program.wait() {
                            Some(place) => Turn::Waiting {
                                acquire: acquire(permits.clone()),
                                _place: place,
                            },
                            None => Turn::Overloaded,
                        },
                    };
                }
            }
        }
    }

    /// # Panics
    /// Never: a call without readiness answers [`Overloaded`].
    fn call(&mut self, request: PredictRequest) -> PredictFuture {
        let permit = match std::mem::replace(&mut self.turn, Turn::Idle) {
            Turn::Ready(permit) => Some(permit),
            // One may have come free since.
            _ => self.program.permits.clone().try_acquire_owned().ok(),
        };
        let Some(permit) = permit else {
            let program = &self.program;
            let overloaded =
                Overloaded::full(&program.name, program.max_in_flight, program.max_waiting);
            return PredictFuture::refused(overloaded.into());
        };
        match self.admit(&request) {
            Ok(()) => PredictFuture::submit(self.program.clone(), request, permit),
            Err(error) => PredictFuture::refused(error),
        }
    }
}

fn acquire(permits: Arc<Semaphore>) -> Acquire {
    Box::pin(async move { permits.acquire_owned().await.ok() })
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Idle => "Idle",
            Self::Waiting { .. } => "Waiting",
            Self::Ready(_) => "Ready",
            Self::Overloaded => "Overloaded",
        })
    }
}
