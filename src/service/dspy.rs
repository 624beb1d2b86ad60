//! The innermost service: one program.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

#[cfg(feature = "metrics")]
use super::admission::Permits;
use super::{
    PredictFuture, Schema, Typed,
    future::{AdmittedCall, refused, submit},
    program::Program,
};
use crate::{
    error::{Error, Lost, Overloaded},
    request::{PredictRequest, Prediction},
    service::{admission::Admission, termination::ServiceTermination},
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
/// [`Overloaded`](crate::Overloaded): an error from `poll_ready` would say that the service is dead.
/// A call whose tenant has [`max_in_flight_per_tenant`](crate::service::Load::max_in_flight_per_tenant)
/// calls in flight is answered so as well, as a request is not known before it is `call`ed.
///
/// # What it reports
/// A [`Prediction`] has its LM calls and tokens, and so does the error of a call that ran, by
/// [`Error::spent`]. The program can leave a partial answer, and read its limits:
/// ```python
/// import tower_dspy
///
/// tower_dspy.partial(answer=draft)  # on the error, if the call is stopped from now on
/// tower_dspy.remaining()            # seconds until the deadline; None without one
/// tower_dspy.deadline()             # on the clock of time.monotonic(); None without one
/// tower_dspy.remaining_budget()     # tokens, usd and wrap_up of its budgets; None without one
/// tower_dspy.cancelled()            # whether the call was cancelled
/// ```
/// These work in the program's tasks and in threads that keep DSPy's settings or the context, as
/// those of `dspy.Parallel` and `asyncio.to_thread` do. Where a program runs without a host they do
/// nothing.
///
/// # Limits
/// A deadline in the request's context is kept, and a cancelled context ends the call, also
/// without a layer. LM calls are charged to the context's budgets. Layers add the rest, and grace for
/// clean-up.
#[derive(Clone, Debug)]
pub struct DspyService {
    pub(super) program: Arc<Program>,
    admission: Admission,
}

impl DspyService {
    pub(super) fn new(program: Program) -> Self {
        Self {
            program: Arc::new(program),
            admission: Admission::Idle,
        }
    }

    /// What the program takes and gives.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.program.loaded.schema
    }

    /// The program, as it was asked for.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program.name
    }

    /// How many calls of this program are in flight: their work has not ended.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.program.permits.in_flight()
    }

    /// How many LM calls this program made past the host: by a `dspy.BaseLM` that is no `dspy.LM`,
    /// or a custom engine, with a client that is not httpx.
    ///
    /// Such calls have neither the host's key, layers and limits nor a place in
    /// [`Prediction::usage`]. In async code they end with a cancelled call as others do; on a thread
    /// the one under way goes on to its end, and no further one begins. A provider that is asked with
    /// neither a `dspy.BaseLM` nor httpx is not seen.
    #[must_use]
    pub fn lm_calls_bypassed(&self) -> u64 {
        self.program.counts.bypassed()
    }

    /// The same service with the inputs and outputs as structs.
    #[must_use]
    pub fn typed<In, Out>(self) -> Typed<Self, In, Out> {
        Typed::new(self)
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn permits(&self) -> &Permits {
        &self.program.permits
    }

    /// The version of DSPy of its host.
    #[cfg(feature = "metrics")]
    pub(crate) fn dspy_version(&self) -> &Arc<str> {
        &self.program.host.core().dspy_version
    }

    /// What a call that may run holds.
    pub(super) fn admit(&mut self, request: &PredictRequest) -> Result<AdmittedCall, Error> {
        let program = &self.program;
        let Some(permit) = self.admission.take(&program.permits) else {
            return Err(program.permits.overloaded(&program.name).into());
        };
        // Counted before it is checked for a cancellation: see `Cancel::begin_work`.
        let work = request.context.cancel.begin_work();
        self.check(request)?;
        let permit = program
            .permits
            .of_tenant(permit, request.tenant(), &program.name)?;
        Ok(AdmittedCall { permit, work })
    }

    fn check(&self, request: &PredictRequest) -> Result<(), Error> {
        let program = &*self.program;
        program
            .loaded
            .schema
            .check(&program.name, request.inputs())?;
        program.check_lm(request.lm())?;
        if let Some(error) = ServiceTermination::refuse(&request.context) {
            return Err(error);
        }
        if let Some(reason) = program.host.closed() {
            return Err(Lost::new(reason).into());
        }
        match program.host.exhausted() {
            Some(threads) if program.loaded.blocking => {
                Err(Overloaded::abandoned(&program.name, threads).into())
            }
            _ => Ok(()),
        }
    }
}

/// A clone waits for a permit of its own.
impl Service<PredictRequest> for DspyService {
    type Response = Prediction;
    type Error = Error;
    type Future = PredictFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.admission.poll(&self.program.permits, cx).map(Ok)
    }

    /// # Panics
    /// Never: a call without readiness answers [`Overloaded`](crate::Overloaded).
    fn call(&mut self, mut request: PredictRequest) -> PredictFuture {
        let id = request.context.id();
        match self.admit(&request) {
            Ok(admitted) => submit(self.program.clone(), request, admitted),
            Err(error) => refused(error.with_call_id(id)),
        }
    }
}
