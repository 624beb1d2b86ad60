//! The scripted LM, which is set and read over HTTP.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, put},
};
use serde_json::{Value, json};
use tower_dspy::testing::scripted_lm::{Gate, Reply, ScriptedLm};

const MODEL: &str = "small";

#[derive(Clone)]
pub(crate) struct Scripted {
    lm: Arc<ScriptedLm>,
    /// What a held answer waits for.
    gate: Arc<Mutex<Gate>>,
}

pub(crate) async fn start() -> io::Result<Scripted> {
    let scripted = Scripted {
        lm: Arc::new(ScriptedLm::start().await?),
        gate: Arc::default(),
    };
    scripted.lm.script(MODEL, answer());
    Ok(scripted)
}

fn answer() -> Reply {
    Reply::answer("Air scatters short waves more than long ones: Rayleigh scattering")
        .delay(Duration::from_millis(20))
}

impl Scripted {
    pub(crate) fn base_url(&self) -> &str {
        self.lm.base_url()
    }

    /// `GET /lm` counts the requests of the LM by what became of them; `PUT /lm/..` sets what it does.
    pub(crate) fn into_router(self) -> Router {
        Router::new()
            .route("/lm", get(counts))
            .route("/lm/{behaviour}", put(set))
            .with_state(self)
    }
}

async fn counts(State(scripted): State<Scripted>) -> Json<Value> {
    let counts = scripted.lm.summary(MODEL);
    Json(json!({
        "requests": counts.requests,
        "running": counts.running,
        "answered": counts.answered,
        "client_gone": counts.client_gone,
    }))
}

async fn set(State(scripted): State<Scripted>, Path(behaviour): Path<String>) -> StatusCode {
    let mut gate = scripted.gate.lock().unwrap_or_else(PoisonError::into_inner);
    let reply = match behaviour.as_str() {
        "answer" => answer(),
        "hang" => Reply::hang(),
        // Until `open`, in the middle of its answer.
        "hold" => {
            *gate = Gate::new();
            answer().pause_after(12, &gate)
        }
        "open" => {
            gate.open();
            return StatusCode::OK;
        }
        _ => return StatusCode::NOT_FOUND,
    };
    scripted.lm.script(MODEL, reply);
    StatusCode::OK
}
