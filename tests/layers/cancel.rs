use std::{pin::pin, time::Duration};

use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready, task};
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service, ServiceExt};
use tower_dspy::{Cancel, CancelLayer, CancelService, Cause};

use super::support::*;

fn under(cancel: &Cancel) -> Request {
    let mut request = request();
    request.context.cancel = cancel.clone();
    request
}

#[tokio::test(start_paused = true)]
async fn a_call_already_cancelled_is_refused_without_an_inner_call() {
    let record = Record::default();
    let cancel = Cancel::new();
    cancel.cancel(Cause::ClientGone);
    let service = CancelService::new(record.answers(secs(0)));
    let result = service.oneshot(under(&cancel)).await;
    assert_eq!(cancelled(result), Cause::ClientGone);

    let shut = Cancel::new();
    shut.cancel(Cause::Shutdown);
    let layer = CancelLayer::new().with_token(shut);
    for request in [request(), under(&Cancel::new())] {
        let result = layer.layer(record.answers(secs(0))).oneshot(request).await;
        assert_eq!(cancelled(result), Cause::Shutdown);
    }
    assert_eq!(record.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn work_in_flight_is_dropped_with_the_cause_before_the_error_is_returned() {
    for cause in [
        Cause::Caller,
        Cause::ClientGone,
        Cause::Shutdown,
        Cause::Deadline,
    ] {
        let record = Record::default();
        let cancel = Cancel::new();
        let mut service = CancelService::new(record.answers(secs(9)));
        let mut call = task::spawn(service.call(under(&cancel)));
        assert_pending!(call.poll());
        advance(secs(1)).await;
        cancel.cancel(cause);
        assert!(call.is_woken());
        let result = assert_ready!(call.poll());
        assert_eq!(record.drops(), [cause]);
        assert_eq!(cancelled(result), cause);
        assert_pending!(call.poll());
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_by_a_plain_token_has_the_cause_caller() {
    let token = CancellationToken::new();
    let mut service = CancelService::new(Record::default().answers(secs(9)));
    let mut call = task::spawn(service.call(under(&token.clone().into())));
    assert_pending!(call.poll());
    token.cancel();
    assert_eq!(cancelled(assert_ready!(call.poll())), Cause::Caller);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_of_the_parent_reaches_the_node_with_its_cause() {
    let call_node = Cancel::new();
    let mut service = CancelService::new(Record::default().answers(secs(9)));
    let mut call = task::spawn(service.call(under(&call_node.child().child())));
    assert_pending!(call.poll());
    call_node.cancel(Cause::ClientGone);
    assert_eq!(cancelled(assert_ready!(call.poll())), Cause::ClientGone);
}

#[tokio::test(start_paused = true)]
async fn a_ready_answer_wins_the_tie() {
    let cancel = Cancel::new();
    let mut service = CancelService::new(Record::default().answers(secs(1)));
    let mut call = task::spawn(service.call(under(&cancel)));
    assert_pending!(call.poll());
    advance(secs(1)).await;
    cancel.cancel(Cause::Caller);
    assert_eq!(assert_ready!(call.poll()).unwrap(), "answer");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_between_call_and_first_poll_is_noticed() {
    let record = Record::default();
    let cancel = Cancel::new();
    let mut service = CancelService::new(record.answers(secs(1)));
    let call = service.call(under(&cancel));
    cancel.cancel(Cause::Caller);
    let (took, result) = timed(call).await;
    assert_eq!(took, Duration::ZERO);
    assert_eq!(cancelled(result), Cause::Caller);
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_readiness_is_cancellable_and_has_no_grace() {
    let cancel = Cancel::new();
    let layer = CancelLayer::new().with_grace(secs(5));
    let mut call = task::spawn(layer.layer(NeverReady).oneshot(under(&cancel)));
    assert_pending!(call.poll());
    cancel.cancel(Cause::Caller);
    assert_eq!(cancelled(assert_ready!(call.poll())), Cause::Caller);
}

#[tokio::test(start_paused = true)]
async fn the_clone_that_became_ready_is_the_one_called() {
    let mut service = CancelService::new(Strict::after(secs(1)));
    let calls = (service.call(request()), service.call(request()));
    let (first, second) = tokio::join!(calls.0, calls.1);
    assert_eq!((first.unwrap(), second.unwrap()), ("answer", "answer"));
}

#[tokio::test(start_paused = true)]
async fn a_token_of_the_layer_stops_all_calls_and_a_token_of_a_call_that_call_alone() {
    let all = Cancel::new();
    let own = Cancel::new();
    let record = Record::default();
    let layer = CancelLayer::new().with_token(all.clone());
    let service = layer.layer(record.answers(secs(9)));
    let mut with = task::spawn(service.clone().oneshot(under(&own)));
    let mut also = task::spawn(service.clone().oneshot(under(&Cancel::new())));
    let mut without = task::spawn(service.oneshot(request()));
    assert_pending!(with.poll());
    assert_pending!(also.poll());
    assert_pending!(without.poll());
    // What the work finds in its context is below the shared node, not the shared node.
    record.context().cancel.cancel(Cause::Caller);
    assert!(!all.is_cancelled());
    assert_eq!(cancelled(assert_ready!(without.poll())), Cause::Caller);

    own.cancel(Cause::ClientGone);
    assert_eq!(cancelled(assert_ready!(with.poll())), Cause::ClientGone);
    assert!(!also.is_woken());

    all.cancel(Cause::Shutdown);
    assert!(also.is_woken());
    assert_eq!(cancelled(assert_ready!(also.poll())), Cause::Shutdown);
    assert_eq!(
        record.drops(),
        [Cause::Caller, Cause::ClientGone, Cause::Shutdown]
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancel_by_the_layers_token_reaches_the_work() {
    let all = Cancel::new();
    for request in [request(), under(&Cancel::new())] {
        let all = all.child();
        let record = Record::default();
        let layer = CancelLayer::new()
            .with_token(all.clone())
            .with_grace(secs(5));
        let mut call = task::spawn(layer.layer(record.tidies(secs(2))).oneshot(request));
        assert_pending!(call.poll());
        all.cancel(Cause::Shutdown);
        assert_pending!(call.poll());
        assert_eq!(record.context().cancel.cause(), Some(Cause::Shutdown));
        let (took, result) = timed(call).await;
        assert_eq!(took, secs(2));
        assert_eq!(cancelled(result), Cause::Shutdown);
        assert!(record.drops().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_grace_lets_the_work_clean_up_and_is_bounded() {
    for (tidy, time, drops) in [(2, 2, &[][..]), (60, 5, &[Cause::ClientGone][..])] {
        let record = Record::default();
        let cancel = Cancel::new();
        let layer = CancelLayer::new().with_grace(secs(5));
        let mut service = layer.layer(record.tidies(secs(tidy)));
        let mut call = pin!(service.call(under(&cancel)));
        assert_pending!(task::spawn(call.as_mut()).poll());
        advance(secs(1)).await;
        cancel.cancel(Cause::ClientGone);
        // Another cause, later, changes nothing.
        cancel.cancel(Cause::Shutdown);
        let (took, result) = timed(call.as_mut()).await;
        assert_eq!(took, secs(time));
        assert_eq!(cancelled(result), Cause::ClientGone);
        assert_eq!(record.drops(), drops);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_after_the_answer_does_nothing() {
    let cancel = Cancel::new();
    let record = Record::default();
    let service = CancelService::new(record.answers(secs(1)));
    assert_eq!(service.oneshot(under(&cancel)).await.unwrap(), "answer");
    cancel.cancel(Cause::Caller);
    assert!(record.drops().is_empty());
}

#[tokio::test(start_paused = true)]
async fn dropping_the_call_drops_the_work_and_cancels_no_node() {
    let cancel = Cancel::new();
    let record = Record::default();
    let layer = CancelLayer::new().with_token(Cancel::new());
    let mut call = task::spawn(layer.layer(record.answers(secs(9))).oneshot(under(&cancel)));
    assert_pending!(call.poll());
    drop(call);
    assert_eq!(record.drops(), [Cause::Dropped]);
    assert!(!cancel.is_cancelled());
    assert!(!record.context().cancel.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_token_passes_unchanged() {
    let record = Record::default();
    let layer = CancelLayer::new().with_grace(secs(1));
    let result = layer
        .layer(record.answers(secs(1)))
        .oneshot(request())
        .await;
    assert_eq!(result.unwrap(), "answer");
    assert!(!record.context().cancel.is_some());
}

#[test]
fn the_layer_and_the_service_fit_a_router() {
    fn shared<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>(_: &T) {}
    shared::<CancelLayer>();
    shared::<CancelService<Mocked>>();
    let mut service = CancelLayer::new().layer(Strict::after(secs(1)));
    assert_eq!(service.get_ref().delay, secs(1));
    service.get_mut().delay = secs(2);
    sent(&service.call(request()));
    assert_eq!(service.into_inner().delay, secs(2));
}
