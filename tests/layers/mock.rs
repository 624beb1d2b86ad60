//! The mock service that users test their stacks with, held to the behaviour of the real service.

use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_test::{assert_pending, assert_ready_err, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_dspy::{
    Cancel, CancelLayer, Cause, Classify, Deadline, DeadlineLayer, Error, ErrorKind,
    PredictRequest, Scope, Stage, Tenant, TimeoutLayer, drop_scope,
    testing::{
        error_of,
        mock::{CallEnd, MockDspy, Reply},
    },
};

use super::{
    script::{answer, request},
    support::{millis, secs, timed},
};

#[tokio::test(start_paused = true)]
async fn the_mock_records_its_requests() {
    let mock = MockDspy::new([Reply::answer("first").after(secs(1)), Reply::hang()]);
    let start = Instant::now();
    let request = request().with_deadline(Deadline::within(secs(3)));
    let (took, first) = timed(mock.clone().oneshot(request.clone())).await;
    let first = first.unwrap();
    assert_eq!((took, first.elapsed), (secs(1), secs(1)));
    assert_eq!(first.outputs["answer"], "first");
    assert_eq!(mock.replies_left(), 1);
    let (took, second) = timed(mock.clone().oneshot(request)).await;
    assert_eq!(took, secs(2));
    // Without a layer around it, it keeps the deadline itself.
    let Error::Elapsed(error) = second.unwrap_err() else {
        panic!("not for the time");
    };
    assert_eq!(
        (error.scope(), error.stage(), error.limit()),
        (Scope::Deadline, Stage::Running, secs(2))
    );
    let calls = mock.calls();
    assert_eq!(calls[0].inputs, json!({"question": "Why is the sky blue?"}));
    assert_ne!(calls[0].id, calls[1].id);
    assert_eq!(calls[0].time_left, Some(secs(3)));
    assert_eq!(calls[1].time_left, Some(secs(2)));
    assert_eq!(calls[1].at, start + secs(1));
    assert_eq!(calls[0].end, Some(CallEnd::Answered));
    assert_eq!(calls[1].end, Some(CallEnd::Stopped(Cause::Deadline)));
    assert_eq!(mock.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_mock_fails_with_every_error_kind() {
    for kind in [
        ErrorKind::Elapsed,
        ErrorKind::Deadline,
        ErrorKind::Cancelled,
        ErrorKind::ShuttingDown,
        ErrorKind::Overloaded,
        ErrorKind::InvalidInput,
        ErrorKind::Program,
        ErrorKind::LmUnavailable,
        ErrorKind::LmRejected,
        ErrorKind::BudgetExceeded,
        ErrorKind::Lost,
    ] {
        let mock = MockDspy::new([Reply::fail(kind).after(secs(1))]);
        let error = mock.clone().oneshot(request()).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(mock.calls()[0].end, Some(CallEnd::Failed(kind)));
        assert_eq!(error_of(kind).unwrap().to_string(), error.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_consumes_no_reply() {
    let mock = MockDspy::new([answer("unused")]).inputs(["question"]);
    let cancel = Cancel::new();
    cancel.cancel(Cause::ClientGone);
    let past = Deadline::within(secs(0));
    let inputs = |inputs| tower_dspy::PredictRequest::new(inputs);
    for (request, kind) in [
        (request().with_deadline(past), ErrorKind::Deadline),
        (request().with_cancel(cancel), ErrorKind::Cancelled),
        (inputs(json!("Why?")), ErrorKind::InvalidInput),
        (inputs(json!({})), ErrorKind::InvalidInput),
        (
            inputs(json!({"question": "Why?", "model": "x"})),
            ErrorKind::InvalidInput,
        ),
    ] {
        let error = mock.clone().oneshot(request).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        let last = mock.calls().pop().unwrap();
        assert_eq!(
            (last.end, last.in_flight),
            (Some(CallEnd::Refused(kind)), false)
        );
    }
    assert_eq!(mock.replies_left(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_drop_is_recorded_with_its_cause() {
    let mock = MockDspy::from_fn(|_| Reply::hang());
    let mut calls = [(); 3].map(|()| task::spawn(mock.clone().oneshot(request())));
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    assert_eq!(mock.in_flight(), 3);
    let [first, second, third] = calls;
    drop(first);
    drop_scope::with(Cause::Superseded, || drop(second));
    assert_eq!(mock.in_flight(), 1);
    assert_eq!(mock.calls()[2].end, None);
    drop(third);
    assert_eq!(
        mock.stopped(),
        [Cause::Dropped, Cause::Superseded, Cause::Dropped]
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_a_call_with_its_cause() {
    for layered in [false, true] {
        let mock = MockDspy::new([Reply::hang()]);
        let cancel = Cancel::new();
        let stack = ServiceBuilder::new()
            .option_layer(layered.then(CancelLayer::new))
            .service(mock.clone());
        let call = stack.oneshot(request().with_cancel(cancel.clone()));
        let (result, _) = tokio::join!(call, async {
            sleep(secs(1)).await;
            cancel.cancel(Cause::ClientGone)
        });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(mock.stopped(), [Cause::ClientGone]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_grace_waits_for_lingering_work_and_no_longer() {
    for (lingers, took) in [(secs(2), secs(3)), (secs(60), secs(6))] {
        let mock = MockDspy::new([Reply::hang().lingers(lingers)]);
        let stack = ServiceBuilder::new()
            .layer(TimeoutLayer::new(secs(1)).with_grace(secs(5)))
            .service(mock.clone());
        let (measured, result) = timed(stack.oneshot(request())).await;
        assert_eq!(measured, took);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Elapsed);
        assert_eq!(mock.stopped(), [Cause::Elapsed]);
        // What the grace could not wait for is still in flight, and then is not.
        assert_eq!(mock.in_flight(), usize::from(lingers > secs(5)));
        mock.wait_for(|calls| !calls[0].in_flight).await;
        assert_eq!(mock.calls()[0].at.elapsed(), secs(1) + lingers);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_at_the_instant_of_the_deadline_wins() {
    for (delay, answers) in [(1_999, true), (2_000, true), (2_001, false)] {
        let mock = MockDspy::new([Reply::answer("in time").after(millis(delay))]);
        let request = request().with_deadline(Deadline::within(secs(2)));
        assert_eq!(mock.oneshot(request).await.is_ok(), answers);
    }
}

#[tokio::test(start_paused = true)]
async fn lingering_work_holds_its_permit() {
    let mock = MockDspy::new([
        Reply::hang().lingers(secs(9)),
        Reply::answer("after the first had ended"),
    ])
    .max_in_flight(1);
    let stack = ServiceBuilder::new()
        .layer(DeadlineLayer::from_context())
        .service(mock.clone());
    let hasty = request().with_deadline(Deadline::within(secs(1)));
    stack.clone().oneshot(hasty).await.unwrap_err();
    assert_eq!(mock.in_flight(), 1);
    let (took, second) = timed(stack.oneshot(request())).await;
    assert_eq!((took, second.is_ok()), (secs(9), true));
}

#[tokio::test(start_paused = true)]
async fn a_full_mock_is_pending_and_overloaded_past_its_queue() {
    let mock = MockDspy::from_fn(|_| Reply::answer("soon"))
        .max_in_flight(3)
        .max_waiting(1);
    let busy = mock.busy();
    tokio::spawn(async move {
        tokio::time::sleep(secs(5)).await;
        drop(busy);
    });
    let mut waits = task::spawn(mock.clone().oneshot(request()));
    assert_pending!(waits.poll());
    let mut refused = task::spawn(mock.clone().oneshot(request()));
    assert_eq!(
        assert_ready_err!(refused.poll()).kind(),
        ErrorKind::Overloaded
    );
    assert_eq!(mock.calls().len(), 1);
    let (took, waited) = timed(waits).await;
    assert_eq!((took, waited.is_ok()), (secs(5), true));
}

#[tokio::test(start_paused = true)]
async fn a_call_past_the_end_of_the_script_panics_with_a_message() {
    let mut mock = MockDspy::new([Reply::answer("one").after(secs(1))]);
    mock.ready().await.unwrap().call(request()).await.unwrap();
    let call = tokio::spawn(TimeoutLayer::new(secs(1)).layer(mock).oneshot(request()));
    let panic = call.await.unwrap_err().into_panic();
    let message = panic.downcast_ref::<String>().unwrap();
    for part in ["this is call 2", "sky blue", "there were 1 replies"] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_can_depend_on_the_request() {
    let mock = MockDspy::from_fn(|call| match call.inputs["question"].as_str() {
        Some("Why is the sky blue?") => Reply::answer("Rayleigh"),
        _ => Reply::fail(ErrorKind::Program),
    });
    mock.push(Reply::fail(ErrorKind::Lost));
    let ask = || mock.clone().oneshot(request());
    assert_eq!(ask().await.unwrap_err().kind(), ErrorKind::Lost);
    assert_eq!(ask().await.unwrap().outputs["answer"], "Rayleigh");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_without_a_layer_does_not_wait_for_lingering_work() {
    let mock = MockDspy::new([Reply::hang().lingers(secs(60))]);
    let cancel = Cancel::new();
    let call = mock.clone().oneshot(request().with_cancel(cancel.clone()));
    let (took, (result, _)) = timed(async {
        tokio::join!(call, async {
            sleep(secs(1)).await;
            cancel.cancel(Cause::ClientGone)
        })
    })
    .await;
    assert_eq!(took, secs(1));
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(mock.in_flight(), 1);
    mock.wait_for(|calls| !calls[0].in_flight).await;
    assert_eq!(mock.calls()[0].at.elapsed(), secs(61));
}

#[tokio::test(start_paused = true)]
async fn a_request_may_name_only_the_lms_of_the_mock() {
    let mock = MockDspy::new([answer("a"), answer("b")]);
    let named = mock.clone().lms(["smart", "cheap"]);
    let request = |lm: &str| PredictRequest::new(json!({})).with_lm(lm);
    for (mock, lm, said) in [
        (&mock, "smart", "it was loaded without `.lms(..)`"),
        (&named, "dear", "one of the LMs `smart`, `cheap`"),
    ] {
        let error = mock.clone().oneshot(request(lm)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let message = error.to_string();
        assert!(
            message.contains(&format!("there is no LM `{lm}`")),
            "{message}"
        );
        assert!(message.contains(said), "{message}");
    }
    assert_eq!(mock.replies_left(), 2);
    named.clone().oneshot(request("cheap")).await.unwrap();
    named.oneshot(PredictRequest::new(json!({}))).await.unwrap();
}

/// As with the real one: the place of a tenant is taken until the work has ended.
#[tokio::test(start_paused = true)]
async fn a_tenant_has_no_more_calls_in_flight_than_it_may() {
    let replies = [
        Reply::hang().lingers(secs(60)),
        answer("b").into(),
        answer("none").into(),
        answer("a").into(),
    ];
    let mock = MockDspy::new(replies).max_in_flight_per_tenant(1);
    let of = |name: &'static str| request().with_tenant(Tenant::new(name));
    let mut first = task::spawn(mock.clone().oneshot(of("a")));
    assert_pending!(first.poll());
    let error = mock.clone().oneshot(of("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    let said = error.to_string();
    assert!(said.contains("1 call of this tenant"), "{said}");
    assert!(said.contains("`max_in_flight_per_tenant`"), "{said}");
    // Others have places of their own, as have calls without a tenant.
    mock.clone().oneshot(of("b")).await.unwrap();
    mock.clone().oneshot(request()).await.unwrap();
    drop(first);
    let error = mock.clone().oneshot(of("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    mock.wait_for(|calls| !calls[0].in_flight).await;
    mock.oneshot(of("a")).await.unwrap();
}
