//! The interpreter and the LM that the whole binary shares, and waits for events in them.

#[path = "../../examples/rag/packages.rs"]
mod packages;

use std::{
    env::{self, VarError},
    ops::Deref,
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use http_body_util::Full;
use serde_json::{Value, json};
use tokio::{
    net::TcpSocket,
    process::Command,
    sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Instant, sleep, timeout},
};
use tower::{BoxError, service_fn};
use tower_dspy::{
    DspyService, Host, Lm, PredictRequest, host::env::PythonEnv, lm::LmRequest,
    testing::scripted_lm::ScriptedLm,
};

/// Far beyond what a busy machine needs.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Longer than any test takes: what has this limit is ended by something else.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// The programs of these tests.
pub(crate) fn programs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/python/programs")
}

/// The venv of the workspace, made if there is none.
pub(crate) async fn venv() -> PathBuf {
    python_env().await.prefix().to_path_buf()
}

async fn python_env() -> PythonEnv {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    PythonEnv::create(root.join(".venv"))
        .progress(|line| eprintln!("{line}"))
        .run()
        .await
        .expect("a venv")
}

/// The folder with numpy, which embedders need.
async fn numpy() -> PathBuf {
    packages::numpy(&python_env().await).await.expect("numpy")
}

/// The host of the tests that hold for both: `embedded`, the default, or `workers`.
const HOST: &str = "TOWER_DSPY_TEST_HOST";

/// Set in a process that runs one test.
const ALONE: &str = "TOWER_DSPY_TEST_ALONE";

/// Starts the process's host, or gets the one that is there: `import dspy` is paid for once.
pub(crate) async fn start() -> Host {
    static HOST: OnceCell<Host> = OnceCell::const_new();
    let host = HOST.get_or_init(|| async {
        let (venv, numpy) = (venv().await, numpy().await);
        if in_a_worker() {
            let workers = Host::workers(1).venv(venv).python_path(programs());
            let workers = workers.python_path(numpy);
            // The one process holds what the tests set up in it. That it is killed where it should
            // be is for tests with workers of their own.
            let workers = workers.kill_after(HOUR).retire_after(HOUR);
            return workers.start().await.expect("a worker");
        }
        let embedded = Host::embedded().venv(venv).python_path(programs());
        let embedded = embedded.python_path(numpy);
        embedded.start().await.expect("a host")
    });
    host.await.clone()
}

/// Whether the programs run in a worker process, which `TOWER_DSPY_TEST_HOST` says.
pub(crate) fn in_a_worker() -> bool {
    match env::var(HOST).as_deref() {
        Err(VarError::NotPresent) | Ok("embedded") => false,
        Ok("workers") => true,
        other => panic!("{HOST} is {other:?}, not `embedded` or `workers`"),
    }
}

/// The process's host, for the length of a test.
#[derive(Debug)]
pub(crate) struct TestHost {
    host: Host,
    _turn: Turn,
}

#[derive(Debug)]
#[expect(dead_code, reason = "held, not read")]
enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

static TURNS: RwLock<()> = RwLock::const_new(());

/// The host, which other tests use at the same time.
pub(crate) async fn host() -> TestHost {
    let turn = Turn::Shared(TURNS.read().await);
    let host = start().await;
    TestHost { host, _turn: turn }
}

/// The host for one test alone: one that blocks the loop, or reads what the host counts.
pub(crate) async fn host_alone() -> TestHost {
    let turn = Turn::Alone(TURNS.write().await);
    let host = start().await;
    let quiet = || host.stats().submitted == host.stats().settled;
    eventually("the tests before to be over", quiet).await;
    TestHost { host, _turn: turn }
}

impl Deref for TestHost {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

/// The LM server that all tests share; each test has a model of its own there.
pub(crate) async fn lm_server() -> &'static ScriptedLm {
    static LM: OnceCell<ScriptedLm> = OnceCell::const_new();
    LM.get_or_init(|| async { ScriptedLm::start().await.expect("an LM server") })
        .await
}

/// Where nobody listens, for as long as the socket is held: bound, and given to nobody else.
pub(crate) fn nowhere() -> (TcpSocket, String) {
    let bound = TcpSocket::new_v4().expect("a socket");
    let any = "127.0.0.1:0".parse().expect("an address");
    bound.bind(any).expect("a port");
    let url = format!("http://{}/v1", bound.local_addr().expect("an address"));
    (bound, url)
}

/// The LM `model` of that server, as a program is given it.
pub(crate) async fn lm(model: &str) -> Lm {
    Lm::new(format!("openai/{model}"))
        .base_url(lm_server().await.base_url())
        .key("test-key")
}

/// An LM that answers each request with this status and JSON.
pub(crate) fn lm_that_says(status: u16, json: &'static str) -> Lm {
    Lm::new("openai/x")
        .base_url("http://lm/v1")
        .key("test-key")
        .http(service_fn(move |_: LmRequest| async move {
            let answer = http::Response::builder().status(status);
            let answer = answer.header("content-type", "application/json");
            Ok::<_, BoxError>(answer.body(Full::from(json))?)
        }))
}

/// The program `target` with the LM `model`.
pub(crate) async fn load(host: &Host, target: &str, model: &str) -> DspyService {
    let load = host.load(target).lm(lm(model).await);
    load.await
        .unwrap_or_else(|error| panic!("{error}\n{}", error.traceback()))
}

/// `question -> answer` with the LM `model`.
pub(crate) async fn question(host: &Host, model: &str) -> DspyService {
    load(host, "question -> answer", model).await
}

/// A request with a question, for `question -> answer`.
pub(crate) fn ask(text: &str) -> PredictRequest {
    PredictRequest::new(json!({"question": text}))
}

/// A request with a question and the name by which a test knows its call in Python.
pub(crate) fn ask_as(key: &str) -> PredictRequest {
    PredictRequest::new(json!({"key": key, "question": "?"}))
}

/// Calls a function of a module of these tests.
pub(crate) async fn call(host: &Host, function: &str, arguments: Value) -> Value {
    let function = host.function(function, None).await.expect("a function");
    function.call(arguments).await.expect("an answer")
}

/// What the programs noted under `key`.
pub(crate) async fn seen(host: &Host, key: &str) -> Vec<String> {
    let seen = call(host, "witness:seen", json!({"key": key})).await;
    serde_json::from_value(seen).expect("a list of strings")
}

/// Lets those through who wait at the gate `key`, in Python.
pub(crate) async fn open(host: &Host, key: &str) {
    call(host, "witness:open_gate", json!({"key": key})).await;
}

/// Waits until the programs noted so many events under `key`; returns all of them.
pub(crate) async fn eventually_noted(host: &Host, key: &str, count: usize) -> Vec<String> {
    let noted = timeout(LIMIT, async {
        loop {
            let seen = seen(host, key).await;
            if seen.len() >= count {
                return seen;
            }
        }
    });
    noted
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {count} events of {key}"))
}

/// Waits until the programs noted these events under `key`, and no others.
pub(crate) async fn eventually_seen(host: &Host, key: &str, events: &[&str]) {
    let seen = eventually_seen_first(host, key, events).await;
    assert_eq!(seen, events);
}

/// Waits until the programs noted these events under `key`; returns them, and what followed.
pub(crate) async fn eventually_seen_first(host: &Host, key: &str, events: &[&str]) -> Vec<String> {
    let end = Instant::now() + LIMIT;
    loop {
        let seen = seen(host, key).await;
        if seen.len() >= events.len() && seen.iter().zip(events).all(|(seen, event)| seen == event)
        {
            return seen;
        }
        assert!(Instant::now() < end, "saw {seen:?} instead of {events:?}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until `holds` does.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Sends this process a signal.
pub(crate) async fn signal_self(signal: &str) {
    let pid = std::process::id().to_string();
    let kill = Command::new("kill").args([signal, &pid]).status();
    assert!(kill.await.expect("kill").success());
}

/// Runs the test `name` again in a process of its own, and requires it to pass there.
///
/// `None` in that process, which is to go on; what it printed in the one that asked.
pub(crate) async fn own_process(name: &str) -> Option<String> {
    own_process_with(name, &[]).await
}

/// The same with these variables.
pub(crate) async fn own_process_with(name: &str, variables: &[(&str, &str)]) -> Option<String> {
    let output = again(name, variables).await?;
    let said = [&*output.stdout, b"\n", &*output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{}\n{said}", output.status);
    // A name that is misspelt would run nothing, and pass.
    assert!(
        said.contains("test result: ok. 1 passed"),
        "no test `{name}`"
    );
    Some(said)
}

/// The same for a test that may end its process, which is given these variables.
pub(crate) async fn again(name: &str, variables: &[(&str, &str)]) -> Option<Output> {
    if env::var_os(ALONE).is_some_and(|alone| alone == name) {
        return None;
    }
    let output = Command::new(env::current_exe().expect("a path"))
        .args(["--exact", name, "--nocapture", "--include-ignored"])
        .env(ALONE, name)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    // For those as well that start many workers, one after the other.
    let output = timeout(10 * LIMIT, output).await;
    Some(output.expect("an end in time").expect("a process"))
}
