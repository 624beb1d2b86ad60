//! Errors over gRPC.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tonic::{Code, Request, service::Routes};
use tonic_types::StatusExt;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_dspy::{
    Budget, BudgetExceeded, BudgetLimits, BudgetSpent, CallId, Cancelled, Carrier, Cause, Classify,
    Deadline, DeadlineLayer, Elapsed, Error, ErrorKind, InboundLayer, InvalidInput, LmError, Lost,
    Overloaded, PredictRequest, ProgramError, RetryLayer, Scope, Serve, Shutdown, Spent, Stage,
    TimeoutLayer, TrackLayer, Tracker, Usd,
    inbound::tonic::Programs,
    outbound::tonic::never_began,
    proto::v1::{self, predict_client::PredictClient},
    testing::{
        error_of,
        mock::{MockDspy, Reply},
    },
};

use super::{LONG, Node, SOON, connected, secs, seen, why};

/// What the client of a program that fails so gets.
async fn sent(error: impl Into<Error>) -> Error {
    let mock = MockDspy::new([Reply::error(error)]);
    let node = Node::of(&mock).await;
    node.client().oneshot(why()).await.unwrap_err()
}

#[tokio::test]
async fn each_error_kind_arrives_as_itself_or_as_its_remote_counterpart() {
    for (kind, there) in [
        (ErrorKind::Elapsed, ErrorKind::Elapsed),
        // The server's own, of which the client had none.
        (ErrorKind::Deadline, ErrorKind::Elapsed),
        (ErrorKind::Cancelled, ErrorKind::Cancelled),
        (ErrorKind::ShuttingDown, ErrorKind::Lost),
        (ErrorKind::Overloaded, ErrorKind::Overloaded),
        (ErrorKind::InvalidInput, ErrorKind::InvalidInput),
        (ErrorKind::Program, ErrorKind::Program),
        (ErrorKind::LmUnavailable, ErrorKind::LmUnavailable),
        (ErrorKind::LmRejected, ErrorKind::LmRejected),
        (ErrorKind::BudgetExceeded, ErrorKind::BudgetExceeded),
        (ErrorKind::Lost, ErrorKind::Lost),
    ] {
        let error = sent(error_of(kind).unwrap()).await;
        assert_eq!(error.kind(), there, "{kind:?}: {error}");
    }
}

#[tokio::test]
async fn the_message_of_an_error_arrives_with_it() {
    let limit = Duration::from_millis(250);
    for (scope, stage) in [
        (Scope::Attempt, Stage::Running),
        (Scope::Reserve, Stage::Waiting),
        (Scope::Share, Stage::BeforeStart),
        (Scope::FirstContent, Stage::Running),
        (Scope::Idle, Stage::Running),
        (Scope::Total, Stage::Running),
    ] {
        let elapsed = Elapsed::new(scope, stage, limit);
        let Error::Elapsed(told) = sent(elapsed.clone()).await else {
            panic!("another error");
        };
        assert_eq!(told, elapsed);
    }
    for cause in [Cause::Caller, Cause::ClientGone, Cause::Superseded] {
        let cancelled = Cancelled::new(cause).with_stage(Stage::BeforeStart);
        let Error::Cancelled(told) = sent(cancelled).await else {
            panic!("another error");
        };
        assert_eq!((told.cause(), told.stage()), (cause, Stage::BeforeStart));
    }
    let wait = Some(Duration::from_millis(2_500));
    let busy = sent(Overloaded::new("qa", 1, 0).with_retry_after(wait)).await;
    assert_eq!(busy.retry_after(), wait);
    assert!(!busy.may_have_started());
    let input = InvalidInput::new("qa", Some("question"), "`question` is missing", "a string");
    let Error::InvalidInput(told) = sent(input.clone()).await else {
        panic!("another error");
    };
    assert_eq!(told, input);
    let lm = LmError::new("LMRateLimitError", "slow down", Some(429), wait);
    let Error::Lm(told) = sent(lm).await else {
        panic!("another error");
    };
    assert_eq!((told.status(), told.retry_after()), (Some(429), wait));
    for stage in [Stage::BeforeStart, Stage::Running] {
        let lost = sent(Lost::new("it crashed").with_stage(stage)).await;
        assert_eq!(lost.may_have_started(), stage == Stage::Running);
    }
    let refused = sent(Cancelled::new(Cause::Shutdown).with_stage(Stage::BeforeStart)).await;
    assert_eq!(never_began(&refused), ErrorKind::Lost);
    let ended = sent(Cancelled::new(Cause::Shutdown)).await;
    assert_eq!(never_began(&ended), ErrorKind::Other);
}

#[tokio::test]
async fn spent_tokens_arrive_and_the_programs_message_does_not() {
    let mut spent = Spent::default();
    spent.usage.total_tokens = 21;
    spent.usage.prompt_tokens = 20;
    spent.cost.usd = Usd::new(0.0375e-6);
    spent.cost.estimated_usd = Usd::new(0.25);
    spent.cost.unknown_calls = 1;
    spent.lm_calls_not_kept = 3;
    spent.steps = 2;
    let spent = Arc::new(spent);
    let raised = ProgramError::new("ValueError", "the prompt", "the prompt");
    let elapsed = Elapsed::new(Scope::Attempt, Stage::Running, secs(1));
    let errors: [Error; 2] = [
        raised.with_spent(spent.clone()).into(),
        elapsed.with_spent(spent.clone()).into(),
    ];
    for error in errors {
        let told = sent(error).await;
        assert_eq!(told.spent(), Some(&*spent), "{told}");
        assert!(!format!("{told} {told:?}").contains("the prompt"), "{told}");
    }
}

/// The budget may be one that all clients of the server share.
#[tokio::test]
async fn of_a_used_up_budget_its_limits_and_its_spending_stay_on_the_server() {
    let limits = BudgetLimits::new().with_name("acme").with_tokens(98_765);
    let limits = limits.with_usd(Usd::new(0.4321)).with_window(secs(86_399));
    let wait = Some(Duration::from_millis(2_500));
    let mut spent = Spent::default();
    spent.usage.total_tokens = 21;
    let spent = Arc::new(spent);
    let exceeded = BudgetExceeded::new(&Budget::new(limits)).with_spent(spent.clone());
    let waits = exceeded.clone().with_retry_after(wait);
    for exceeded in [waits, exceeded.into_unpriced()] {
        let Error::BudgetExceeded(told) = sent(exceeded.clone()).await else {
            panic!("another error");
        };
        assert_eq!(told.retry_after(), exceeded.retry_after());
        assert_eq!(told.is_unpriced(), exceeded.is_unpriced());
        assert_eq!(told.spent(), Some(&*spent));
        assert_eq!(told.limits(), &BudgetLimits::new());
        assert_eq!(told.budget_spent(), &BudgetSpent::default());

        let mock = MockDspy::new([Reply::error(exceeded)]);
        let node = Node::of(&mock).await;
        let mut raw = PredictClient::new(node.channel());
        let answer = raw.predict(v1::PredictRequest::default()).await;
        let status = answer.unwrap_err();
        let details = status.get_error_details();
        let told = format!("{status:?} {details:?}");
        for secret in ["acme", "98765", "0.4321", "86399"] {
            assert!(!told.contains(secret), "{told}");
        }
    }
}

/// For clients that know nothing of this crate.
#[tokio::test]
async fn the_details_are_those_of_google_rpc() {
    let wait = Some(secs(7));
    let mock = MockDspy::new([
        Reply::error(InvalidInput::new(
            "qa",
            Some("n"),
            "`n` is missing",
            "an integer",
        )),
        Reply::error(LmError::new("LMRateLimitError", "", Some(429), wait)),
    ]);
    let node = Node::of(&mock).await;
    let mut raw = PredictClient::new(node.channel());
    let status = raw
        .predict(v1::PredictRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let details = status.get_error_details();
    let violation = &details.bad_request().unwrap().field_violations[0];
    assert_eq!(violation.field, "n");
    assert_eq!(
        violation.description,
        "`n` is missing; `qa` expects an integer"
    );
    assert_eq!(status.kind(), ErrorKind::InvalidInput);

    let status = raw
        .predict(v1::PredictRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(
        (&*info.reason, &*info.domain),
        ("LM_UNAVAILABLE", "tower-dspy")
    );
    assert_eq!(details.retry_info().unwrap().retry_delay, wait);
    // And for layers around a plain tonic client.
    assert_eq!(status.kind(), ErrorKind::LmUnavailable);
    assert_eq!(status.retry_after(), wait);
}

/// Raised by a layer around tonic's routes, there is only a head.
#[tokio::test]
async fn answers_of_the_serve_layer_have_the_details_too() {
    let mock = MockDspy::new([Reply::hang()]);
    let programs = Programs::new().program("qa", mock.clone());
    let limit = TimeoutLayer::new(Duration::from_millis(100));
    let app = Routes::new(programs.into_service())
        .into_axum_router()
        .layer(Serve::new(limit))
        .layer(InboundLayer::new());
    let node = Node::serve(app.with_state(()), Shutdown::new(), LONG).await;
    let Err(Error::Elapsed(elapsed)) = node.client().oneshot(why()).await else {
        panic!("another error");
    };
    assert_eq!(elapsed.scope(), Scope::Attempt);
    assert_eq!(elapsed.limit(), Duration::from_millis(100));
    seen(&mock, |calls| calls.len() == 1 && !calls[0].in_flight).await;
}

/// A status travels in headers, which have room for some kilobytes.
#[tokio::test]
async fn a_status_arrives_with_a_message_of_any_length() {
    let long = "größe ".repeat(10_000);
    let input = InvalidInput::new("qa", Some("question"), long.clone(), long);
    let Error::InvalidInput(told) = sent(input).await else {
        panic!("another error");
    };
    assert_eq!(told.field(), Some("question"));
    assert!(told.problem().ends_with('…') && told.problem().len() <= 1024);
}

#[tokio::test]
async fn a_limit_of_the_server_is_an_attempt_timeout_to_its_client() {
    let mock = MockDspy::new([Reply::hang(), Reply::answer("blue")]);
    let limited = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Duration::from_millis(200)))
        .service(mock.clone());
    let node = Node::start(Programs::new().program("qa", limited)).await;
    let stack = ServiceBuilder::new()
        .layer(DeadlineLayer::new(SOON))
        .layer(RetryLayer::new(1))
        .service(node.client());
    let answer = stack.oneshot(why()).await.unwrap();
    assert_eq!(answer.outputs["answer"], "blue");
    assert_eq!(mock.stopped(), [Cause::Deadline]);
}

/// The call of gRPC's interoperability tests that is named `timeout_on_sleeping_server`: the server
/// ends the call by what it was told, and its answer still arrives.
#[tokio::test]
async fn the_clients_deadline_ends_a_sleeping_program() {
    let mock = MockDspy::new([Reply::answer("blue"), Reply::hang()]);
    let node = Node::of(&mock).await;
    let client = connected(&node).await.with_reserve(LONG - secs(3));
    let request = why().with_deadline(Deadline::within(LONG));
    let Err(Error::Elapsed(elapsed)) = client.oneshot(request).await else {
        panic!("another error");
    };
    assert_eq!(elapsed.scope(), Scope::Deadline);
    assert_eq!(mock.stopped(), [Cause::Deadline]);
}

/// The same without a reserve: whoever is first, it is the deadline.
#[tokio::test]
async fn a_passed_deadline_is_the_same_error_whether_client_or_server_sees_it_first() {
    let mock = MockDspy::new([Reply::answer("blue"), Reply::hang()]);
    let node = Node::of(&mock).await;
    let stack = ServiceBuilder::new()
        .layer(DeadlineLayer::new(secs(3)))
        .service(connected(&node).await);
    let error = stack.oneshot(why()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline, "{error}");
    seen(&mock, |calls| calls.len() == 2 && !calls[1].in_flight).await;
}

/// A server that knows nothing of this crate is read by its code.
#[tokio::test]
async fn a_foreign_status_is_classified_by_its_code() {
    for (code, kind) in [
        (Code::Cancelled, ErrorKind::Lost),
        (Code::Unknown, ErrorKind::Program),
        (Code::InvalidArgument, ErrorKind::InvalidInput),
        (Code::DeadlineExceeded, ErrorKind::Elapsed),
        (Code::PermissionDenied, ErrorKind::InvalidInput),
        (Code::ResourceExhausted, ErrorKind::Overloaded),
        (Code::Unimplemented, ErrorKind::InvalidInput),
        (Code::Internal, ErrorKind::Program),
        (Code::Unavailable, ErrorKind::Lost),
        (Code::DataLoss, ErrorKind::Program),
    ] {
        let says = service_fn(move |_: http::Request<tonic::body::Body>| async move {
            let status = tonic::Status::new(code, "so it says");
            Ok::<_, tower::BoxError>(status.into_http::<tonic::body::Body>())
        });
        let client = tower_dspy::outbound::tonic::ProgramClient::new("qa", says);
        let error = client.oneshot(why()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{code:?}: {error}");
        let refused = matches!(kind, ErrorKind::Overloaded | ErrorKind::InvalidInput);
        assert_eq!(error.may_have_started(), !refused, "{code:?}: {error}");
    }
}

#[tokio::test]
async fn unreadable_requests_are_refused_before_a_program_runs() {
    let mock = MockDspy::new([Reply::answer("blue")]);
    let node = Node::of(&mock).await;
    let value = prost_types::Value {
        kind: Some(prost_types::value::Kind::NumberValue(f64::NAN)),
    };
    let inputs = prost_types::Struct {
        fields: [("n".to_owned(), value)].into(),
    };
    let mut raw = PredictClient::new(node.channel());
    let request = v1::PredictRequest {
        inputs: Some(inputs),
        ..Default::default()
    };
    let status = raw.predict(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("`n` is NaN"), "{status:?}");

    let mut hurried = Request::new(v1::PredictRequest::default());
    let timeout = "soon".parse().unwrap();
    hurried.metadata_mut().insert("grpc-timeout", timeout);
    let status = raw.predict(hurried).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(mock.calls().is_empty());

    let empty = PredictRequest::new(json!({}));
    assert!(node.client().oneshot(empty).await.is_ok());
}

#[tokio::test]
async fn the_error_of_a_client_has_the_ids_of_both_sides() {
    let tracker = Tracker::new().with_history(2);
    let mock = MockDspy::from_fn(|_| Reply::fail(ErrorKind::Program));
    let tracked = ServiceBuilder::new()
        .layer(TrackLayer::new(tracker.clone()))
        .service(mock);
    let node = Node::start(Programs::new().program("qa", tracked)).await;
    let mut request = why();
    let here = request.context_mut().id();
    let error = node.client().oneshot(request).await.unwrap_err();
    let there = tracker.history()[0].id;
    assert_eq!(error.call_id(), Some(here));
    assert_eq!(error.remote_call_id(), Some(there));
    assert_ne!(here, there);
    assert!(error.spent().is_none());

    let mut request = why();
    let here = request.context_mut().id();
    let stream = node.client().streaming().oneshot(request).await;
    let error = stream.map(drop).unwrap_err();
    let there = tracker.history()[1].id;
    assert_eq!(error.call_id(), Some(here));
    assert_eq!(error.remote_call_id(), Some(there));
    // Through the layers of the caller, which add costs, the ids stay.
    let retried = ServiceBuilder::new()
        .layer(TrackLayer::new(Tracker::new()))
        .layer(RetryLayer::new(1).on_kinds([ErrorKind::Program]))
        .service(node.client());
    let error = retried.oneshot(why()).await.unwrap_err();
    assert_eq!(error.remote_call_id(), Some(tracker.history()[1].id));
    assert!(error.call_id().is_some());
}

/// For clients that know nothing of this crate.
#[tokio::test]
async fn each_response_has_the_id_of_its_call_in_its_metadata() {
    let mock = MockDspy::new([
        Reply::answer(json!({"answer": "x"})),
        Reply::fail(ErrorKind::Lost),
        Reply::answer(json!({"answer": "x"})),
    ]);
    let node = Node::of(&mock).await;
    let mut client = PredictClient::new(node.channel());
    let message = || v1::PredictRequest {
        program: "qa".to_owned(),
        ..Default::default()
    };
    let id = |metadata: &tonic::metadata::MetadataMap| {
        let id = metadata.get("x-call-id").expect("a response has an id");
        id.to_str().unwrap().parse::<CallId>().unwrap()
    };
    let answered = client.predict(message()).await.unwrap();
    let answered = id(answered.metadata());
    let status = client.predict(message()).await.unwrap_err();
    let failed = id(status.metadata());
    let details = status.get_details_error_info().unwrap();
    assert_eq!(details.metadata["call_id"], failed.to_string());
    let streamed = client.predict_stream(message()).await.unwrap();
    assert!(answered < failed && failed < id(streamed.metadata()));
    let unknown = client.predict(v1::PredictRequest {
        program: "nobody".to_owned(),
        ..Default::default()
    });
    let _ = id(unknown.await.unwrap_err().metadata());
}
