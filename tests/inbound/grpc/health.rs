//! Health and reflection, by tonic's own crates.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio_stream::StreamExt;
use tonic::{Code, service::Routes};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tower_dspy::{
    InboundLayer, Shutdown,
    inbound::tonic::{Programs, health},
    testing::mock::MockDspy,
};

use super::{LONG, Node, SOON};

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.into(),
    }
}

#[tokio::test]
async fn health_follows_readiness_and_ends_with_the_server() {
    let ready = Arc::new(AtomicBool::new(true));
    let is_ready = ready.clone();
    let shutdown = Shutdown::new();
    let programs = Programs::new().program("qa", MockDspy::from_fn(|_| unreachable!()));
    let app = Routes::new(programs.into_service())
        .add_service(health(&shutdown, move || is_ready.load(Relaxed)))
        .into_axum_router()
        .layer(InboundLayer::new());
    let mut node = Node::serve(app, shutdown, LONG).await;
    let mut client = HealthClient::new(node.channel());

    for name in ["", "tower_dspy.v1.Predict"] {
        let status = client.check(of(name)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving);
    }
    let unknown = client.check(of("other")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);

    let mut watch = client.watch(of("")).await.unwrap().into_inner();
    let mut next = async || {
        let next = tokio::time::timeout(SOON, watch.next()).await;
        let next = next.expect("nobody was told")?;
        Some(next.unwrap().status())
    };
    assert_eq!(next().await, Some(ServingStatus::Serving));
    ready.store(false, Relaxed);
    assert_eq!(next().await, Some(ServingStatus::NotServing));
    let status = client.check(of("")).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::NotServing);
    ready.store(true, Relaxed);
    assert_eq!(next().await, Some(ServingStatus::Serving));

    // Whoever watches hears of the end, and holds up nothing.
    node.stop();
    assert_eq!(next().await, Some(ServingStatus::NotServing));
    assert_eq!(next().await, None);
    assert!(node.report().await.is_clean());
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let node = Node::of(&MockDspy::from_fn(|_| unreachable!())).await;
    let mut client = ServerReflectionClient::new(node.channel());
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = client.server_reflection_info(tokio_stream::once(ask));
    let mut answers = answers.await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("another answer");
    };
    let names: Vec<_> = list.service.iter().map(|service| &*service.name).collect();
    for name in ["tower_dspy.v1.Predict", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
}
