//! Calls that end early, and servers that end.

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    CancelLayer, Cause, Classify, Error, ErrorKind, Stage,
    inbound::tonic::Programs,
    outbound::tonic::{ProgramClient, never_began},
    testing::mock::{MockDspy, Reply},
};

use super::{LONG, Node, seen, why};

/// The call of gRPC's interoperability tests that is named `cancel_after_begin`.
#[tokio::test]
async fn dropping_the_future_stops_the_program() {
    let mock = MockDspy::new([Reply::hang()]);
    let node = Node::of(&mock).await;
    let asked = tokio::spawn(node.client().oneshot(why()));
    seen(&mock, |calls| calls.len() == 1).await;
    asked.abort();
    seen(&mock, |calls| !calls[0].in_flight).await;
    assert_eq!(mock.stopped(), [Cause::ClientGone]);
}

#[tokio::test]
async fn cancelling_the_token_stops_the_program_with_and_without_a_layer() {
    let mock = MockDspy::from_fn(|_| Reply::hang());
    let node = Node::of(&mock).await;
    let graceful = ServiceBuilder::new()
        .layer(CancelLayer::new().with_grace(LONG))
        .service(node.client());
    let token = CancellationToken::new();
    let request = why().with_cancel(token.clone());
    let bare = tokio::spawn(node.client().oneshot(request.clone()));
    let graceful = tokio::spawn(graceful.oneshot(request));
    seen(&mock, |calls| calls.len() == 2).await;
    token.cancel();
    for asked in [bare, graceful] {
        let error = asked.await.unwrap().unwrap_err();
        assert_eq!(error.cancel_cause(), Some(Cause::Caller), "{error}");
    }
    seen(&mock, |calls| calls.iter().all(|call| !call.in_flight)).await;
    assert_eq!(mock.stopped(), [Cause::ClientGone, Cause::ClientGone]);
    let refused = node.client().oneshot(why().with_cancel(token)).await;
    assert!(!refused.unwrap_err().may_have_started());
    assert_eq!(mock.calls().len(), 2);
}

#[tokio::test]
async fn a_missing_server_means_the_call_never_began() {
    let mock = MockDspy::new([Reply::hang()]);
    let mut node = Node::of(&mock).await;
    let (client, channel) = (node.client(), node.channel());
    node.stop();
    node.report().await;
    let error = client.oneshot(why()).await.unwrap_err();
    assert_eq!(never_began(&error), ErrorKind::Lost, "{error}");
    let Error::Lost(lost) = error else {
        panic!("another error");
    };
    assert_eq!(lost.stage(), Stage::BeforeStart);
    assert!(lost.to_string().starts_with("the server is gone"), "{lost}");

    // As seen by a plain client.
    let mut raw = tower_dspy::proto::v1::predict_client::PredictClient::new(channel);
    let status = raw.predict(tower_dspy::proto::v1::PredictRequest::default());
    assert_eq!(status.await.unwrap_err().kind(), ErrorKind::Lost);
}

/// A connection that breaks leaves open what became of its calls.
#[tokio::test]
async fn a_dying_server_means_the_call_may_have_begun() {
    let mock = MockDspy::new([Reply::hang()]);
    let node = Node::of(&mock).await;
    let asked = tokio::spawn(node.client().oneshot(why()));
    seen(&mock, |calls| calls.len() == 1).await;
    node.served.abort();
    let error = asked.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
    assert_eq!(never_began(&error), ErrorKind::Other);
}

/// What a server resets without having looked at it never began; any other reset tells nothing.
#[tokio::test]
async fn a_refused_stream_means_the_call_never_began() {
    for (reason, kind) in [
        (h2::Reason::REFUSED_STREAM, ErrorKind::Lost),
        (h2::Reason::CANCEL, ErrorKind::Other),
        (h2::Reason::INTERNAL_ERROR, ErrorKind::Other),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{}", listener.local_addr().unwrap()));
        let client = ProgramClient::new("qa", endpoint.unwrap().connect_lazy());
        let server = tokio::spawn(async move {
            let (io, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(io).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                respond.send_reset(reason);
            }
        });
        let error = client.oneshot(why()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost, "{reason:?}: {error}");
        assert_eq!(never_began(&error), kind, "{reason:?}: {error}");
        server.abort();
    }
}

#[tokio::test]
async fn a_draining_server_answers_its_calls_and_refuses_new_ones_as_never_begun() {
    let answer = Reply::answer(json!({"answer": "blue"})).after(Duration::from_millis(500));
    let mock = MockDspy::new([answer]);
    let mut node = Node::of(&mock).await;
    let client = node.client();
    let asked = tokio::spawn(client.clone().oneshot(why()));
    seen(&mock, |calls| calls.len() == 1).await;
    node.stopping().await;
    // By the connection that is there, or by one that does not come about.
    let late = client.oneshot(why()).await.unwrap_err();
    assert_eq!(never_began(&late), ErrorKind::Lost, "{late}");
    assert_eq!(asked.await.unwrap().unwrap().outputs["answer"], "blue");
    let report = node.report().await;
    assert_eq!(report.requests.completed, 1, "{report}");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn calls_left_at_the_end_of_the_drain_are_cancelled_and_may_have_begun() {
    let mock = MockDspy::new([Reply::hang()]);
    let programs = Programs::new().program("qa", mock.clone());
    let mut node = Node::with(programs, Duration::from_millis(50)).await;
    let asked = tokio::spawn(node.client().oneshot(why()));
    seen(&mock, |calls| calls.len() == 1).await;
    node.stop();
    let error = asked.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
    assert!(error.may_have_started());
    assert_eq!(mock.stopped(), [Cause::Shutdown]);
    let report = node.report().await;
    assert_eq!(report.requests.cancelled, 1, "{report}");
}
