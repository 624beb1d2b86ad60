//! One trace from the wire through Python to the LM, as an OTLP collector gets it.
//!
//! The spans of Rust are exported by OTLP over gRPC, those of Python over HTTP.

mod collector;
mod ends;

use std::{fs, future::pending, path::PathBuf, process::Command, sync::OnceLock, time::Duration};

use axum::Router;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use serde_json::json;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::OnceCell,
};
use tower::{BoxError, ServiceBuilder, util::MapRequestLayer};
use tower_dspy::{
    DspyService, DspyServiceBuilderExt, Host, InboundLayer, Lm, Tool, ToolCall, Tracker,
    host::env::PythonEnv,
    inbound::axum::Programs,
    lm::LmRequest,
    telemetry::names,
    testing::scripted_lm::{Outcome, Reply, ScriptedLm},
};
use tracing::Level;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use collector::Collector;

/// The span that the client makes a call in.
const CLIENT: &str = "00f067aa0ba902b7";
const UNSET: i32 = 0;
const ERROR: i32 = 2;
const KEY: &str = "sk-a-key-that-no-span-has";
/// The key, the input, the answers of LMs and of tools. Python's own spans have what its instrumentation
/// exports.
const SECRETS: &[&str] = &[KEY, "the question", "the answer", "second", "a page"];

fn run(test: impl Future<Output = ()>) {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let mut runtime = Builder::new_multi_thread();
        runtime.enable_all().build().expect("a runtime")
    });
    runtime.block_on(test);
}

/// What the tests of this process share.
struct Shared {
    collector: Collector,
    lm: ScriptedLm,
    venv: PathBuf,
    python_path: [PathBuf; 2],
}

async fn shared() -> &'static Shared {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    SHARED.get_or_init(Shared::start).await
}

impl Shared {
    async fn start() -> Self {
        let (collector, address) = Collector::start().await;
        export_to(&address);
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("otel");
        let module = folder.join(format!("path-{}", std::process::id()));
        fs::create_dir_all(&module).expect("a folder");
        let endpoint = format!("ENDPOINT = \"{address}/v1/traces\"\n");
        fs::write(module.join("collector_address.py"), endpoint).expect("a module");
        let programs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/otel/programs");
        Self {
            collector,
            lm: ScriptedLm::start().await.expect("an LM"),
            venv: venv(folder.join("venv")).await,
            python_path: [programs, module],
        }
    }

    /// The embedded host of this process.
    async fn host(&self) -> Host {
        static HOST: OnceCell<Host> = OnceCell::const_new();
        let host = HOST.get_or_init(|| async {
            let host = Host::embedded().venv(&self.venv);
            let [programs, module] = &self.python_path;
            let host = host.python_path(programs).python_path(module);
            host.start().await.expect("a host")
        });
        host.await.clone()
    }

    async fn workers(&self) -> Host {
        let [programs, module] = &self.python_path;
        let workers = Host::workers(1).venv(&self.venv);
        let workers = workers.python_path(programs).python_path(module);
        workers.start().await.expect("a worker")
    }

    async fn load(&self, host: &Host, target: &str, model: &str) -> DspyService {
        let lm = Lm::new(format!("openai/{model}"));
        let lm = lm.base_url(self.lm.base_url()).key(KEY);
        let lm = lm.layer(MapRequestLayer::new(|request: LmRequest| {
            // Python wrote it; a provider does not get it.
            assert!(!request.headers().contains_key("traceparent"));
            request
        }));
        let load = host.load(target).lm(lm).tool(search()).tool(stuck());
        load.await
            .unwrap_or_else(|error| panic!("{error}\n{}", error.traceback()))
    }
}

fn search() -> Tool {
    Tool::new("search", "Finds pages.", |_: ToolCall| async {
        Ok::<_, BoxError>("a page")
    })
    .argument("query", json!({"type": "string"}))
}

/// A tool that never answers.
fn stuck() -> Tool {
    Tool::new("stuck", "Waits.", |_: ToolCall| {
        pending::<Result<&str, BoxError>>()
    })
    .argument("query", json!({"type": "string"}))
}

/// A venv with DSPy, and with what the lock of the tests has.
async fn venv(path: PathBuf) -> PathBuf {
    let env = PythonEnv::create(&path).progress(|line| eprintln!("{line}"));
    let env = env.run().await.expect("a venv");
    let lock = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/python/requirements-dev.lock"
    );
    let stamp = path.join("tests.lock");
    let wanted = fs::read(lock).expect("a lock");
    if !fs::read(&stamp).is_ok_and(|there| there == wanted) {
        let mut pip = Command::new(env.prefix().join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--require-hashes", "-r"]);
        assert!(pip.arg(lock).status().expect("pip").success());
        fs::write(stamp, wanted).expect("a stamp");
    }
    env.prefix().to_path_buf()
}

/// Exports the spans of this crate to the collector.
fn export_to(address: &str) {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(address);
    let exporter = exporter.build().expect("an exporter");
    let often = BatchConfigBuilder::default().with_scheduled_delay(Duration::from_millis(20));
    let batches = BatchSpanProcessor::builder(exporter).with_batch_config(often.build());
    let provider = SdkTracerProvider::builder().with_span_processor(batches.build());
    let tracer = provider.build().tracer("test");
    let ours = Targets::new().with_target("tower_dspy", Level::INFO);
    let layer = tracing_opentelemetry::layer().with_tracer(tracer);
    tracing_subscriber::registry()
        .with(layer.with_filter(ours))
        .init();
}

/// Serves the program at `/ask`, with a retry; returns its URL.
async fn serve(service: DspyService) -> String {
    let schema = service.schema().clone();
    let service = ServiceBuilder::new()
        .tracked(Tracker::new())
        .retries(1)
        .service(service);
    let app: Router = Programs::new("test", "1")
        .program("/ask", &schema, service)
        .into_router()
        .layer(InboundLayer::new());
    format!("{}/ask", listen(app).await)
}

/// Serves `app`; returns the URL of its root.
async fn listen(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

/// A call of a client that is in the trace `id`.
fn post(url: &str, id: &str) -> reqwest::RequestBuilder {
    let client = reqwest::Client::new().post(url);
    let client = client.header("traceparent", format!("00-{id}-{CLIENT}-01"));
    client.json(&json!({"question": "the question"}))
}

async fn answered(url: &str, id: &str) {
    let response = post(url, id).send().await.expect("a response");
    assert_eq!(response.status(), 200, "{:?}", response.text().await);
}

#[test]
fn a_retried_and_then_cancelled_call_is_one_tree() {
    run(async {
        let shared = shared().await;
        let id = "0000000000000000000000000000a001";
        shared
            .lm
            .script("flaky", [Reply::status(503), Reply::hang()]);
        let host = shared.host().await;
        let url = serve(shared.load(&host, "traced:Asks", "flaky").await).await;
        let call = tokio::spawn(post(&url, id).send());
        let asked = shared.lm.wait_for("flaky", |asked| asked.len() == 2);
        asked.await.expect("a second attempt");
        call.abort();
        let gone = shared
            .lm
            .wait_for("flaky", |asked| asked[1].outcome == Outcome::ClientGone);
        gone.await.expect("a cancel");

        let workflow = "invoke_workflow traced:Asks";
        let trace = shared.collector.trace(id, |trace| {
            trace.named("chat flaky").len() == 2
                && trace.named("step").len() == 2
                && trace.named(workflow).len() == 2
                && trace.named("tower_dspy.call").len() == 1
                && trace.named("LM.acall").len() == 2
                && trace.named("Predict.aforward").len() == 2
        });
        let trace = trace.await;
        for chat in trace.named("chat flaky") {
            let (path, parent) = trace.path(chat);
            assert_eq!(parent, CLIENT, "{path:?}");
            let mut inner = path.iter();
            // The instrumentation has more spans, of the adapter and of the module.
            for name in [
                "LM.acall",
                "Predict.aforward",
                "step",
                workflow,
                "tower_dspy.call",
            ] {
                assert!(inner.any(|other| *other == name), "{name} in {path:?}");
            }
            assert_eq!(chat.kind, 3, "a client");
            for (attribute, value) in [
                (names::OPERATION, "chat"),
                (names::PROVIDER, "openai"),
                (names::REQUEST_MODEL, "flaky"),
                (names::SERVER_ADDRESS, "127.0.0.1"),
                (names::REQUEST_STREAM, "false"),
            ] {
                assert_eq!(chat.get(attribute), Some(value), "{attribute}");
            }
        }
        let ends = |name| {
            let ends = trace.named(name).into_iter();
            let ends = ends.map(|span| (span.status, span.get(names::ERROR_TYPE)));
            ends.collect::<Vec<_>>()
        };
        // A cancel that was meant is no error, neither here nor in Python.
        assert_eq!(ends("chat flaky"), [(ERROR, Some("503")), (UNSET, None)]);
        assert_eq!(
            ends(workflow),
            [(ERROR, Some("lm_unavailable")), (UNSET, None)]
        );
        assert_eq!(ends("tower_dspy.call"), [(UNSET, None)]);
        for name in ["step", "Predict.aforward", "LM.acall"] {
            assert_eq!(ends(name), [(ERROR, None), (UNSET, None)], "{name}");
        }
        let call = trace.named("tower_dspy.call")[0];
        assert_eq!(call.get(names::CAUSE), Some("client gone"));
        assert_eq!(call.get(names::ATTEMPTS), Some("2"));
        let services = ["chat flaky", "step"].map(|name| trace.named(name)[0].service.clone());
        assert_eq!(services[1], "python");
        assert_ne!(services[0], "python");
        assert!(!shared.collector.text().contains(KEY));
        trace.assert_without(SECRETS);
    });
}

#[test]
fn the_threads_of_a_parallel_program_are_in_its_trace() {
    run(async {
        let shared = shared().await;
        let id = "0000000000000000000000000000a002";
        shared.lm.script("parallel", Reply::answer("the answer"));
        let host = shared.host().await;
        let url = serve(
            shared
                .load(&host, "traced:AsksInParallel", "parallel")
                .await,
        )
        .await;
        answered(&url, id).await;
        let trace = shared.collector.trace(id, |trace| {
            trace.named("chat parallel").len() == 2
                && trace.named("all").len() == 1
                && trace.named("part").len() == 2
                && trace.named("LM.__call__").len() == 2
                && trace.named("tower_dspy.call").len() == 1
        });
        let trace = trace.await;
        for chat in trace.named("chat parallel") {
            let (path, parent) = trace.path(chat);
            assert_eq!(parent, CLIENT, "{path:?}");
            let mut inner = path.iter();
            for name in ["LM.__call__", "part", "all", "tower_dspy.call"] {
                assert!(inner.any(|other| *other == name), "{name} in {path:?}");
            }
            assert_eq!(chat.status, UNSET);
            assert_ne!(chat.get(names::OUTPUT_TOKENS), None);
            assert_eq!(chat.get(names::RESPONSE_MODEL), Some("parallel"));
            assert_eq!(chat.get(names::FINISH_REASONS), Some("[\"stop\"]"));
        }
        let mut parts: Vec<_> = trace
            .named("part")
            .into_iter()
            .map(|part| trace.path(part))
            .collect();
        parts.dedup();
        assert_eq!(parts.len(), 1, "{parts:?}");
        trace.assert_without(SECRETS);
    });
}

#[test]
fn a_worker_process_and_its_tools_are_in_the_trace() {
    run(async {
        let shared = shared().await;
        let id = "0000000000000000000000000000a003";
        shared.lm.script("worker", Reply::answer("the answer"));
        let host = shared.workers().await;
        let asks = serve(shared.load(&host, "traced:Asks", "worker").await).await;
        answered(&asks, id).await;
        let tools = serve(shared.load(&host, "traced:UsesTool", "worker").await).await;
        answered(&tools, id).await;
        let trace = shared.collector.trace(id, |trace| {
            trace.named("chat worker").len() == 1
                && trace.named("execute_tool search").len() == 1
                && trace.named("step").len() == 2
                && trace.named("LM.acall").len() == 1
                && trace.named("tower_dspy.call").len() == 2
        });
        let trace = trace.await;
        for (name, workflow) in [
            ("chat worker", "invoke_workflow traced:Asks"),
            ("execute_tool search", "invoke_workflow traced:UsesTool"),
        ] {
            let (path, parent) = trace.path(trace.named(name)[0]);
            assert_eq!(parent, CLIENT, "{path:?}");
            let mut inner = path.iter();
            for name in ["step", workflow, "tower_dspy.call"] {
                assert!(inner.any(|other| *other == name), "{name} in {path:?}");
            }
        }
        trace.assert_without(SECRETS);
    });
}
