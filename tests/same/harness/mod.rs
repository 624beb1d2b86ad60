//! The differential run: the rows of the corpus, on the plain side and on each of the host's.

mod compare;
mod corpus;
mod hosted;
mod modules;
mod packages;
mod plain;
mod report;
mod server;

use serde_json::Value;

pub(crate) use self::report::Report;
use self::{corpus::Row, hosted::Side, modules::Modules, server::Server};

/// How a program ended.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    Outputs(Value),
    Error(Failure),
    /// The host refused to load the program, or plain Python did not import it.
    NotLoaded(String),
}

/// An exception, as far as it is to be the same on both sides.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
struct Failure {
    /// The name of its class.
    #[serde(rename = "type")]
    class: String,
    /// The HTTP status of an LM's error.
    status: Option<u16>,
    /// Seconds that the provider asked to be left alone, if DSPy read them.
    retry_after: Option<f64>,
    /// For the report; not compared.
    message: String,
}

impl Failure {
    /// Whether both are the same to a caller. A pause until a date depends on when it is read.
    fn is_as(&self, other: &Self) -> bool {
        let pauses = match (self.retry_after, other.retry_after) {
            (Some(one), Some(other)) => (one - other).abs() <= one * 1e-6,
            (one, other) => one == other,
        };
        self.class == other.class && self.status == other.status && pauses
    }
}

/// Whether a program is called by its `aforward` or by its `forward`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Form {
    Async,
    Sync,
}

/// Runs the rows that `only` names, all if it is empty, on all sides.
pub(crate) async fn run(only: &str) -> Report {
    let rows = corpus::read(only);
    let server = Server::start(&rows).await;
    let packages = packages::installed().await;
    let modules = Modules::write(&rows, &server);
    let plain = plain::run(&rows, &server, &packages, &modules).await;
    for run in &plain {
        if let Outcome::NotLoaded(problem) = &run.outcome {
            panic!("plain Python does not load `{}`: {problem}", run.row);
        }
    }
    let mut report = Report::default();
    let hosts = hosted::Hosts::start(&packages, &modules).await;
    for row in &rows {
        let runs: Vec<_> = plain.iter().filter(|run| run.row == row.name).collect();
        let natural = plain::natural(&runs);
        let run = async |side: Side| {
            let form = side.form(natural.form);
            let expected = runs.iter().find(|run| run.form == form)?;
            let hosted = hosts.run(side, row, &server, form != natural.form).await;
            Some((side, expected, hosted))
        };
        let embedded = async { [run(Side::Loop).await, run(Side::Threads).await] };
        let (embedded, worker) = tokio::join!(embedded, run(Side::Worker));
        for (side, expected, hosted) in embedded.into_iter().chain([worker]).flatten() {
            report.compared(row, side, expected, &hosted, &server);
        }
    }
    hosts.stop().await;
    report
}

/// Runs the plain side alone and prints what each row sent and came to.
pub(crate) async fn print_plain(only: &str) {
    let rows = corpus::read(only);
    let server = Server::start(&rows).await;
    let packages = packages::installed().await;
    let modules = Modules::write(&rows, &server);
    for run in plain::run(&rows, &server, &packages, &modules).await {
        println!("{} {:?}: {}", run.row, run.form, show(&run.outcome));
        for seen in server.seen(run.side(), &run.row) {
            println!("    {}", seen.summary());
        }
    }
}

fn show(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Outputs(outputs) => outputs.to_string(),
        Outcome::Error(failure) => format!(
            "{} (status {:?}, retry after {:?}): {}",
            failure.class,
            failure.status,
            failure.retry_after,
            failure.message.lines().next().unwrap_or_default()
        ),
        Outcome::NotLoaded(problem) => format!("not loaded: {problem}"),
    }
}
