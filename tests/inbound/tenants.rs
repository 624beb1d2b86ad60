//! Each route of a program makes its calls for the tenant in the request's extensions.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Body};
use futures_util::stream;
use http::Request;
use serde_json::{Value, json};
use tower::{ServiceExt, service_fn};
use tower_dspy::{
    Error, InboundLayer, PredictRequest, Prediction, PredictionStream, StreamEvent, Tenant,
    inbound::axum::{
        predict, predict_typed,
        stream::{ChatFields, ChatPrograms, chat_completions, predict_stream, ui_messages},
    },
};

use super::support::body;

type Tenants = Arc<Mutex<Vec<Option<Tenant>>>>;

/// All routes, around programs that note for whom they are called.
fn app(tenants: &Tenants) -> Router {
    let noted = tenants.clone();
    let note = move |request: &PredictRequest| {
        noted.lock().unwrap().push(request.tenant().cloned());
        Prediction::new([("answer".to_owned(), json!("blue"))].into_iter().collect())
    };
    let streamed = note.clone();
    let whole = service_fn(move |request: PredictRequest| {
        let prediction = note(&request);
        async { Ok::<_, Error>(prediction) }
    });
    let streaming = service_fn(move |request: PredictRequest| {
        let done = StreamEvent::Done(Box::new(streamed(&request)));
        async { Ok::<_, Error>(PredictionStream::new(stream::iter([Ok(done)]))) }
    });
    let fields = ChatFields::new("question", "answer");
    let chat = ChatPrograms::new().program("qa", fields.clone(), whole.clone(), streaming.clone());
    Router::new()
        .route("/whole", predict(whole.clone()))
        .route("/typed", predict_typed::<Value, Value, _, _>(whole.clone()))
        .route("/stream", predict_stream(whole, streaming.clone()))
        .route("/ui", ui_messages(streaming, fields))
        .merge(chat_completions(chat))
        .layer(InboundLayer::new())
}

#[tokio::test]
async fn every_route_takes_the_tenant_of_the_extensions() {
    let tenants = Tenants::default();
    let app = app(&tenants);
    let inputs = json!({"question": "why", "tenant": "of the client"});
    let parts = json!([{"type": "text", "text": "why"}]);
    let ui = json!({"messages": [{"role": "user", "parts": parts}]});
    let chat = |stream: bool| {
        let messages = json!([{"role": "user", "content": "why"}]);
        json!({"model": "qa", "messages": messages, "stream": stream, "user": "of the client"})
    };
    for (path, accept, asked) in [
        ("/whole", "application/json", inputs.clone()),
        ("/typed", "application/json", inputs.clone()),
        ("/stream", "application/json", inputs.clone()),
        ("/stream", "text/event-stream", inputs),
        ("/ui", "*/*", ui),
        ("/v1/chat/completions", "*/*", chat(false)),
        ("/v1/chat/completions", "*/*", chat(true)),
    ] {
        for tenant in [Some(Tenant::new("acme")), None] {
            let mut request = Request::post(path)
                .header("content-type", "application/json")
                .header("accept", accept)
                .body(Body::from(asked.to_string()))
                .unwrap();
            if let Some(tenant) = tenant.clone() {
                request.extensions_mut().insert(tenant);
            }
            let response = app.clone().oneshot(request).await.unwrap();
            assert!(response.status().is_success(), "{path}");
            body(response).await;
            assert_eq!(
                tenants.lock().unwrap().drain(..).collect::<Vec<_>>(),
                [tenant],
                "{path}"
            );
        }
    }
}
