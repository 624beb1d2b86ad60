//! How do I see what a server does, and what goes wrong in it?
//!
//! Run: `cargo run --release --example operate`. It serves a program on worker processes, asks it
//! itself 20 times a second, and has its metrics at <http://127.0.0.1:8080/metrics>; see README.md
//! here for Prometheus and Grafana. Then make something go wrong:
//!
//! ```sh
//! curl -X PUT localhost:8080/fault/slow     # or one of the others
//! curl -X PUT localhost:8080/fault/none
//! ```
//!
//! It talks to a scripted LM on loopback. The venv is `$VIRTUAL_ENV`, or `.venv` here or above.

mod fault;
mod load;

use std::{env, error::Error, str::FromStr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Path,
    http::StatusCode,
    routing::{get, put},
};
use fault::{Fault, Faults};
use lexopt::{Arg, Parser, ValueExt};
use serde_json::json;
use tokio::net::TcpListener;
use tower::{BoxError, ServiceBuilder};
use tower_dspy::{
    CancelLayer, DeadlineLayer, HedgeLayer, Host, InboundLayer, Lm, Price, RetryBudget, RetryLayer,
    Tool, ToolCall, TrackLayer, Tracker,
    inbound::axum::{PrometheusMetrics, liveness, predict},
    layers::RetryBudgetOptions,
    metrics::Gauges,
    server::serve,
    testing::scripted_lm::ScriptedLm,
};

struct Options {
    calls_per_second: u32,
    fault: Fault,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    // Before the first call: what is emitted without an exporter is lost.
    let metrics = PrometheusMetrics::install()?;

    let scripted = Arc::new(ScriptedLm::start().await?);
    let faults = Faults::new(scripted.clone(), options.fault);
    let host = Host::workers(1)
        .kill_after(Duration::from_secs(6))
        .retire_after(Duration::from_secs(15))
        .start()
        .await?;
    let lm = Lm::new("openai/small")
        .base_url(scripted.base_url())
        .key("none")
        .price(Price::per_million(0.15, 0.60));
    let look_up = Tool::new("look_up", "Finds facts.", |_: ToolCall| async {
        Ok::<_, BoxError>("Air scatters blue light.")
    })
    .argument("topic", json!({"type": "string"}));
    let program = host
        .load_source(include_str!("program.py"), "Program")
        .lm(lm)
        .tool(look_up)
        .max_in_flight(64)
        .max_waiting(32)
        .await?;

    let tracker = Tracker::new();
    let budget = RetryBudget::new(RetryBudgetOptions::permille(100).with_reserve(1));
    let track = TrackLayer::new(tracker.clone()).with_label("qa");
    let qa = ServiceBuilder::new()
        .layer(track.clone())
        .layer(DeadlineLayer::new(Duration::from_secs(2)))
        .layer(CancelLayer::new())
        .layer(RetryLayer::new(2).with_budget(budget.clone()))
        .layer(HedgeLayer::after(Duration::from_millis(500)))
        .service(program.clone());
    let streamed = ServiceBuilder::new()
        .layer(track)
        .layer(DeadlineLayer::new(Duration::from_secs(2)))
        .service(program.streaming());

    let gauges = Gauges::new()
        .observe_host(&host)
        .observe_program("qa", env!("CARGO_PKG_VERSION"), &program)
        .observe_tracker("qa", &tracker)
        .observe_budget("qa", &budget);
    let rate = options.calls_per_second;
    let load = tokio::spawn(load::run(qa.clone(), streamed, faults.clone(), rate));

    let set_fault = async move |Path(name): Path<String>| match Fault::from_str(&name) {
        Ok(fault) => {
            faults.set(fault);
            (StatusCode::OK, name)
        }
        Err(names) => (StatusCode::NOT_FOUND, names),
    };
    let app = Router::new()
        .route("/qa", predict(qa))
        .layer(InboundLayer::new().max(Duration::from_secs(30)))
        .route("/fault/{name}", put(set_fault))
        .route("/livez", get(liveness))
        .route("/readyz", get(host.readiness()))
        .merge(metrics.into_router(gauges));
    let address = env::var("ADDRESS").unwrap_or("127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    eprintln!("http://{}", listener.local_addr()?);
    let report = serve(listener, app, host.shutdown(Duration::from_secs(2))).await?;
    load.abort();
    eprintln!("{report}");
    Ok(())
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        calls_per_second: 20,
        fault: Fault::None,
    };
    let mut args = Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("rate") => options.calls_per_second = args.value()?.parse()?,
            Arg::Long("fault") => options.fault = args.value()?.parse()?,
            Arg::Long("help") => {
                println!("operate [--rate CALLS_PER_SECOND] [--fault NAME]");
                std::process::exit(0);
            }
            arg => return Err(arg.unexpected().into()),
        }
    }
    Ok(options)
}
