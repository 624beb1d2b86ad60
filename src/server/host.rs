//! The readiness of a host for a server, and its end.

use std::{future::Ready, time::Duration};

use futures_util::FutureExt;
use http::StatusCode;
#[cfg(feature = "tonic")]
use tonic_health::pb::health_server;

use super::shutdown::GracefulShutdown;
use crate::host::{Host, core::health::Health};

impl Host {
    /// A handler for `/readyz`: 200 while the host takes calls and gets on with them, else 503; the
    /// body is one word that says why.
    ///
    /// | | |
    /// |---|---|
    /// | `ready`, `saturated` | 200 |
    /// | `starting`, `blocked`, `exhausted`, `lost`, `stopping` | 503 |
    ///
    /// A host that is [`Saturated`](Health::Saturated) stays in: it still answers, and to take it
    /// out would saturate the others. `stopping` is the answer from the signal on that
    /// [ends](Self::shutdown) a server of this host. It takes no lock that Python holds, and no GIL.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use axum::{Router, routing::get};
    /// use tokio::net::TcpListener;
    /// use tower_dspy::{Host, inbound::axum::liveness, server::serve};
    ///
    /// # async fn example(host: Host) -> std::io::Result<()> {
    /// let app = Router::new()
    ///     .route("/livez", get(liveness))
    ///     .route("/readyz", get(host.readiness()));
    /// let listener = TcpListener::bind("127.0.0.1:8080").await?;
    /// serve(listener, app, host.shutdown(Duration::from_secs(20))).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn readiness(
        &self,
    ) -> impl Fn() -> Ready<(StatusCode, &'static str)> + Clone + Send + Sync + 'static + use<>
    {
        let host = self.clone();
        move || {
            let is_ready = host.shutdown_handle().is_ready();
            std::future::ready(probe(is_ready, &host.health()))
        }
    }

    /// gRPC's health service for this host (feature `tonic`): `SERVING` where
    /// [`readiness`](Self::readiness) answers 200, else `NOT_SERVING`.
    ///
    /// ```no_run
    /// use tonic::service::Routes;
    /// use tower_dspy::{DspyService, Host, inbound::tonic::Programs};
    ///
    /// # fn example(host: Host, qa: DspyService) {
    /// let routes = Routes::new(Programs::new().program("qa", qa).into_service())
    ///     .add_service(host.grpc_health());
    /// # let _ = routes;
    /// # }
    /// ```
    #[cfg(feature = "tonic")]
    pub fn grpc_health(&self) -> health_server::HealthServer<impl health_server::Health + use<>> {
        let host = self.clone();
        crate::inbound::tonic::health(self.shutdown_handle(), move || {
            let is_ready = host.shutdown_handle().is_ready();
            probe(is_ready, &host.health()).0 == StatusCode::OK
        })
    }

    /// Ends a server at SIGTERM or Ctrl-C, and this host after it; for
    /// [`serve`](crate::server::serve).
    ///
    /// Requests in flight have `drain` to end by themselves. Then they are cancelled and have the
    /// [grace](GracefulShutdown::with_grace) to clean up, before the host is [stopped](Self::stop). From
    /// signal to end it takes at most [`GracefulShutdown::max_duration`], with the time of the hooks if
    /// there are any.
    #[must_use]
    pub fn shutdown(&self, drain: Duration) -> GracefulShutdown {
        let host = self.clone();
        let mut until = GracefulShutdown::new(self.shutdown_handle().clone(), drain);
        let stop = move |grace| async move { _ = host.stop(grace).await }.boxed();
        until.last = Some(Box::new(stop));
        until.last_margin = self.stop_margin();
        until
    }
}

/// The answer to a readiness probe.
const fn probe(is_ready: bool, health: &Health) -> (StatusCode, &'static str) {
    match health {
        Health::Lost => (StatusCode::SERVICE_UNAVAILABLE, "lost"),
        _ if !is_ready => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        Health::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        Health::Ready => (StatusCode::OK, "ready"),
        Health::Saturated => (StatusCode::OK, "saturated"),
        Health::Blocked { .. } => (StatusCode::SERVICE_UNAVAILABLE, "blocked"),
        Health::Exhausted { .. } => (StatusCode::SERVICE_UNAVAILABLE, "exhausted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_follows_the_health_of_the_host() {
        let blocked = Health::Blocked {
            frame: None,
            gil_held: false,
        };
        let exhausted = Health::Exhausted { abandoned: 16 };
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(probe(true, &Health::Ready), (StatusCode::OK, "ready"));
        assert_eq!(
            probe(true, &Health::Saturated),
            (StatusCode::OK, "saturated")
        );
        assert_eq!(probe(true, &Health::Starting), (unavailable, "starting"));
        assert_eq!(probe(true, &blocked), (unavailable, "blocked"));
        assert_eq!(probe(true, &exhausted), (unavailable, "exhausted"));
        assert_eq!(probe(true, &Health::Lost), (unavailable, "lost"));
        assert_eq!(probe(false, &Health::Ready), (unavailable, "stopping"));
        assert_eq!(probe(false, &blocked), (unavailable, "stopping"));
    }
}
