//! Two servers, restarted one after the other under load. Their client balances between them with
//! tower's own pieces and tries again what was not begun.

use std::{
    future::Ready,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::StatusCode;
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, Sleep, sleep_until},
};
use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt,
    balance::p2c::Balance,
    discover::ServiceList,
    load::{CompleteOnResponse, PendingRequests},
    retry::Policy,
    util::BoxCloneSyncService,
};
use tower_dspy::testing::scripted_lm::Reply;

use crate::{
    client::{Came, Connection},
    room::{CLIENTS, Program, Room, Server},
    support::until,
};

pub(crate) const RESTARTS: usize = 6;
/// Answers between two restarts.
const BETWEEN: u64 = 8 * CLIENTS as u64;
/// How long a server that refused is left alone.
const REST: Duration = Duration::from_millis(20);

#[derive(Default)]
pub(crate) struct Restarts {
    pub(crate) calls: u64,
    pub(crate) retries: u64,
    pub(crate) errors: u64,
}

type Client = BoxCloneSyncService<Ask, (), BoxError>;

pub(crate) async fn measure(room: &Room) -> Restarts {
    let answer = Reply::answer("so").delay(Duration::from_millis(5));
    let program = room.program("rolling", answer).await;
    let mut servers = [Node::start(0, &program), Node::start(0, &program)];
    let retries = Arc::new(AtomicU64::new(0));
    let client = client(servers.each_ref().map(|node| node.address), retries.clone());

    let (answers, over) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let mut callers = JoinSet::new();
    for _ in 0..CLIENTS {
        let (client, answers, over) = (client.clone(), answers.clone(), over.clone());
        callers.spawn(async move {
            let mut errors = 0;
            while !over.load(Relaxed) {
                match client.clone().oneshot(Ask).await {
                    Ok(()) => drop(answers.fetch_add(1, Relaxed)),
                    Err(error) => {
                        eprintln!("rolling restart: {error}");
                        errors += 1;
                    }
                }
            }
            errors
        });
    }
    for n in 0..=RESTARTS {
        let goal = answers.load(Relaxed) + BETWEEN;
        assert!(until(|| answers.load(Relaxed) > goal).await, "no answers");
        if n < RESTARTS {
            servers[n % 2].restart(&program).await;
        }
    }
    over.store(true, Relaxed);
    let errors: u64 = callers.join_all().await.into_iter().sum();
    for server in servers {
        server.end().await;
    }
    room.lm.forget("rolling");
    Restarts {
        calls: answers.load(Relaxed) + errors,
        retries: retries.load(Relaxed),
        errors,
    }
}

struct Node {
    address: SocketAddr,
    server: Option<(Server, oneshot::Sender<()>)>,
}

impl Node {
    fn start(port: u16, program: &Program) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let ends = |until: tower_dspy::server::GracefulShutdown| {
            until.with_signal(async move { drop(stopped.await) })
        };
        let server = Server::start(port, program.clone(), ends, |_| {});
        Self {
            address: server.address,
            server: Some((server, stop)),
        }
    }

    async fn restart(&mut self, program: &Program) {
        let port = self.address.port();
        if let Some((server, stop)) = self.server.take() {
            drop(stop);
            let report = server.end().await;
            assert!(report.is_clean(), "{report}");
        }
        *self = Self::start(port, program);
    }

    async fn end(self) {
        if let Some((server, stop)) = self.server {
            drop(stop);
            server.end().await;
        }
    }
}

fn client(servers: [SocketAddr; 2], retries: Arc<AtomicU64>) -> Client {
    let nodes = servers
        .map(|address| PendingRequests::new(Endpoint::new(address), CompleteOnResponse::default()));
    let balance = Balance::new(ServiceList::new::<Ask>(Vec::from(nodes)));
    let client = ServiceBuilder::new()
        .retry(Again { left: 50, retries })
        .buffer(2 * CLIENTS)
        .service(balance);
    BoxCloneSyncService::new(client)
}

/// What was not begun is tried again, elsewhere or a little later.
#[derive(Clone)]
struct Again {
    left: usize,
    retries: Arc<AtomicU64>,
}

impl Policy<Ask, (), BoxError> for Again {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Ask, result: &mut Result<(), BoxError>) -> Option<Ready<()>> {
        let error = result.as_ref().err()?;
        if self.left == 0 || !error.is::<NotBegun>() {
            return None;
        }
        self.left -= 1;
        self.retries.fetch_add(1, Relaxed);
        Some(std::future::ready(()))
    }

    fn clone_request(&mut self, _: &Ask) -> Option<Ask> {
        Some(Ask)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the server did not begin it")]
struct NotBegun;

#[derive(Debug, thiserror::Error)]
#[error("{0:?}")]
struct Failed(Came);

/// A question to whichever server.
#[derive(Clone, Copy)]
struct Ask;

/// One server, with the connections to it that are idle. It is not ready for a while after it
/// refused something, so that the balancer takes the other.
struct Endpoint {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    resting: Option<Pin<Box<Sleep>>>,
}

#[derive(Default)]
struct Shared {
    idle: Vec<Connection>,
    rests_until: Option<Instant>,
}

impl Endpoint {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            shared: Arc::default(),
            resting: None,
        }
    }
}

impl Service<Ask> for Endpoint {
    type Response = ();
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let until = self.shared.lock().expect("no panic").rests_until.take();
        if let Some(until) = until {
            self.resting = Some(Box::pin(sleep_until(until)));
        }
        if let Some(resting) = &mut self.resting {
            std::task::ready!(resting.as_mut().poll(cx));
            self.resting = None;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Ask) -> Self::Future {
        let (address, shared) = (self.address, self.shared.clone());
        Box::pin(async move {
            let kept = shared.lock().expect("no panic").idle.pop();
            let refused = || {
                let mut shared = shared.lock().expect("no panic");
                shared.rests_until = Some(Instant::now() + REST);
                BoxError::from(NotBegun)
            };
            let mut connection = match kept {
                Some(connection) => connection,
                None => Connection::open(address).await.map_err(|_| refused())?,
            };
            match connection.ask("Why?").await {
                Came::Answer(StatusCode::OK) => {
                    shared.lock().expect("no panic").idle.push(connection);
                    Ok(())
                }
                Came::Answer(StatusCode::SERVICE_UNAVAILABLE) => Err(refused()),
                // It may only be that this connection was closed.
                Came::Unsent => Err(NotBegun.into()),
                other => Err(Failed(other).into()),
            }
        })
    }
}
