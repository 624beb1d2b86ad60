//! A way that is played in Rust, in a process of its own: this program again, with its part in the
//! environment. It reads commands, one a line, from its standard input, and writes their answers as JSON.

use std::{env, path::Path, process::Stdio};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, stdin},
    process::{Child, ChildStdin, ChildStdout, Command},
};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_dspy::{DspyServiceBuilderExt, Error, Host, Lm, PredictRequest, Prediction};

use crate::{
    LIMIT, Trouble,
    callers::{FIRST, GaveUp, ask_all, from_json, to_json},
    plain_python,
};

const PART: &str = "TOWER_DSPY_BENCH_PART";
const URL: &str = "TOWER_DSPY_BENCH_URL";
const MODEL: &str = "TOWER_DSPY_BENCH_MODEL";
const VENV: &str = "TOWER_DSPY_BENCH_VENV";

/// The programs of all ways.
pub(crate) const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/comparison");

/// What this process is to play, and with which LM.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) model: String,
    pub(crate) venv: String,
}

/// The part of this process; `None` in the process that compares.
pub(crate) fn from_env() -> Option<Part> {
    let read = |name| env::var(name).ok();
    Some(Part {
        name: read(PART)?,
        url: read(URL)?,
        model: read(MODEL)?,
        venv: read(VENV)?,
    })
}

/// Plays a part, to the end of the standard input.
pub(crate) async fn run(part: &Part) -> Result<(), Trouble> {
    match part.name.as_str() {
        "pyo3_into_future" => plain_python::into_future(part).await,
        "pyo3_spawn_blocking" => plain_python::blocking(part).await,
        "pyo3_drop_guard" => plain_python::drop_guard(part).await,
        "tower_resilience" => plain_python::tower_resilience(part).await,
        "embedded" => ours(part, embedded(part).await?, "programs:Answer").await,
        "embedded_sync" => ours(part, embedded(part).await?, "programs:SyncAnswer").await,
        "workers" => ours(part, workers(part).await?, "programs:Answer").await,
        other => Err(format!("no part is called `{other}`").into()),
    }
}

async fn embedded(part: &Part) -> Result<Host, Trouble> {
    let host = Host::embedded().venv(&part.venv).python_path(PROGRAMS);
    Ok(host.start().await?)
}

async fn workers(part: &Part) -> Result<Host, Trouble> {
    let host = Host::workers(2).venv(&part.venv).python_path(PROGRAMS);
    Ok(host.start().await?)
}

/// This crate: a program and a limit.
async fn ours(part: &Part, host: Host, program: &str) -> Result<(), Trouble> {
    let lm = Lm::new(format!("openai/{}", part.model))
        .base_url(&part.url)
        .key("none");
    let program = host.load(program).lm(lm).await?;
    predict(program.clone(), FIRST.into()).await?;
    let given_up = host.stats().cancelled;
    let service = ServiceBuilder::new()
        .attempt_timeout(LIMIT)
        .service(program);
    let ask = |question| {
        let asked = predict(service.clone(), question);
        async { asked.await.is_ok() }
    };
    let counts = || {
        let stats = host.stats();
        let running = stats.queued + stats.running;
        json!({ "running": running, "given_up": stats.cancelled - given_up })
    };
    serve_commands(ask, counts).await?;
    host.stop(LIMIT).await;
    Ok(())
}

async fn predict<S>(service: S, question: String) -> Result<Prediction, Error>
where
    S: Service<PredictRequest, Response = Prediction, Error = Error>,
{
    service
        .oneshot(PredictRequest::new(json!({ "question": question })))
        .await
}

/// Serves commands until the standard input ends. The first question has been answered.
pub(crate) async fn serve_commands<F>(
    ask: impl Fn(String) -> F,
    counts: impl Fn() -> Value,
) -> Result<(), Trouble>
where
    F: Future<Output = bool> + Send + 'static,
{
    println!("{}", json!("ready"));
    let mut commands = BufReader::new(stdin()).lines();
    while let Some(command) = commands.next_line().await? {
        match command.as_str() {
            "ask" => println!("{}", to_json(&ask_all(&ask).await?)?),
            _ => println!("{}", counts()),
        }
    }
    Ok(())
}

/// A part, seen from the process that compares.
#[derive(Debug)]
pub(crate) struct PartProcess {
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl PartProcess {
    /// Starts a part, and waits until its first question was answered.
    pub(crate) async fn start(
        name: &str,
        url: &str,
        model: &str,
        venv: &Path,
    ) -> Result<Self, Trouble> {
        let mut child = Command::new(env::current_exe()?)
            .env(PART, name)
            .env(URL, url)
            .env(MODEL, model)
            .env(VENV, venv)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (commands, answers) = pipes.ok_or("no pipes")?;
        let mut part = Self {
            child,
            commands,
            answers: BufReader::new(answers).lines(),
        };
        part.answer().await?;
        Ok(part)
    }

    /// Lets the callers ask; returns when each gave up.
    pub(crate) async fn ask(&mut self) -> Result<GaveUp, Trouble> {
        self.commands.write_all(b"ask\n").await?;
        from_json(&self.answer().await?)
    }

    /// What the part counts of its calls.
    pub(crate) async fn counts(&mut self) -> Result<Value, Trouble> {
        self.commands.write_all(b"count\n").await?;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<Value, Trouble> {
        let answer = self.answers.next_line().await?;
        Ok(serde_json::from_str(
            &answer.ok_or("the process of the way has ended")?,
        )?)
    }

    /// Ends the process, and waits for that.
    pub(crate) async fn end(self) {
        let Self {
            mut child,
            commands,
            ..
        } = self;
        drop(commands);
        let _ = child.wait().await;
    }
}
