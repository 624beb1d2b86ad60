//! The tracing span of a call.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use tokio_test::{assert_pending, assert_ready, task};
use tower::{BoxError, Service};
use tower_dspy::{CallId, ErrorKind, Track, TrackLayer, Tracker, telemetry::names};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{Layer, layer, prelude::*, registry::LookupSpan};

use super::support::*;

#[derive(Clone, Default)]
struct Fields(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        self.0.lock().unwrap().insert(field.name(), text);
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Fields {
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        _: &span::Id,
        _: layer::Context<'_, S>,
    ) {
        if attributes.metadata().name() == names::CALL {
            attributes.record(&mut self.clone());
        }
    }

    fn on_record(&self, _: &span::Id, values: &span::Record<'_>, _: layer::Context<'_, S>) {
        values.record(&mut self.clone());
    }
}

/// Asserts, at each step and in its drop, that it is in the call's span.
#[derive(Clone)]
struct Inside {
    polls: u8,
}

#[track_caller]
fn assert_inside() {
    let span = tracing::Span::current();
    assert_eq!(
        span.metadata().map(|metadata| metadata.name()),
        Some(names::CALL)
    );
}

impl Drop for Inside {
    fn drop(&mut self) {
        if self.polls > 0 {
            assert_inside();
        }
    }
}

impl Service<Request> for Inside {
    type Response = ();
    type Error = BoxError;
    type Future = Self;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        assert_inside();
        self.polls += 1;
        cx.waker().wake_by_ref();
        if self.polls > 1 {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    fn call(&mut self, _: Request) -> Self {
        assert_inside();
        self.clone()
    }
}

impl Future for Inside {
    type Output = Result<(), BoxError>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert_inside();
        self.polls += 1;
        cx.waker().wake_by_ref();
        if self.polls > 4 {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_span_covers_readiness_call_polls_and_drop() {
    let fields = Fields::default();
    let _default = tracing_subscriber::registry()
        .with(fields.clone())
        .set_default();
    // While a process has only one subscriber, tracing asks the thread that comes to a span first
    // whether anybody listens, and remembers its answer: another test's thread would say no.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let read = |name| fields.0.lock().unwrap().get(name).cloned();

    let mut service = Track::new(Inside { polls: 0 }, Tracker::new());
    let mut wanted = due(secs(3));
    wanted.context.call_id = Some(CallId::next());
    let mut call = task::spawn(service.call(wanted.clone()));
    assert_pending!(call.poll());
    assert_pending!(call.poll());
    assert_pending!(call.poll());
    assert_eq!(read(names::OUTCOME), None);
    assert_ready!(call.poll()).unwrap();
    let id = wanted.context.call_id.map(|id| id.to_string());
    assert_eq!(read(names::CALL_ID), id);
    assert_eq!(read(names::TIME_LEFT).as_deref(), Some("3000"));
    assert_eq!(read(names::ATTEMPTS).as_deref(), Some("1"));
    assert_eq!(read(names::OUTCOME).as_deref(), Some("\"completed\""));
    assert_eq!(read(names::CAUSE), None);
    assert_eq!(
        read(names::SPAN_NAME).as_deref(),
        Some("\"tower_dspy.call\"")
    );

    let mut call = task::spawn(service.call(wanted));
    assert_pending!(call.poll());
    drop(call);
    assert_eq!(read(names::OUTCOME).as_deref(), Some("\"cancelled\""));
    assert_eq!(read(names::CAUSE).as_deref(), Some("\"dropped\""));
    // A cancel that was meant is no error.
    assert_eq!(read(names::ERROR_TYPE), None);
    assert_eq!(read(names::STATUS_CODE), None);
}

#[tokio::test]
async fn the_span_of_a_call_that_fails_has_the_type_of_its_error() {
    for (kind, error_type) in [
        (ErrorKind::Elapsed, Some("\"timeout\"")),
        (ErrorKind::Deadline, Some("\"timeout\"")),
        (ErrorKind::Overloaded, Some("\"overloaded\"")),
        (ErrorKind::LmRejected, Some("\"lm_rejected\"")),
        (ErrorKind::BudgetExceeded, Some("\"budget_exceeded\"")),
        (ErrorKind::Cancelled, None),
        (ErrorKind::ShuttingDown, None),
    ] {
        let fields = Fields::default();
        let _default = tracing_subscriber::registry()
            .with(fields.clone())
            .set_default();
        let _second = tracing::Dispatch::new(tracing_subscriber::registry());
        let read = |name| fields.0.lock().unwrap().get(name).cloned();
        let layer = TrackLayer::new(Tracker::new()).classify(move |_: &BoxError| kind);
        let service = tower::service_fn(|_: Request| async { Err::<(), _>(BoxError::from("no")) });
        assert!(
            tower::Layer::layer(&layer, service)
                .call(due(secs(3)))
                .await
                .is_err()
        );
        assert_eq!(read(names::ERROR_TYPE).as_deref(), error_type, "{kind:?}");
        let status = error_type.map(|_| "\"ERROR\"");
        assert_eq!(read(names::STATUS_CODE).as_deref(), status, "{kind:?}");
    }
}
