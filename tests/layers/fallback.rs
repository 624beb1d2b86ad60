use std::{
    future::{Future, pending, ready},
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_dspy::{
    Cancel, Carrier, Cause, Classify, Deadline, DeadlineLayer, Elapsed, Error, ErrorKind, Fallback,
    FallbackLayer, PredictRequest, Prediction, ProgramError, Scope, WithContext, drop_scope,
    layers::Value,
};

use crate::{
    script::{Log, answer, busy, elapsed, question, request, too_slow},
    support::secs,
};

pub(crate) fn due(limit: Duration) -> PredictRequest {
    request().with_deadline(Deadline::within(limit))
}

/// A service that never answers, and notes why its work is dropped.
pub(crate) fn stuck(
    drops: &Arc<Mutex<Vec<Cause>>>,
) -> impl Service<PredictRequest, Response = Prediction, Error = Error, Future: Send> + Clone + use<>
{
    struct Work(Arc<Mutex<Vec<Cause>>>);
    impl Drop for Work {
        fn drop(&mut self) {
            let mut drops = self.0.lock().expect("no panic under the lock");
            drops.push(drop_scope::cause());
        }
    }
    let drops = Arc::clone(drops);
    service_fn(move |_| {
        let work = Work(Arc::clone(&drops));
        async move {
            let _work = work;
            pending().await
        }
    })
}

/// A service that is never ready.
#[derive(Clone, Debug)]
pub(crate) struct NeverReady;

impl Service<PredictRequest> for NeverReady {
    type Response = Prediction;
    type Error = Error;
    type Future = std::future::Ready<Result<Prediction, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Pending
    }

    fn call(&mut self, _: PredictRequest) -> Self::Future {
        panic!("called, but was never ready")
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_passes_without_the_fallback() {
    let (first, second) = (Log::default(), Log::default());
    let result = FallbackLayer::service(second.service(|_| ready(Ok(answer("second")))))
        .layer(first.service(|_| ready(Ok(answer("first")))))
        .oneshot(request())
        .await;
    assert_eq!(result.expect("answered"), answer("first"));
    assert_eq!((first.len(), second.len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_value_answers_any_number_of_calls() {
    let log = Log::default();
    let service =
        FallbackLayer::value(answer("value")).layer(log.service(|_| ready(Err(too_slow()))));
    for _ in 0..2 {
        let result = service.clone().oneshot(request()).await;
        assert_eq!(result.expect("the value"), answer("value"));
    }
    assert_eq!(log.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_value_needs_no_clone_of_the_request() {
    struct Once;
    let inner = service_fn(|_: WithContext<Once>| ready(Err::<u32, _>(too_slow())));
    let result = FallbackLayer::value(7)
        .layer(inner)
        .oneshot(WithContext::new(Once))
        .await;
    assert_eq!(result.expect("the value"), 7);
}

#[tokio::test(start_paused = true)]
async fn a_closure_gets_the_error_and_the_original_request() {
    let log = Log::default();
    let deadline = Deadline::within(secs(10));
    let layer = FallbackLayer::with(move |error: Error, request: PredictRequest| async move {
        assert_eq!(error.kind(), ErrorKind::Elapsed);
        assert_eq!(request.inputs(), &question());
        let context = request.context().expect("a context");
        assert_eq!(context.deadline, Some(deadline));
        sleep(secs(1)).await;
        Ok(answer("closure"))
    });
    let result = layer
        .with_reserve(secs(3))
        .layer(log.service(|_| ready(Err(too_slow()))))
        .oneshot(request().with_deadline(deadline))
        .await;
    assert_eq!(result.expect("the closure's"), answer("closure"));
    assert_eq!(
        log.calls()[0].1.deadline,
        Some(deadline.earlier_by(secs(3)))
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_service_gets_the_original_context_and_the_same_id() {
    let (first, second) = (Log::default(), Log::default());
    let deadline = Deadline::within(secs(10));
    let cancel = Cancel::new();
    let result = FallbackLayer::service(second.service(|_| ready(Ok(answer("second")))))
        .with_reserve(secs(4))
        .layer(first.service(|_| ready(Err(busy(None)))))
        .oneshot(
            request()
                .with_deadline(deadline)
                .with_cancel(cancel.clone()),
        )
        .await;
    assert_eq!(result.expect("the second's"), answer("second"));
    let (first, second) = (first.calls().remove(0).1, second.calls().remove(0).1);
    assert_eq!(first.deadline, Some(deadline.earlier_by(secs(4))));
    assert_eq!(second.deadline, Some(deadline));
    assert!(first.call_id.is_some());
    assert_eq!(first.call_id, second.call_id);
    cancel.cancel(Cause::Caller);
    assert!(second.cancel.is_cancelled());
}

/// The kinds among `kinds` to which `layer` gives its answer.
async fn answered(layer: FallbackLayer<Value<u32>>, kinds: &[ErrorKind]) -> Vec<ErrorKind> {
    #[derive(Debug)]
    struct Raised(ErrorKind);
    impl From<Elapsed> for Raised {
        fn from(error: Elapsed) -> Self {
            Self(error.kind())
        }
    }
    let mut answered = Vec::new();
    for kind in kinds.iter().copied() {
        let result = layer
            .clone()
            .classify(|error: &Raised| error.0)
            .layer(service_fn(move |_: WithContext<()>| {
                ready(Err(Raised(kind)))
            }))
            .oneshot(WithContext::new(()))
            .await;
        match result {
            Ok(value) => {
                assert_eq!(value, 7);
                answered.push(kind);
            }
            Err(error) => assert_eq!(error.0, kind),
        }
    }
    answered
}

#[tokio::test(start_paused = true)]
async fn by_default_all_but_hopeless_calls_fall_back() {
    let hopeless = [
        ErrorKind::Cancelled,
        ErrorKind::ShuttingDown,
        ErrorKind::InvalidInput,
        ErrorKind::BudgetExceeded,
    ];
    let hopeful = [
        ErrorKind::Elapsed,
        ErrorKind::Deadline,
        ErrorKind::Overloaded,
        ErrorKind::Program,
        ErrorKind::LmUnavailable,
        ErrorKind::LmRejected,
        ErrorKind::Lost,
        ErrorKind::Other,
    ];
    let layer = FallbackLayer::value(7);
    assert_eq!(answered(layer.clone(), &hopeless).await, []);
    assert_eq!(answered(layer.clone(), &hopeful).await, hopeful);
    let chosen = [
        ErrorKind::InvalidInput,
        ErrorKind::BudgetExceeded,
        ErrorKind::Lost,
    ];
    let layer = layer.on_kinds(chosen);
    assert_eq!(
        answered(layer.clone(), &hopeless).await,
        [ErrorKind::InvalidInput, ErrorKind::BudgetExceeded]
    );
    assert_eq!(answered(layer, &hopeful).await, [ErrorKind::Lost]);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_gets_no_fallback() {
    let second = Log::default();
    let cancel = Cancel::new();
    let stop = cancel.clone();
    let first = service_fn(move |_| {
        stop.cancel(Cause::ClientGone);
        ready(Err(too_slow()))
    });
    let error = FallbackLayer::service(second.service(|_| ready(Ok(answer("second")))))
        .layer(first)
        .oneshot(request().with_cancel(cancel))
        .await
        .expect_err("nobody waits");
    assert_eq!((error.kind(), second.len()), (ErrorKind::Elapsed, 0));
}

#[tokio::test(start_paused = true)]
async fn when_both_fail_the_fallbacks_error_is_returned() {
    let log = Log::default();
    let second = service_fn(|_| ready(Err(ProgramError::new("ValueError", "no", "").into())));
    let error = FallbackLayer::service(second)
        .layer(log.service(|_| ready(Err(too_slow()))))
        .oneshot(request())
        .await
        .expect_err("both fail");
    assert_eq!(error.kind(), ErrorKind::Program);

    let error = FallbackLayer::with(|first: Error, _: PredictRequest| ready(Err(first)))
        .layer(log.service(|_| ready(Err(too_slow()))))
        .oneshot(request())
        .await
        .expect_err("the first's error, by choice");
    assert_eq!(error.kind(), ErrorKind::Elapsed);
}

#[tokio::test(start_paused = true)]
async fn past_the_deadline_a_value_answers_and_a_service_does_not() {
    let (first, second) = (Log::default(), Log::default());
    let late = |_| async {
        sleep(secs(5)).await;
        Err(elapsed(Scope::Deadline))
    };
    let result = FallbackLayer::value(answer("value"))
        .layer(first.service(late))
        .oneshot(due(secs(5)))
        .await;
    assert_eq!(result.expect("the value"), answer("value"));

    let error = FallbackLayer::service(second.service(|_| ready(Ok(answer("second")))))
        .layer(first.service(late))
        .oneshot(due(secs(5)))
        .await
        .expect_err("too late for a service");
    assert_eq!((error.kind(), second.len()), (ErrorKind::Deadline, 0));

    // Outside the deadline layer, the deadline is none of the fallback's.
    let drops = Arc::default();
    let result = ServiceBuilder::new()
        .layer(FallbackLayer::service(
            second.service(|_| ready(Ok(answer("second")))),
        ))
        .layer(DeadlineLayer::new(secs(5)))
        .service(stuck(&drops))
        .oneshot(request())
        .await;
    assert_eq!(result.expect("the second's"), answer("second"));
    assert_eq!(*drops.lock().expect("no panic"), [Cause::Deadline]);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_call_drops_the_service_at_work() {
    let (first, second) = (Arc::default(), Arc::default());
    let call = FallbackLayer::service(stuck(&second))
        .layer(stuck(&first))
        .oneshot(request());
    assert!(timeout(secs(1), call).await.is_err());
    assert_eq!(*first.lock().expect("no panic"), [Cause::Dropped]);
    assert_eq!(*second.lock().expect("no panic"), []);

    let call = FallbackLayer::service(stuck(&second))
        .with_reserve(secs(2))
        .layer(stuck(&first))
        .oneshot(due(secs(4)));
    assert!(timeout(secs(3), call).await.is_err());
    assert_eq!(
        *first.lock().expect("no panic"),
        [Cause::Dropped, Cause::Elapsed]
    );
    assert_eq!(*second.lock().expect("no panic"), [Cause::Dropped]);
}

#[test]
fn layers_and_services_are_shared_between_threads() {
    fn shared<T: Clone + std::fmt::Debug + Send + Sync + 'static>(_: &T) {}
    fn sent<T: Future + Send>(_: &T) {}
    let value = FallbackLayer::value(answer("value"));
    shared(&value);
    shared(&value.clone().classify(|_: &Error| ErrorKind::Other));
    shared(&FallbackLayer::with(|error: Error, _: PredictRequest| {
        ready(Err::<Prediction, _>(error))
    }));
    shared(&FallbackLayer::service(NeverReady));
    let mut service = value.layer(NeverReady);
    shared(&service);
    sent(&service.call(request()));
    let _: (&NeverReady, &mut NeverReady) = (&service.get_ref().clone(), service.get_mut());
    let NeverReady = service.into_inner();
    shared(&Fallback::new(NeverReady, Value::new(answer("value"))));
}
