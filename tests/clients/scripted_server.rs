//! A server of a scripted program, for the clients in `.ci/stream_clients.py`: it streams text,
//! thinking, tools and statuses, and fails or stalls if the question says so.
//!
//! Run: `cargo run --example scripted_stream_server`

use std::{error::Error as StdError, future::pending, time::Duration};

use axum::Router;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::sleep};
use tower::ServiceBuilder;
use tower_dspy::{
    DeadlineLayer, Error, ErrorKind, InboundLayer, LmError, PredictRequest, Prediction,
    PredictionStream, Shutdown, StreamEvent, drop_scope,
    inbound::axum::stream::{ChatFields, ChatPrograms, StreamOptions},
    server::{GracefulShutdown, serve},
    testing::error_of,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let limit = || DeadlineLayer::new(Duration::from_secs(30));
    let whole = ServiceBuilder::new()
        .layer(limit())
        .service_fn(|request: PredictRequest| async move { script(&request)?.prediction().await });
    let streaming = ServiceBuilder::new()
        .layer(limit())
        .service_fn(|request: PredictRequest| async move { script(&request) });

    // The input that takes the user's message, that for the turns before it, and the outputs that are
    // shown as the answer and as reasoning.
    let fields = ChatFields::new("question", "answer")
        .history("history")
        .reasoning("reasoning");
    let programs =
        ChatPrograms::new().program("qa", fields.clone(), whole.clone(), streaming.clone());
    let options = StreamOptions::new().with_head_after(Some(Duration::from_secs(2)));
    let app: Router = Router::new()
        .route("/qa", options.predict_stream(whole, streaming.clone()))
        .route("/api/chat", options.ui_messages(streaming, fields))
        .merge(options.chat_completions(programs))
        .layer(InboundLayer::new().max(Duration::from_secs(60)));

    let address = std::env::var("ADDRESS").unwrap_or("127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    eprintln!("http://{}", listener.local_addr()?);
    let shutdown = GracefulShutdown::new(Shutdown::new(), Duration::from_secs(20));
    eprintln!("{}", serve(listener, app, shutdown).await?);
    Ok(())
}

/// The answer to a question, as a program would write it; some questions make it fail or stall.
fn script(request: &PredictRequest) -> Result<PredictionStream, Error> {
    let question = request.inputs()["question"].as_str().unwrap_or_default();
    let error = match question {
        "busy" => {
            let wait = Some(Duration::from_secs(7));
            return Err(LmError::new("LMRateLimitError", "", Some(429), wait).into());
        }
        "deadline" => error_of(ErrorKind::Deadline),
        "lost" => error_of(ErrorKind::Lost),
        _ => None,
    };
    let mut events = vec![
        event(StreamEvent::Status {
            message: "Searching".into(),
        }),
        event(StreamEvent::Thinking {
            lm_call: 1,
            predictor: "react".into(),
            delta: "The user wants to know.".into(),
        }),
        event(StreamEvent::ToolCall {
            id: 1,
            name: "search".into(),
            arguments: json!({ "query": question }),
        }),
        event(StreamEvent::ToolResult {
            id: 1,
            name: "search".into(),
            result: Ok(json!(["light", "air"])),
        }),
    ];
    let mut lm_call = 2;
    if question == "drafts" {
        events.push(text(1, "answer", "A draft"));
        events.push(text(lm_call, "reasoning", "It is wrong."));
    }
    if ["restart", "drafts"].contains(&question) {
        events.push(text(lm_call, "answer", "It is all "));
        events.push(event(StreamEvent::Restart {
            lm_call,
            predictor: "qa".into(),
        }));
        lm_call = 3;
    }
    events.push(text(
        lm_call,
        "reasoning",
        "Short waves are scattered more.",
    ));
    events.extend(
        ["Rayleigh", " scattering", ",\n“größer”"].map(|delta| text(lm_call, "answer", delta)),
    );
    if question == "stall" {
        events.truncate(events.len() - 2);
        let stalled = StalledStream;
        let end = stream::once(async move {
            let _reported = stalled;
            pending().await
        });
        return Ok(PredictionStream::new(stream::iter(events).chain(end)));
    }
    let end = error.map_or_else(|| event(done(request.inputs())), Err);
    let end = stream::once(async move {
        sleep(Duration::from_millis(50)).await;
        end
    });
    Ok(PredictionStream::new(stream::iter(events).chain(end)))
}

/// Reports why the stream was dropped.
struct StalledStream;

impl Drop for StalledStream {
    fn drop(&mut self) {
        eprintln!("a stalled stream ends: {:?}", drop_scope::cause());
    }
}

const fn event(event: StreamEvent) -> Result<StreamEvent, Error> {
    Ok(event)
}

fn text(lm_call: u64, field: &str, delta: &str) -> Result<StreamEvent, Error> {
    event(StreamEvent::Text {
        lm_call,
        predictor: "qa".into(),
        field: field.into(),
        delta: delta.into(),
    })
}

fn done(inputs: &Value) -> StreamEvent {
    let turns = inputs["history"]["messages"].as_array().map_or(0, Vec::len);
    let outputs = [
        (
            "reasoning".to_owned(),
            json!("Short waves are scattered more."),
        ),
        ("answer".to_owned(), json!("Rayleigh scattering,\n“größer”")),
        ("turns".to_owned(), json!(turns)),
    ];
    let mut prediction = Prediction::new(outputs.into_iter().collect());
    prediction.usage.prompt_tokens = 9;
    prediction.usage.completion_tokens = 2;
    prediction.usage.total_tokens = 11;
    StreamEvent::Done(Box::new(prediction))
}
