//! gRPC's health service, by the readiness of a server.

use std::time::Duration;

use ::tonic::{Request, Response, Status, async_trait};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{Health, HealthServer},
};

use crate::{layers::Shutdown, proto::v1::predict_server::SERVICE_NAME};

/// The interval at which the health is read for those who watch it.
const INTERVAL: Duration = Duration::from_millis(50);

/// Answers `grpc.health.v1.Health`: `SERVING` while `is_ready` and `shutdown` is neither
/// [announced](Shutdown::announce) nor has begun, else `NOT_SERVING`.
///
/// The status is that of the server, `""`, and of `tower_dspy.v1.Predict`. It is looked up for each
/// `Check`; those who `Watch` hear of a change within 50 ms, and their stream ends when the shutdown
/// begins, so that it holds up no server that drains.
///
/// ```
/// use tower_dspy::{Shutdown, inbound::tonic::health};
///
/// let shutdown = Shutdown::new();
/// let service = health(&shutdown, || true);
/// # let _ = service;
/// ```
///
/// A host has one of its own, `Host::grpc_health` (feature `python` or `workers`).
pub fn health<F>(shutdown: &Shutdown, is_ready: F) -> HealthServer<impl Health + use<F>>
where
    F: Fn() -> bool + Clone + Send + Sync + 'static,
{
    HealthServer::new(Readiness {
        shutdown: shutdown.clone(),
        is_ready,
    })
}

/// The health of a server.
#[derive(Clone)]
struct Readiness<F> {
    shutdown: Shutdown,
    is_ready: F,
}

impl<F: Fn() -> bool> Readiness<F> {
    fn of(&self, service: &str) -> Option<ServingStatus> {
        if !service.is_empty() && service != SERVICE_NAME {
            return None;
        }
        let ready = self.shutdown.is_ready() && (self.is_ready)();
        Some(if ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        })
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[async_trait]
impl<F> Health for Readiness<F>
where
    F: Fn() -> bool + Clone + Send + Sync + 'static,
{
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let status = self.of(&request.get_ref().service);
        let status = status.ok_or_else(|| Status::not_found("there is no service of this name"))?;
        Ok(Response::new(response(status)))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let states = stream::unfold((self.clone(), None), move |(readiness, before)| {
            let service = service.clone();
            async move {
                loop {
                    // Read before the status: the last status that is sent is that of the end.
                    let ends = !readiness.shutdown.is_accepting();
                    let status = readiness
                        .of(&service)
                        .unwrap_or(ServingStatus::ServiceUnknown);
                    if before != Some(status) {
                        return Some((Ok(response(status)), (readiness, Some(status))));
                    }
                    if ends {
                        return None;
                    }
                    tokio::time::sleep(INTERVAL).await;
                }
            }
        });
        Ok(Response::new(states.boxed()))
    }
}
