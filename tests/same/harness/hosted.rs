//! The host's sides: a program on the embedded loop, on a thread, and in a worker process.

use std::time::Duration;

use tokio::time::timeout;
use tower::ServiceExt;
use tower_dspy::{Error, Host, Lm, PredictRequest, Usage};

use super::{
    Failure, Form, Outcome, Row, corpus,
    modules::{self, Modules},
    packages::Packages,
    server::Server,
};

/// Far beyond what a row takes, the first import of litellm included.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The async form, on the loop of the embedded host.
    Loop,
    /// The sync form, on a thread of the embedded host.
    Threads,
    /// The form that the host chooses, in a worker process.
    Worker,
}

impl Side {
    /// As in the paths of its requests.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::Threads => "threads",
            Self::Worker => "worker",
        }
    }

    pub(super) const fn form(self, natural: Form) -> Form {
        match self {
            Self::Loop => Form::Async,
            Self::Threads => Form::Sync,
            Self::Worker => natural,
        }
    }
}

/// A row as the host ran it.
#[derive(Debug)]
pub(super) struct Hosted {
    pub(super) outcome: Outcome,
    /// The tokens that the host counted.
    pub(super) usage: Usage,
    /// The LM requests that the host sent, those of loading the program included.
    pub(super) lm_calls: usize,
}

impl Hosted {
    fn not_loaded(problem: String) -> Self {
        Self {
            outcome: Outcome::NotLoaded(problem),
            usage: Usage::default(),
            lm_calls: 0,
        }
    }
}

#[derive(Debug)]
pub(super) struct Hosts {
    embedded: Host,
    worker: Host,
}

impl Hosts {
    pub(super) async fn start(packages: &Packages, modules: &Modules) -> Self {
        let embedded = Host::embedded()
            .venv(&packages.venv)
            .python_path(modules.folder())
            .python_path(&packages.folder);
        let worker = Host::workers(1)
            .venv(&packages.venv)
            .python_path(modules.folder())
            .python_path(&packages.folder);
        Self {
            embedded: embedded.start().await.expect("an embedded host"),
            worker: worker.start().await.expect("a worker"),
        }
    }

    pub(super) async fn stop(self) {
        self.worker.stop(Duration::from_secs(1)).await;
        self.embedded.stop(Duration::from_secs(1)).await;
    }

    /// Runs a row; `by_forward` has a program that the host would call by its `aforward` called by
    /// its `forward`.
    pub(super) async fn run(
        &self,
        side: Side,
        row: &Row,
        server: &Server,
        by_forward: bool,
    ) -> Hosted {
        let host = match side {
            Side::Loop | Side::Threads => &self.embedded,
            Side::Worker => &self.worker,
        };
        let before = sent(host);
        let run = run(host, side, row, server, by_forward);
        let ran = timeout(LIMIT, run).await;
        let mut ran =
            ran.unwrap_or_else(|_| Hosted::not_loaded(format!("it took more than {LIMIT:?}")));
        // One row after the other: what came since is this one's.
        ran.lm_calls = sent(host) - before;
        ran
    }
}

async fn run(host: &Host, side: Side, row: &Row, server: &Server, by_forward: bool) -> Hosted {
    let module = modules::name(side.name(), row);
    let attribute = if by_forward {
        "same_by_forward"
    } else {
        &row.program
    };
    let mut load = host.load(format!("{module}:{attribute}"));
    if let Some(lm) = &row.lm {
        let base = modules::address(server, side.name(), row) + &lm.path;
        load = load.lm(Lm::new(&lm.model).base_url(base).key(&lm.key));
    }
    if let Some(state) = &row.state {
        load = load.state(corpus::folder().join(state));
    }
    let program = match load.await {
        Ok(program) => program,
        Err(error) => return Hosted::not_loaded(error.to_string()),
    };
    let request = PredictRequest::new(row.inputs.clone());
    match program.oneshot(request).await {
        Ok(prediction) => Hosted {
            outcome: Outcome::Outputs(prediction.outputs.into()),
            usage: prediction.usage,
            lm_calls: 0,
        },
        Err(error) => {
            let spent = error.spent();
            Hosted {
                usage: spent.map(|spent| spent.usage).unwrap_or_default(),
                lm_calls: 0,
                outcome: Outcome::Error(failure(&error)),
            }
        }
    }
}

/// How many LM requests a host has sent.
fn sent(host: &Host) -> usize {
    let lm = host.stats().lm;
    let sent = lm.answered + lm.elapsed + lm.cancelled + lm.failed;
    usize::try_from(sent).unwrap_or(usize::MAX)
}

fn failure(error: &Error) -> Failure {
    // A class is told with its module; plain Python's name of it has none.
    let class = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    match error {
        Error::Program(error) => Failure {
            class: class(error.python_type()),
            status: None,
            retry_after: None,
            message: error.message().to_owned(),
        },
        Error::Lm(error) => Failure {
            class: class(error.python_type()),
            status: error.status(),
            retry_after: error.retry_after().map(|after| after.as_secs_f64()),
            message: error.message().to_owned(),
        },
        error => Failure {
            class: format!("{error:?}")
                .split(['(', ' '])
                .next()
                .unwrap_or_default()
                .to_owned(),
            status: None,
            retry_after: None,
            message: error.to_string(),
        },
    }
}
