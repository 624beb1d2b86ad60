//! Looks at everything the tour needs, and says what to do about what is wrong.

mod chat;
mod stopping;
mod work_gauge;

use std::{fmt::Display, time::Duration};

use serde_json::{Value, json};
use tower::ServiceBuilder;
use tower_dspy::{
    DspyServiceBuilderExt, Error, ErrorKind, Host,
    host::env::{DSPY_REQUIREMENT, LinkedPython, PythonEnv},
    testing::scripted_lm::Reply,
};

use self::{
    chat::ChatClient,
    stopping::{Stopping, StoppingLimits},
};
use crate::{
    args::RealLm,
    stage::{Stage, ask, first_line, question, start_host, time, venv_path},
};

const LIMIT: Duration = Duration::from_secs(30);

/// The checks made so far.
#[derive(Debug, Default)]
struct Checks {
    wrong: usize,
}

impl Checks {
    fn ok(&self, what: &str, found: impl Display) {
        println!("ok       {what:<12} {found}");
    }

    fn wrong(&mut self, what: &str, problem: impl Display) {
        self.wrong += 1;
        println!("wrong    {what:<12} {problem}");
    }

    fn warning(&self, what: &str, problem: impl Display) {
        println!("warning  {what:<12} {problem}");
    }

    fn skipped(&self, what: &str, why: &str) {
        println!("skipped  {what:<12} {why}");
    }

    /// The value of a check, or its error as what is wrong.
    fn take<T, E: Display>(&mut self, what: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.wrong(what, error)).ok()
    }
}

/// Makes all checks; true if all is well. The host is handed to `started`, to be stopped.
pub(crate) async fn run(lm: Option<RealLm>, started: impl FnOnce(&Host)) -> bool {
    let mut checks = Checks::default();
    let host = check_python(&mut checks).await;
    match host {
        Some(host) => {
            started(&host);
            check_lm(&mut checks, host, lm).await;
        }
        None => checks.skipped("LM", "it is asked from Python"),
    }
    println!();
    match checks.wrong {
        0 => println!("all is well"),
        n => println!("{n} wrong; mend the first and look again"),
    }
    checks.wrong == 0
}

async fn check_python(checks: &mut Checks) -> Option<Host> {
    let linked = checks.take("Python", LinkedPython::build_time())?;
    checks.ok(
        "Python",
        format_args!(
            "{}, in {}",
            linked.version(),
            linked.base_prefix().display()
        ),
    );
    let env = match PythonEnv::check(venv_path(), &linked) {
        Ok(env) => env,
        Err(error) => {
            checks.wrong("venv", error);
            println!(
                "         {:<12} Or play the tour, which makes one: cargo run --release",
                ""
            );
            return None;
        }
    };
    let of_patch = of_another_patch(env.python_version(), linked.version());
    checks.ok("venv", format_args!("{}{of_patch}", env.prefix().display()));
    checks.ok(
        "DSPy",
        format_args!("{}, of {DSPY_REQUIREMENT}", env.dspy_version()),
    );

    let host = checks.take("host", start_host(&env).await)?;
    let about = host.function("tour.doctor:about", None).await;
    let about = checks.take("host", about)?;
    let about = checks.take("host", about.call(json!({})).await)?;
    let says = |name: &str| about.get(name).and_then(Value::as_str).unwrap_or("?");
    let (python, dspy) = (says("python"), says("dspy"));
    // What was read from files, against what runs.
    if feature(python) == feature(linked.version()) && dspy == env.dspy_version() {
        let of_patch = of_another_patch(linked.version(), python);
        checks.ok(
            "host",
            format_args!("runs Python {python} with DSPy {dspy}{of_patch}"),
        );
    } else {
        checks.wrong(
            "host",
            format_args!(
                "it runs Python {python} with DSPy {dspy}, not the ones above: another libpython \
                 was loaded. Unset LD_LIBRARY_PATH and PYTHONHOME, or build again: cargo clean"
            ),
        );
    }
    Some(host)
}

/// A Python's version without its patch release, which fits all others of the same.
fn feature(version: &str) -> Option<(&str, &str)> {
    let (major, rest) = version.split_once('.')?;
    Some((major, rest.split('.').next()?))
}

/// What is said of something made by Python `made` that runs on `runs`.
fn of_another_patch(made: &str, runs: &str) -> String {
    // Some makers of venvs write `3.11.7.final.0`.
    if made.split('.').take(3).eq(runs.split('.').take(3)) {
        return String::new();
    }
    format!(" (made by Python {made}, runs on {runs}: patch releases of one version fit)")
}

async fn check_lm(checks: &mut Checks, host: Host, lm: Option<RealLm>) {
    let real = lm.clone();
    let Some(stage) = checks.take("LM", Stage::new(host, lm).await) else {
        return;
    };
    // A prediction, not only a connection: it shows that the model and the key are right too.
    let answerer = stage.answerer("doctor", Reply::answer("yes")).await;
    let Some(answerer) = checks.take("LM", answerer) else {
        return;
    };
    let service = ServiceBuilder::new().deadline(LIMIT).service(answerer);
    let asked = ask(service, question("Say yes.")).await;
    match &asked.result {
        Ok(_) => {
            checks.ok(
                "LM",
                format_args!("{} answered in {}", stage.lm_name(), time(asked.took)),
            );
            check_stopping(checks, &stage, real.as_ref()).await;
        }
        Err(error) => {
            let url = real.map_or_else(|| "the scripted LM".to_owned(), |lm| lm.url);
            checks.wrong(
                "LM",
                format_args!(
                    "{}. {}",
                    first_line(error),
                    remedy(error, &url, asked.failure())
                ),
            );
        }
    }
}

/// Measures whether the LM's server stops an answer whose connection is closed.
async fn check_stopping(checks: &mut Checks, stage: &Stage, real: Option<&RealLm>) {
    let what = "LM stops";
    let Some(real) = real else {
        return checks.skipped(
            what,
            "--lm URL --model NAME measures whether closing a connection stops the generation",
        );
    };
    let lm = stage.lm("doctor", Reply::answer("yes"));
    let Some(server) = checks.take(what, ChatClient::new(&lm, &real.url)) else {
        return;
    };
    match StoppingLimits::default().measure(&server).await {
        stopped @ Stopping::Stopped { .. } => checks.ok(what, stopped),
        unknown @ Stopping::Unknown(_) => checks.skipped(what, &unknown.to_string()),
        went_on @ Stopping::WentOn { .. } => checks.warning(
            what,
            format_args!(
                "{went_on}. You pay for that: limit it by max_tokens, and if the server takes a \
                 request to stop, send that by Lm::abort"
            ),
        ),
    }
}

/// What may help.
fn remedy(error: &Error, url: &str, kind: Option<ErrorKind>) -> String {
    let status = match error {
        Error::Lm(lm) => lm.status(),
        _ => None,
    };
    match (kind, status) {
        (_, Some(401 | 403)) => "Give the key by --key-env VAR".into(),
        (_, Some(404)) => format!("Check --model, and that {url} ends where the API begins (/v1)"),
        (Some(ErrorKind::LmUnavailable), None) => format!("Is a server listening at {url}?"),
        (Some(ErrorKind::LmUnavailable), _) => "Try again later".into(),
        (Some(ErrorKind::Deadline), _) => format!("{url} did not answer; try again, or another LM"),
        _ => "Check --lm and --model".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patch_releases_are_of_one_version_and_said_to_differ() {
        assert_eq!(feature("3.11.6"), feature("3.11.7.final.0"));
        assert_ne!(feature("3.11.6"), feature("3.12.6"));
        assert_ne!(feature("3.1.16"), feature("3.11.6"));
        assert_eq!(of_another_patch("3.11.7.final.0", "3.11.7"), "");
        let said = of_another_patch("3.11.6", "3.11.7");
        assert!(said.contains("3.11.6") && said.contains("3.11.7"), "{said}");
    }
}
