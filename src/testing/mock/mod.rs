//! [`MockDspy`]: the DSPy service without Python, for tests under paused time.

mod busy;
mod record;
mod reply;
mod streaming;
mod work;

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_util::future::{BoxFuture, ready};
use tower::Service;

pub use self::{
    busy::Busy,
    record::{CallEnd, CallRecord},
    reply::Reply,
    streaming::MockStreaming,
};
use self::{
    record::{MockInFlight, MockLedger},
    work::{MockFuture, MockWork},
};
use crate::{
    call::{Carrier, Cause},
    error::{Classify, Error, InvalidInput},
    request::{PredictRequest, Prediction},
    service::{
        MAX_IN_FLIGHT, MAX_WAITING,
        admission::{Admission, Permits},
        lm_names,
        termination::ServiceTermination,
    },
};

type ReplyFn = dyn Fn(&CallRecord) -> Reply + Send + Sync;

/// Stands for a `DspyService` in a test: plays a script, and records what it was asked, what was
/// stopped, by what cause, and what is still in flight.
///
/// It is ready, refuses, stops and ends as the real one does, by the same code: it waits for one of
/// [`max_in_flight`](Self::max_in_flight) permits, which is held until the *work* has ended; it
/// keeps the deadline and the cancellation in the request's context; dropping its future cancels the
/// call. Only the work itself is not there.
///
/// ```
/// use std::time::Duration;
/// use serde_json::json;
/// use tokio::time::Instant;
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_dspy::{Cause, ErrorKind, PredictRequest, RetryLayer, TimeoutLayer};
/// use tower_dspy::testing::mock::{MockDspy, Reply};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let mock = MockDspy::new([
///     Reply::hang(),
///     Reply::fail(ErrorKind::LmUnavailable),
///     Reply::answer(json!({"answer": "Paris"})).after(Duration::from_secs(1)),
/// ]);
/// let stack = ServiceBuilder::new()
///     .layer(RetryLayer::new(2))
///     .layer(TimeoutLayer::new(Duration::from_secs(4)))
///     .service(mock.clone());
///
/// let request = PredictRequest::new(json!({"question": "The capital of France?"}));
/// let answer = stack.oneshot(request).await.unwrap();
/// assert_eq!(answer.outputs["answer"], "Paris");
///
/// let calls = mock.calls();
/// assert_eq!(calls.len(), 3);
/// assert_eq!(calls[0].time_left, Some(Duration::from_secs(4)));
/// assert_eq!(calls[2].attempt, 2);
/// assert_eq!(mock.stopped(), [Cause::Elapsed]);
/// assert_eq!(mock.in_flight(), 0);
/// # }
/// ```
///
/// Polled by hand, with `tokio-test`, step by step:
///
/// ```
/// use std::time::Duration;
/// use serde_json::json;
/// use tokio::time::advance;
/// use tokio_test::{assert_pending, assert_ready_err, task};
/// use tower::ServiceExt;
/// use tower_dspy::{Classify, DeadlineService, ErrorKind, PredictRequest};
/// use tower_dspy::testing::mock::{MockDspy, Reply};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let mock = MockDspy::new([Reply::hang()]);
/// let stack = DeadlineService::new(mock.clone(), Duration::from_secs(2));
/// let mut call = task::spawn(stack.oneshot(PredictRequest::new(json!({}))));
/// assert_pending!(call.poll());
/// assert_eq!(mock.in_flight(), 1);
///
/// advance(Duration::from_secs(2)).await;
/// assert!(call.is_woken());
/// assert_eq!(assert_ready_err!(call.poll()).kind(), ErrorKind::Deadline);
/// assert_eq!(mock.in_flight(), 0);
/// # }
/// ```
///
/// And with `tower-test`, where a layer of your own stands around the mock:
///
/// ```
/// use serde_json::json;
/// use tokio_test::{assert_pending, assert_ready_ok};
/// use tower_dspy::{PredictRequest, testing::mock::{MockDspy, Reply}};
/// use tower_test::mock::Spawn;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let mock = MockDspy::new([Reply::answer("Paris")]);
/// let busy = mock.busy();
/// let mut service = Spawn::new(mock);
/// assert_pending!(service.poll_ready());
/// drop(busy);
/// assert!(service.is_woken());
/// assert_ready_ok!(service.poll_ready());
/// let answer = service.call(PredictRequest::new(json!({}))).await.unwrap();
/// assert_eq!(answer.outputs["answer"], "Paris");
/// # }
/// ```
///
/// # Clones
/// They share the script, the record and the permits, as the clones of a program's service do.
///
/// # Panics
/// A call that comes when the script has ended panics and says so. An error would not do: a layer
/// might retry it, or answer for it, and the test pass.
#[derive(Clone, Debug)]
pub struct MockDspy {
    script: Arc<Mutex<MockScript>>,
    ledger: MockLedger,
    permits: Arc<Permits>,
    limits: (usize, usize),
    max_per_tenant: Option<usize>,
    fields: Option<Arc<[Box<str>]>>,
    lms: Arc<[String]>,
    admission: Admission,
}

#[derive(Default)]
struct MockScript {
    replies: VecDeque<Reply>,
    played: usize,
    then: Option<Arc<ReplyFn>>,
}

impl MockDspy {
    /// A mock that plays these replies, one a call, in the order in which calls come.
    pub fn new<R: Into<Reply>>(replies: impl IntoIterator<Item = R>) -> Self {
        let mock = Self::of(None);
        for reply in replies {
            mock.push(reply);
        }
        mock
    }

    /// A mock whose replies are made by `reply`, from what was asked.
    pub fn from_fn(reply: impl Fn(&CallRecord) -> Reply + Send + Sync + 'static) -> Self {
        Self::of(Some(Arc::new(reply)))
    }

    fn of(then: Option<Arc<ReplyFn>>) -> Self {
        let script = MockScript {
            then,
            ..MockScript::default()
        };
        Self {
            script: Arc::new(Mutex::new(script)),
            ledger: MockLedger::default(),
            permits: Arc::new(Permits::new(MAX_IN_FLIGHT, MAX_WAITING)),
            limits: (MAX_IN_FLIGHT, MAX_WAITING),
            max_per_tenant: None,
            fields: None,
            lms: Arc::default(),
            admission: Admission::Idle,
        }
    }

    /// As `Load::max_in_flight`: so many calls at once, from 1; the default is 64. Set it before
    /// there are clones.
    #[must_use]
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.limits.0 = calls;
        self.limited()
    }

    /// As `Load::max_waiting`: so many more wait for a permit; the default is 1024. Set it before
    /// there are clones.
    #[must_use]
    pub fn max_waiting(mut self, calls: usize) -> Self {
        self.limits.1 = calls;
        self.limited()
    }

    /// As `Load::max_in_flight_per_tenant`: so many calls of one tenant at once; the default is no
    /// limit. Set it before there are clones.
    #[must_use]
    pub fn max_in_flight_per_tenant(mut self, calls: usize) -> Self {
        self.max_per_tenant = Some(calls);
        self.limited()
    }

    fn limited(mut self) -> Self {
        let permits = Permits::new(self.limits.0, self.limits.1);
        self.permits = Arc::new(permits.with_max_per_tenant(self.max_per_tenant));
        self
    }

    /// The names of the input fields, all required. Inputs with others are refused, as those that
    /// are no object always are. The default is any.
    #[must_use]
    pub fn inputs<N: Into<Box<str>>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.fields = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// As `Load::lms`: the names of the LMs that a request may choose one by. Without it, one that
    /// names any is refused.
    #[must_use]
    pub fn lms<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.lms = names.into_iter().map(Into::into).collect();
        self
    }

    /// The same mock as a streaming service, as `DspyService::streaming` is the same program.
    #[must_use]
    pub fn streaming(&self) -> MockStreaming {
        MockStreaming(self.clone())
    }

    /// Appends a reply to the script. With [`from_fn`](Self::from_fn) it comes before what the
    /// function makes.
    pub fn push(&self, reply: impl Into<Reply>) {
        self.script().replies.push_back(reply.into());
    }

    /// How many replies of the script were not asked for.
    #[must_use]
    pub fn replies_left(&self) -> usize {
        self.script().replies.len()
    }

    /// All calls so far, in the order in which they came.
    #[must_use]
    pub fn calls(&self) -> Vec<CallRecord> {
        self.ledger.borrow().clone()
    }

    /// Why calls were stopped or dropped before their reply, in the order in which they came.
    #[must_use]
    pub fn stopped(&self) -> Vec<Cause> {
        let stopped = |call: &CallRecord| match call.end {
            Some(CallEnd::Stopped(cause)) => Some(cause),
            _ => None,
        };
        self.ledger.borrow().iter().filter_map(stopped).collect()
    }

    /// How many calls' work has not ended, whether anybody waits for it or not.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        let calls = self.ledger.borrow();
        calls.iter().filter(|call| call.in_flight).count()
    }

    /// Waits until the record looks so: that a call has come, say, or that all work has ended.
    ///
    /// # Cancel safety
    /// Dropping the future does nothing.
    pub async fn wait_for(&self, seen: impl Fn(&[CallRecord]) -> bool) {
        // It fails without a sender, which `self` has.
        let _ = self.ledger.subscribe().wait_for(|calls| seen(calls)).await;
    }

    fn check(&self, request: &PredictRequest) -> Result<(), Error> {
        let names = self.fields.as_deref();
        let refuse = |field: Option<&str>, problem: String| {
            let expected = names.map_or("a JSON object".to_owned(), |names| names.join(", "));
            Err(InvalidInput::new("mock", field, problem, expected).into())
        };
        let Some(inputs) = request.inputs().as_object() else {
            return refuse(None, "the inputs are not a JSON object".into());
        };
        if let Some(names) = names {
            let known = |name: &str| names.iter().any(|known| **known == *name);
            if let Some(name) = inputs.keys().find(|name| !known(name)) {
                return refuse(Some(name), format!("there is no input `{name}`"));
            }
            if let Some(name) = names.iter().find(|name| !inputs.contains_key(&***name)) {
                return refuse(Some(name), format!("the input `{name}` is missing"));
            }
        }
        lm_names::check(&self.lms, "mock", request.lm())?;
        ServiceTermination::refuse(&request.context).map_or(Ok(()), Err)
    }

    /// The work of a call that is admitted, and its reply.
    fn admit(&mut self, request: &mut PredictRequest) -> Result<(Reply, MockInFlight), Error> {
        let inputs = request.inputs().clone();
        let mut record = CallRecord::new(inputs, request.context_mut());
        // Counted before it is checked for a cancellation, as with the real one.
        let work = request.context.cancel.begin_work();
        let admitted = match self.admission.take(&self.permits) {
            Some(permit) => self
                .check(request)
                .and_then(|()| Ok(self.permits.of_tenant(permit, request.tenant(), "mock")?)),
            None => Err(self.permits.overloaded("mock").into()),
        };
        match admitted {
            Ok(permit) => {
                let reply = self.next(&record);
                let running = MockInFlight::begin(self.ledger.clone(), record, (permit, work));
                Ok((reply, running))
            }
            Err(error) => {
                record.end = Some(CallEnd::Refused(error.kind()));
                self.ledger.send_modify(|calls| calls.push(record));
                Err(error.with_call_id(request.context.call_id))
            }
        }
    }

    fn script(&self) -> MutexGuard<'_, MockScript> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, record: &CallRecord) -> Reply {
        let mut script = self.script();
        script.played += 1;
        if let Some(reply) = script.replies.pop_front() {
            return reply;
        }
        let (played, then) = (script.played, script.then.clone());
        // Neither the test's code nor a panic under the lock.
        drop(script);
        match then {
            Some(then) => then(record),
            None => panic!(
                "the script of the mock has ended: this is call {played} (attempt {}, inputs {}), \
                 and there were {} replies; give `MockDspy::new` one more, or `push` it",
                record.attempt,
                record.inputs,
                played - 1,
            ),
        }
    }
}

impl Service<PredictRequest> for MockDspy {
    type Response = Prediction;
    type Error = Error;
    /// As with the real one, dropping it cancels the call; what [lingers](Reply::lingers) is in
    /// flight until it has ended.
    type Future = BoxFuture<'static, Result<Prediction, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.admission.poll(&self.permits, cx).map(Ok)
    }

    fn call(&mut self, mut request: PredictRequest) -> MockFuture {
        match self.admit(&mut request) {
            Ok((reply, running)) => MockWork::start(&request.context, reply, running),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }
}

impl fmt::Debug for MockScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockScript")
            .field("replies_left", &self.replies.len())
            .finish_non_exhaustive()
    }
}
