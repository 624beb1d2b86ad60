//! The hops between a caller and the LM: the stack of each, and the wire between two.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use tokio::{spawn, time::sleep};
use tower::{
    BoxError, ServiceBuilder, ServiceExt,
    limit::ConcurrencyLimitLayer,
    load_shed::LoadShedLayer,
    retry::{Policy, RetryLayer as TowerRetryLayer},
    service_fn,
    timeout::TimeoutLayer as TowerTimeoutLayer,
    util::BoxCloneSyncService,
};
use tower_dspy::{
    Carrier, Classify, DeadlineLayer, Elapsed, ErrorKind, HedgeLayer, InboundLayer, Latency,
    OutboundLayer, Percentile, RecordLatencyLayer, RetryBudget, RetryLayer, Scope, Stage,
    StandardStack,
};

use crate::{lm::Lm, world::PATIENCE};

pub(crate) type Node = BoxCloneSyncService<Request<()>, (), BoxError>;

/// The limit of one attempt of the naive stack, the default of the standard one.
const ATTEMPT: Duration = Duration::from_secs(10);
/// The network, one way.
const NETWORK: Duration = Duration::from_millis(1);

/// The stack of one hop.
#[derive(Clone, Copy)]
pub(crate) enum Hop {
    /// Tower's retry, of three attempts at once one after the other, around its timeout.
    Naive,
    /// Tower's timeout alone.
    Timeout,
    /// The standard stack.
    Standard(Controls),
}

/// What of the standard stack, and inside of it, is on.
#[derive(Clone, Copy)]
pub(crate) struct Controls {
    pub(crate) retries: Retries,
    pub(crate) hedges: bool,
    pub(crate) rejects_infeasible: bool,
    /// So many LM calls at once.
    pub(crate) max_in_flight: Option<usize>,
    /// What is beyond that is refused; else it waits.
    pub(crate) sheds: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retries {
    None,
    WithBudget,
    WithoutBudget,
}

impl Hop {
    /// The stack around `inner`.
    pub(crate) fn around(self, inner: Node) -> Node {
        match self {
            Self::Naive => BoxCloneSyncService::new(
                ServiceBuilder::new()
                    .layer(TowerRetryLayer::new(Attempts(2)))
                    .layer(TowerTimeoutLayer::new(ATTEMPT))
                    .service(inner),
            ),
            Self::Timeout => BoxCloneSyncService::new(
                ServiceBuilder::new()
                    .layer(TowerTimeoutLayer::new(PATIENCE))
                    .service(inner),
            ),
            Self::Standard(controls) => controls.around(inner),
        }
    }

    /// A server with the stack around `inner`.
    pub(crate) fn serve(self, inner: Node) -> Node {
        let stack = self.around(inner);
        let program = stack.map_response(|()| Response::new(Empty::<Bytes>::new()));
        BoxCloneSyncService::new(
            ServiceBuilder::new()
                .map_response(|_| ())
                .layer(InboundLayer::new())
                .service(program),
        )
    }
}

impl Controls {
    fn around(self, inner: Node) -> Node {
        // What was slow is forgotten within it, and calls are tried again.
        let latency = Latency::new(Duration::from_secs(10));
        let mut deadline = DeadlineLayer::new(PATIENCE);
        if self.rejects_infeasible {
            deadline = deadline
                .with_latency(latency.clone(), Percentile::P50)
                .reject_infeasible();
        }
        let retry = match self.retries {
            Retries::None => None,
            Retries::WithBudget => Some(RetryLayer::new(2)),
            Retries::WithoutBudget => {
                Some(RetryLayer::new(2).with_budget(RetryBudget::unlimited()))
            }
        };
        let hedge = self.hedges.then(|| HedgeLayer::new(Percentile::P95));
        let stack = StandardStack::new()
            .with_deadline(deadline)
            .with_retry(retry)
            .with_hedge(hedge);
        let record = RecordLatencyLayer::new(latency, Percentile::P50);
        let shed = self.sheds.then(LoadShedLayer::new);
        let limit = self.max_in_flight.map(ConcurrencyLimitLayer::new);
        BoxCloneSyncService::new(
            ServiceBuilder::new()
                .layer(stack)
                .option_layer(self.rejects_infeasible.then_some(record))
                .option_layer(shed)
                .option_layer(limit)
                .service(inner),
        )
    }
}

/// The service that calls the LM.
pub(crate) fn leaf(lm: Arc<Lm>) -> Node {
    BoxCloneSyncService::new(service_fn(move |_: Request<()>| {
        let lm = lm.clone();
        async move { lm.call().await }
    }))
}

/// What lies between a hop and the next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// The deadline is in a header, and a call that is dropped drops its work on the other side.
    WithDeadlines,
    /// A call that is dropped drops its work on the other side.
    Plain,
    /// The work goes on.
    Detached,
}

impl Wire {
    /// A client of `nodes`, which chooses one at random for each call.
    pub(crate) fn to(self, nodes: Arc<[Node]>, random: fastrand::Rng) -> Node {
        let random = Arc::new(Mutex::new(random));
        let wire = service_fn(move |request: Request<()>| {
            let chosen = random.lock().expect("no panic").usize(..nodes.len());
            send(self, nodes[chosen].clone(), request)
        });
        match self {
            Self::WithDeadlines => BoxCloneSyncService::new(
                ServiceBuilder::new()
                    .layer(OutboundLayer::http())
                    .service(wire),
            ),
            Self::Plain | Self::Detached => BoxCloneSyncService::new(wire),
        }
    }
}

async fn send(wire: Wire, node: Node, request: Request<()>) -> Result<(), BoxError> {
    let deadline = request.context().and_then(|context| context.deadline);
    // Nothing but the headers gets to the other side.
    let mut received = Request::new(());
    *received.headers_mut() = request.headers().clone();
    sleep(NETWORK).await;
    let answer = match wire {
        Wire::Detached => spawn(node.oneshot(received)).await?,
        Wire::Plain | Wire::WithDeadlines => node.oneshot(received).await,
    };
    sleep(NETWORK).await;
    answer.map_err(|error| {
        // As `ProgramClient` reads it: this side has time left, so it was the limit of an attempt.
        if error.kind() == ErrorKind::Deadline && !deadline.is_some_and(|at| at.is_past()) {
            return Elapsed::new(Scope::Attempt, Stage::Running, ATTEMPT).into();
        }
        error
    })
}

/// Tower's retry policy as its documentation has it: so many more attempts, at once, whatever failed.
#[derive(Clone)]
struct Attempts(u32);

impl Policy<Request<()>, (), BoxError> for Attempts {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<()>,
        result: &mut Result<(), BoxError>,
    ) -> Option<Self::Future> {
        result.as_ref().err()?;
        self.0 = self.0.checked_sub(1)?;
        Some(std::future::ready(()))
    }

    fn clone_request(&mut self, request: &Request<()>) -> Option<Request<()>> {
        Some(request.clone())
    }
}
