use tokio::time::sleep;
use tokio_test::{assert_pending, assert_ready, task};
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_dspy::{
    CallContext, Cancel, Cause, Deadline, Scope, Session, SessionLayer, SessionService, Stage,
};

use super::support::*;

#[tokio::test(start_paused = true)]
async fn calls_share_the_time_left_of_the_session() {
    let record = Record::default();
    let session = Session::within(secs(10));
    let service = session.wrap(record.answers(secs(4)));
    for _ in 0..2 {
        assert_eq!(service.clone().oneshot(request()).await.unwrap(), "answer");
    }
    assert_eq!(session.remaining(), Some(secs(2)));
    assert!(!session.is_over());
    let (took, result) = timed(service.clone().oneshot(request())).await;
    assert_eq!(took, secs(2));
    assert_eq!(elapsed(result), (Scope::Deadline, Stage::Running, secs(2)));
    assert_eq!(record.drops(), [Cause::Deadline]);

    let result = service.oneshot(request()).await;
    assert_eq!(elapsed(result).1, Stage::BeforeStart);
    assert_eq!(record.calls(), 3);
    assert!(session.is_over());
}

#[tokio::test(start_paused = true)]
async fn a_calls_own_deadline_and_token_still_apply() {
    let record = Record::default();
    let session = Session::within(secs(10));
    let service = session.wrap(record.answers(secs(60)));
    let (took, result) = timed(service.clone().oneshot(due(secs(3)))).await;
    assert_eq!(took, secs(3));
    assert_eq!(elapsed(result).2, secs(3));

    let own = Cancel::new();
    let mut call = request();
    call.context.cancel = own.clone();
    let mut call = task::spawn(service.clone().oneshot(call));
    let mut other = task::spawn(service.oneshot(request()));
    assert_pending!(call.poll());
    assert_pending!(other.poll());
    own.cancel(Cause::ClientGone);
    assert_eq!(cancelled(assert_ready!(call.poll())), Cause::ClientGone);
    assert!(!session.is_over() && !other.is_woken());
    assert!(session.cancel(Cause::Caller));
    assert!(!session.cancel(Cause::Shutdown));
    assert_eq!(cancelled(assert_ready!(other.poll())), Cause::Caller);
}

#[tokio::test(start_paused = true)]
async fn cancelling_a_session_ends_its_calls_and_refuses_new_ones() {
    let record = Record::default();
    let token = CancellationToken::new();
    let session = Session::new().with_cancel(&token);
    assert_eq!((session.deadline(), session.remaining()), (None, None));
    let layered = ServiceBuilder::new()
        .layer(session.layer())
        .service(record.answers(secs(60)));
    let wrapped = session.wrap(record.answers(secs(60)));
    let one = tokio::spawn(layered.clone().oneshot(request()));
    let two = tokio::spawn(wrapped.oneshot(request()));
    sleep(secs(1)).await;
    token.cancel();
    assert_eq!(cancelled(one.await.unwrap()), Cause::Caller);
    assert_eq!(cancelled(two.await.unwrap()), Cause::Caller);
    assert_eq!(cancelled(layered.oneshot(request()).await), Cause::Caller);
    assert_eq!(record.calls(), 2);
    // Which way round it is cancelled matters.
    let token = CancellationToken::new();
    Session::default().with_cancel(&token).cancel(Cause::Caller);
    assert!(!token.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_readiness_counts_against_the_session() {
    let service = Session::within(secs(2)).wrap(NeverReady);
    let (took, result) = timed(service.oneshot(request())).await;
    assert_eq!(took, secs(2));
    assert_eq!(elapsed(result).1, Stage::Waiting);
}

#[tokio::test(start_paused = true)]
async fn a_context_of_the_session_is_a_child_of_it() {
    let session = Session::within(secs(10));
    let context = session.context();
    assert_eq!(context.deadline, session.deadline());
    context.cancel.cancel(Cause::Caller);
    assert!(!session.is_over());
    let context = session.context();
    session.clone().cancel(Cause::Shutdown);
    assert_eq!(context.cancel.cause(), Some(Cause::Shutdown));

    let mut outer = CallContext::new();
    outer.limit(Deadline::within(secs(5)));
    outer.cancel = Cancel::new();
    let inner = Session::of(&outer);
    assert_eq!(inner.remaining(), Some(secs(5)));
    inner.cancel(Cause::Caller);
    assert!(!outer.cancel.is_cancelled());
    let inner = Session::of(&outer);
    outer.cancel.cancel(Cause::ClientGone);
    assert!(inner.is_over());
}

#[test]
fn the_layer_and_the_service_fit_a_router() {
    fn shared<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>(_: &T) {}
    shared::<Session>();
    shared::<SessionLayer>();
    shared::<SessionService<Mocked>>();
    let session = Session::new();
    let mut service = SessionLayer::new(session).layer(Strict::after(secs(1)));
    assert_eq!(service.get_ref().delay, secs(1));
    service.get_mut().delay = secs(2);
    sent(&service.call(request()));
    assert_eq!(service.into_inner().delay, secs(2));
}
