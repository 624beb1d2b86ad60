//! The plain side: `plain.py` in an interpreter of the venv, one process for all rows.

use std::{env, path::PathBuf, process::Stdio};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command};

use super::{
    Failure, Form, Outcome, Row, corpus,
    modules::{self, Modules},
    packages::Packages,
    server::Server,
};

/// A row as plain DSPy ran it.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) row: String,
    pub(super) form: Form,
    /// It is the form by which the host calls the program.
    natural: bool,
    pub(super) outcome: Outcome,
    /// The LM's failure that the program's exception wraps.
    pub(super) wrapped: Option<Failure>,
}

impl Run {
    pub(super) const fn side(&self) -> &'static str {
        match self.form {
            Form::Async => "plain-async",
            Form::Sync => "plain-sync",
        }
    }
}

/// A line of `plain.py`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    row: String,
    form: Form,
    natural: bool,
    outputs: Option<Value>,
    error: Option<Failure>,
    wrapped: Option<Failure>,
    not_loaded: Option<String>,
}

/// The run that the natural call of the program is compared with.
pub(super) fn natural<'a>(runs: &[&'a Run]) -> &'a Run {
    let natural = runs.iter().find(|run| run.natural);
    natural.expect("a natural form")
}

/// Runs all rows, one after the other, each form of them.
pub(super) async fn run(
    rows: &[Row],
    server: &Server,
    packages: &Packages,
    modules: &Modules,
) -> Vec<Run> {
    let jobs: Vec<_> = rows.iter().map(|row| job(row, server)).collect();
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/same/plain.py");
    let path = env::join_paths([modules.folder(), &packages.folder]).expect("a path");
    let mut command = Command::new(packages.python());
    command
        .arg(script)
        .env("PYTHONPATH", path)
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    // A saved LM that has no address would be sent to a provider.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if ["_API_KEY", "_API_BASE", "_BASE_URL"]
            .iter()
            .any(|ending| name.ends_with(ending))
        {
            command.env_remove(&*name);
        }
    }
    // What a program says on stderr is for a look at the plain side.
    if env::var_os("SAME_PLAIN").is_none() {
        command.stderr(Stdio::null());
    }
    let mut child = command.spawn().expect("a plain interpreter");
    let mut stdin = child.stdin.take().expect("its stdin");
    let input = serde_json::to_vec(&jobs).expect("JSON");
    stdin.write_all(&input).await.expect("its input");
    drop(stdin);
    let output = child.wait_with_output().await.expect("its output");
    assert!(output.status.success(), "plain.py: {}", output.status);
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    lines.lines().filter_map(read).collect()
}

fn job(row: &Row, server: &Server) -> Value {
    let form = |side: &str| {
        let lm = row.lm.as_ref().map(|lm| {
            json!({
                "model": lm.model,
                "api_key": lm.key,
                "api_base": modules::address(server, side, row) + &lm.path,
            })
        });
        json!({"module": modules::name(side, row), "lm": lm})
    };
    json!({
        "row": row.name,
        "program": row.program,
        "inputs": row.inputs,
        "state": row.state.as_ref().map(|state| corpus::folder().join(state)),
        "async": form("plain-async"),
        "sync": form("plain-sync"),
    })
}

/// A line of the runner; programs may print others.
fn read(line: &str) -> Option<Run> {
    let line: Line = serde_json::from_str(line.strip_prefix("same: ")?).expect("a row");
    let outcome = match (line.outputs, line.error, line.not_loaded) {
        (Some(outputs), _, _) => Outcome::Outputs(outputs),
        (_, Some(failure), _) => Outcome::Error(failure),
        (_, _, problem) => Outcome::NotLoaded(problem.unwrap_or_default()),
    };
    Some(Run {
        row: line.row,
        form: line.form,
        natural: line.natural,
        outcome,
        wrapped: line.wrapped,
    })
}
