//! A host with its programs, behind the standard layers and a server of HTTP and gRPC.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::Router;
use serde_json::json;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::service::Routes;
use tower::{BoxError, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_dspy::{
    CancelLayer, DspyService, DspyServiceBuilderExt, Error, ErrorKind, Host, InboundLayer, Lm,
    PredictRequest, Prediction, PredictionStream, RetryLayer, Shutdown, Tool, ToolCall, TrackLayer,
    Tracker,
    inbound::{axum::stream::predict_stream, tonic::Programs},
    server::{GracefulShutdown, ServeReport, serve},
    service::{Function, Load},
};

use crate::{inject::InjectLayer, lm_server::MODELS, options::Inject, support::venv};

/// The programs by name, with their targets.
pub(crate) const PROGRAMS: [(&str, &str); 6] = [
    ("ask", "question -> answer"),
    ("sync", "programs:Sync"),
    ("agent", "programs:Agent"),
    ("fan", "programs:Fan"),
    ("parallel", "programs:Parallel"),
    ("waits", "programs:Waits"),
];

/// What programs may raise: at replies that are no answer.
const EXCEPTIONS: [&str; 1] = ["dspy.utils.exceptions.AdapterParseError"];

/// No program keeps a loop from going on for so long. By the default of one second a machine that is
/// busy has workers killed whose loops are only late.
const KILL_AFTER: Duration = Duration::from_secs(15);

const SYNC_THREADS: usize = 4;
const MAX_IN_FLIGHT: usize = 12;

pub(crate) type Whole = BoxCloneSyncService<PredictRequest, Prediction, Error>;
pub(crate) type Streaming = BoxCloneSyncService<PredictRequest, PredictionStream, Error>;

/// A program as callers of this process have it: within its layers.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) whole: Whole,
    pub(crate) streaming: Streaming,
}

pub(crate) struct Site {
    pub(crate) name: &'static str,
    pub(crate) host: Host,
    pub(crate) tracker: Tracker,
    /// The programs without their layers.
    pub(crate) bare: Vec<DspyService>,
    pub(crate) programs: Vec<Program>,
    pub(crate) address: SocketAddr,
    /// Attempts that the layers saw end as `Lost`.
    pub(crate) lost: Arc<AtomicU64>,
    /// Attempts of the layers, retries included.
    pub(crate) attempts: Arc<AtomicU64>,
    /// Calls past the layers: to warm up, and to count tasks.
    pub(crate) bare_calls: AtomicU64,
    /// Exceptions of programs that no fault explains.
    pub(crate) exceptions: Arc<AtomicU64>,
    tasks: Function,
    base_url: String,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<ServeReport>>,
}

impl Site {
    pub(crate) async fn embedded(base_url: &str, inject: Option<Inject>) -> Self {
        let host = Host::embedded().venv(venv().await).python_path(folder());
        let host = host.sync_threads(SYNC_THREADS).start().await;
        Self::start("embedded", host.expect("a host"), base_url, inject).await
    }

    pub(crate) async fn workers(base_url: &str, inject: Option<Inject>) -> Self {
        let host = Host::workers(2).venv(venv().await).python_path(folder());
        let host = host.kill_after(KILL_AFTER).sync_threads(SYNC_THREADS);
        let host = host.start().await;
        Self::start("workers", host.expect("workers"), base_url, inject).await
    }

    async fn start(name: &'static str, host: Host, base_url: &str, inject: Option<Inject>) -> Self {
        let tracker = Tracker::new();
        let lost = Arc::<AtomicU64>::default();
        let attempts = Arc::<AtomicU64>::default();
        let exceptions = Arc::<AtomicU64>::default();
        let (mut bare, mut programs) = (vec![], vec![]);
        let (mut grpc, mut http) = (Programs::new(), Router::new());
        for (name, target) in PROGRAMS {
            let program = load(&host, name, target, base_url).await;
            let program = program.unwrap_or_else(|error| panic!("{error}\n{}", error.traceback()));
            let (lost, exceptions) = (lost.clone(), exceptions.clone());
            let attempts = attempts.clone();
            let stack = ServiceBuilder::new()
                .layer(InjectLayer::new(inject))
                .layer(TrackLayer::new(tracker.clone()).with_label(name))
                .deadline(Duration::from_secs(5))
                .layer(CancelLayer::new().with_grace(Duration::from_millis(100)))
                .layer(RetryLayer::new(1).on_kinds([ErrorKind::Lost, ErrorKind::LmUnavailable]))
                .attempt_timeout(Duration::from_secs(3))
                .map_err(move |error: Error| {
                    match &error {
                        Error::Lost(_) => {
                            lost.fetch_add(1, Ordering::Relaxed);
                        }
                        Error::Program(raised) => {
                            let known = EXCEPTIONS.contains(&raised.python_type());
                            if !known {
                                exceptions.fetch_add(1, Ordering::Relaxed);
                                println!("{name}: {}", described(&error));
                            }
                        }
                        Error::Cancelled(cancelled) => {
                            tracing::warn!(target: "tower_dspy", name, ?cancelled, "cancelled");
                        }
                        _ => {}
                    }
                    error
                })
                .map_request(move |request: PredictRequest| {
                    attempts.fetch_add(1, Ordering::Relaxed);
                    request
                });
            let streaming = stack.clone().service(program.streaming());
            let layered = Program {
                name,
                whole: BoxCloneSyncService::new(stack.service(program.clone())),
                streaming: BoxCloneSyncService::new(streaming),
            };
            let (whole, streaming) = (layered.whole.clone(), layered.streaming.clone());
            grpc = grpc.program_streaming(name, whole.clone(), streaming.clone());
            http = http.route(&format!("/{name}"), predict_stream(whole, streaming));
            programs.push(layered);
            bare.push(program);
        }
        let tasks = host.function("programs:tasks", None).await;
        let app = Routes::new(grpc.into_service())
            .into_axum_router()
            .merge(http)
            .layer(InboundLayer::new().max(Duration::from_secs(10)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let until = GracefulShutdown::new(Shutdown::new(), Duration::from_secs(10))
            .with_signal(async move { drop(stopped.await) });
        Self {
            name,
            host,
            tracker,
            bare,
            programs,
            address,
            lost,
            attempts,
            bare_calls: AtomicU64::default(),
            exceptions,
            tasks: tasks.expect("a function"),
            base_url: base_url.to_owned(),
            stop,
            served: tokio::spawn(serve(listener, app, until).into_future()),
        }
    }

    /// Uses all threads that the host may have, so that no later call makes one.
    pub(crate) async fn warm_up(&self) {
        let mut calls = tokio::task::JoinSet::new();
        for program in &self.bare {
            for n in 0..MAX_IN_FLIGHT {
                let inputs = json!({"question": format!("warm-up {n}")});
                self.bare_calls.fetch_add(1, Ordering::Relaxed);
                calls.spawn(program.clone().oneshot(PredictRequest::new(inputs)));
            }
        }
        while let Some(answer) = calls.join_next().await {
            if let Err(error) = answer.expect("a call") {
                panic!("{}", described(&error));
            }
        }
    }

    /// A load of the program again, to replace it or beside it.
    pub(crate) fn load(&self, program: usize) -> Load {
        let (name, target) = PROGRAMS[program];
        load(&self.host, name, target, &self.base_url)
    }

    /// The largest number of tasks of a loop of the host, without the counting task.
    pub(crate) async fn asyncio_tasks(&self) -> Result<u64, Error> {
        let mut most = 0;
        // Workers take turns.
        for _ in 0..8 {
            self.bare_calls.fetch_add(1, Ordering::Relaxed);
            let tasks = self.tasks.call(json!({})).await?;
            most = most.max(tasks.as_u64().unwrap_or(u64::MAX));
        }
        Ok(most)
    }

    /// Ends the server and then the host; what the server reports, and what its end took.
    pub(crate) async fn end(self) -> (ServeReport, tower_dspy::HostStats) {
        drop(self.stop);
        let report = self.served.await.expect("a server that does not panic");
        let stats = self.host.stop(Duration::from_secs(5)).await;
        (report.expect("a handler for signals"), stats)
    }
}

/// The error, with its traceback if a program raised it.
fn described(error: &Error) -> String {
    match error {
        Error::Program(raised) => format!("{error}\n{}", raised.traceback()),
        error => format!("{error:?}"),
    }
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/chaos")
}

fn load(host: &Host, name: &str, target: &str, base_url: &str) -> Load {
    let model = MODELS[usize::from(name == "agent")];
    let lm = Lm::new(format!("openai/{model}")).base_url(base_url);
    let load = host.load(target).lm(lm.key("unused"));
    let load = load.max_in_flight(MAX_IN_FLIGHT).max_waiting(MAX_IN_FLIGHT);
    if name != "agent" {
        return load;
    }
    let search = Tool::new("search", "Finds passages.", |_: ToolCall| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok::<_, BoxError>(json!({"passages": ["The sky is blue."]}))
    });
    load.tool(search.argument("query", json!({"type": "string"})))
}
