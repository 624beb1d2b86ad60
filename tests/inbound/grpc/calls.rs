//! Inputs and outputs of calls over gRPC.

use std::time::Duration;

use serde_json::json;
use tonic::Code;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_dspy::{
    Deadline, Error, ErrorKind, InboundLayer, PredictRequest, Prediction, RetryLayer, Shutdown,
    Tenant, Usd,
    inbound::tonic::Programs,
    outbound::tonic::ProgramClient,
    proto::v1::{self, predict_client::PredictClient},
    testing::mock::{MockDspy, Reply},
};

use super::{LONG, Node, SOON, secs, why};

#[tokio::test]
async fn outputs_and_usage_come_back_and_the_deadline_goes_in() {
    let outputs = json!({"answer": "blue", "n": 3, "share": 0.25, "tags": ["a", null], "of": {}});
    let mut prediction = Prediction::new(outputs.as_object().cloned().unwrap());
    prediction.usage.prompt_tokens = 9;
    prediction.usage.completion_tokens = 2;
    prediction.usage.total_tokens = 11;
    prediction.cost.usd = Usd::new(0.0375e-6);
    prediction.cost.estimated_usd = Usd::new(0.25);
    prediction.cost.unknown_calls = 1;
    prediction.lm_calls_not_kept = 2;
    prediction.lm_calls_bypassed = 1;
    prediction.stale_age = Some(Duration::from_millis(1500));
    let mock = MockDspy::new([prediction.clone()]);
    let node = Node::of(&mock).await;
    let client = node.client().with_reserve(secs(4));

    let request = why().with_deadline(Deadline::within(SOON));
    let answer = client.oneshot(request).await.unwrap();
    assert_eq!(answer.outputs, prediction.outputs);
    assert_eq!(answer.usage, prediction.usage);
    assert_eq!(answer.cost, prediction.cost);
    assert_eq!(answer.stale_age, prediction.stale_age);
    assert_eq!(answer.lm_calls_not_kept, 2);
    assert_eq!(answer.lm_calls_bypassed, 1);

    let call = mock.calls().remove(0);
    assert_eq!(call.inputs, json!({"question": "why"}));
    let left = call.time_left.unwrap();
    assert!(left <= SOON - secs(4) && !left.is_zero(), "{left:?}");
}

#[tokio::test]
async fn a_call_without_a_deadline_reaches_the_program_without_one() {
    let mock = MockDspy::new([Reply::answer("blue")]);
    let node = Node::of(&mock).await;
    node.client().oneshot(why()).await.unwrap();
    assert_eq!(mock.calls()[0].time_left, None);
}

#[tokio::test]
async fn programs_are_found_by_name_and_a_single_program_without_a_name() {
    let (one, other) = (
        MockDspy::new([Reply::answer(1), Reply::answer(1)]),
        MockDspy::new([Reply::answer(2)]),
    );
    let both = Programs::new().program("one", one.clone());
    let both = both.program("other", other);
    let (node, only) = (Node::start(both).await, Node::of(&one).await);
    for (channel, name, answer) in [
        (node.channel(), "one", 1),
        (node.channel(), "other", 2),
        (only.channel(), "", 1),
    ] {
        let client = ProgramClient::new(name, channel);
        let answered = client.oneshot(why()).await.unwrap();
        assert_eq!(answered.outputs["answer"], answer);
    }
    for name in ["", "none"] {
        let mut raw = PredictClient::new(node.channel());
        let request = v1::PredictRequest {
            program: name.into(),
            ..Default::default()
        };
        let status = raw.predict(request).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        assert!(
            status.message().ends_with("there are: one, other"),
            "{status:?}"
        );
        let client = ProgramClient::new(name, node.channel());
        let Err(Error::InvalidInput(refused)) = client.oneshot(why()).await else {
            panic!("it was answered");
        };
        assert_eq!(refused.field(), Some("program"));
    }
}

#[tokio::test]
async fn only_trusted_callers_choose_the_lm_and_the_tenant() {
    let program = || {
        service_fn(|request: PredictRequest| async move {
            let tenant = request.tenant().map(ToString::to_string);
            let outputs = [("tenant", json!(tenant)), ("lm", json!(request.lm()))];
            let outputs = outputs.map(|(name, value)| (name.to_owned(), value));
            Ok::<_, Error>(Prediction::new(outputs.into_iter().collect()))
        })
    };
    let strict = Node::start(Programs::new().program("qa", program())).await;
    let asked = [
        (why().with_lm("smart"), "lm"),
        (why().with_tenant(Tenant::new("acme")), "tenant"),
    ];
    for (request, field) in asked {
        let Err(Error::InvalidInput(refused)) = strict.client().oneshot(request).await else {
            panic!("it was answered");
        };
        assert_eq!(refused.field(), Some(field));
    }

    let trusting = Programs::new().program("qa", program());
    let trusting = Node::start(trusting.accept_lm().accept_tenant()).await;
    let request = why().with_lm("smart").with_tenant(Tenant::new("acme"));
    let answer = trusting.client().oneshot(request.clone()).await.unwrap();
    assert_eq!(answer.outputs["lm"], "smart");
    assert_eq!(answer.outputs["tenant"], "acme");

    // Who asks is known by a layer of the server's: the client's word counts for nothing.
    let known = tower::util::MapRequestLayer::new(|mut request: http::Request<_>| {
        request.extensions_mut().insert(Tenant::new("known"));
        request
    });
    let programs = Programs::new().program("qa", program()).accept_lm();
    let app = tonic::service::Routes::new(programs.into_service())
        .into_axum_router()
        .layer(known)
        .layer(InboundLayer::new());
    let node = Node::serve(app, Shutdown::new(), LONG).await;
    let answer = node.client().oneshot(request).await.unwrap();
    assert_eq!(answer.outputs["tenant"], "known");
}

/// The numbers of `google.protobuf.Struct` are floats.
#[tokio::test]
async fn an_integer_that_json_cannot_carry_exactly_is_an_error_on_either_side() {
    let large = 9_007_199_254_740_993_u64;
    let mock = MockDspy::new([Reply::answer(json!({"ids": [large]}))]);
    let node = Node::of(&mock).await;

    let inputs = json!({"question": {"id": large}});
    let refused = node.client().oneshot(PredictRequest::new(inputs)).await;
    let Err(Error::InvalidInput(refused)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refused.field(), Some("question"));
    assert!(
        refused
            .to_string()
            .contains("`question.id` is an integer beyond 2^53")
    );
    assert!(mock.calls().is_empty());

    let failed = node.client().oneshot(why()).await.unwrap_err();
    assert!(
        failed
            .to_string()
            .contains("the output `ids[0]` is an integer"),
        "{failed}"
    );
    assert!(!failed.to_string().contains(&large.to_string()));
    assert!(matches!(failed, Error::Program(_)));
}

#[tokio::test]
async fn inputs_other_than_an_object_are_not_sent() {
    let mock = MockDspy::new([Reply::answer("blue")]);
    let node = Node::of(&mock).await;
    let refused = node.client().oneshot(PredictRequest::new(json!([1]))).await;
    assert!(
        matches!(refused, Err(Error::InvalidInput(_))),
        "{refused:?}"
    );
    assert!(mock.calls().is_empty());
}

/// This crate's layers go around the client as around a program.
#[tokio::test]
async fn a_stack_around_the_client_retries_the_errors_that_the_server_marks_retryable() {
    let mock = MockDspy::new([
        Reply::fail(ErrorKind::LmUnavailable),
        Reply::fail(ErrorKind::LmUnavailable),
        Reply::answer("blue"),
    ]);
    let node = Node::of(&mock).await;
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new(2))
        .service(node.client());
    let answer = stack.oneshot(why()).await.unwrap();
    assert_eq!(answer.outputs["answer"], "blue");
    assert_eq!(mock.calls().len(), 3);

    mock.push(Reply::fail(ErrorKind::Program));
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new(2))
        .service(node.client());
    assert!(stack.oneshot(why()).await.is_err());
    assert_eq!(mock.calls().len(), 4);
}
