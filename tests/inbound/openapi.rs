//! The OpenAPI document of programs behind routes.

use std::collections::BTreeMap;

use axum::{Router, body::Body};
use futures_util::stream;
use http::{HeaderName, Request, StatusCode};
use serde_json::{Value, json};
use tower::{ServiceExt, service_fn};
use tower_dspy::{
    Error, ErrorKind, PredictRequest, PredictionStream, StreamEvent,
    inbound::{
        axum::{Programs, stream::StreamOptions},
        respond::ErrorResponse,
    },
    service::Schema,
    testing::{
        error_of,
        mock::{MockDspy, Reply},
    },
};
use utoipa::openapi::OpenApi;

use super::support::{body, json as read};

fn schema() -> Schema {
    serde_json::from_value(json!({
        "inputs": [
            {"name": "question", "required": true, "expected": "str",
             "types": ["string", "string_array"]},
            {"name": "k", "required": false, "expected": "int", "types": ["integer"]},
            {"name": "more", "required": false, "expected": "any JSON value", "types": null},
        ],
        "outputs": ["answer", "score", "note"],
        "output_types": [["string"], ["number"], ["null", "string"]],
    }))
    .unwrap()
}

fn programs(mock: &MockDspy) -> Programs {
    let raw: Schema = serde_json::from_value(json!({"inputs": [], "outputs": null})).unwrap();
    Programs::new("questions", "1.2.3")
        .program("/qa", &schema(), mock.clone())
        .timeout_header(HeaderName::from_static("x-my-limit"))
        .program("/a/raw", &raw, mock.clone())
}

async fn get(app: &Router, path: &str) -> Value {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    read(response).await
}

#[tokio::test]
async fn the_document_describes_the_inputs_and_outputs_of_programs() {
    let mock = MockDspy::new([Reply::answer(json!({"answer": "so"}))]);
    let app = programs(&mock).into_router();
    let document = get(&app, "/openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    assert_eq!(document["info"]["title"], "questions");
    assert_eq!(document["info"]["version"], "1.2.3");

    let qa = &document["paths"]["/qa"]["post"];
    assert_eq!(qa["operationId"], "qa");
    let limit = &qa["parameters"][0];
    assert_eq!(limit["name"], "x-request-timeout");
    assert_eq!(
        (&limit["in"], &limit["required"]),
        (&json!("header"), &json!(false))
    );
    let inputs = &qa["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(qa["requestBody"]["required"], true);
    assert_eq!(inputs["required"], json!(["question"]));
    assert_eq!(inputs["additionalProperties"], false);
    assert_eq!(
        inputs["properties"]["question"]["anyOf"],
        json!([{"type": "string"}, {"type": "array", "items": {"type": "string"}}])
    );
    assert_eq!(
        inputs["properties"]["k"],
        json!({"type": "integer", "description": "int"})
    );
    assert_eq!(
        inputs["properties"]["more"],
        json!({"description": "any JSON value"})
    );
    let answer = &qa["responses"]["200"]["content"]["application/json"]["schema"];
    let outputs = &answer["properties"]["outputs"];
    assert_eq!(outputs["required"], json!(["answer", "score", "note"]));
    assert_eq!(outputs["properties"]["score"], json!({"type": "number"}));

    let raw = &document["paths"]["/a/raw"]["post"];
    assert_eq!(raw["operationId"], "a_raw");
    assert_eq!(raw["parameters"][0]["name"], "x-my-limit");
    let answer = &raw["responses"]["200"]["content"]["application/json"]["schema"];
    assert_eq!(answer["properties"]["outputs"]["type"], "object");

    let request = Request::post("/qa").header("content-type", "application/json");
    let request = request.body(Body::from("{\"question\":\"?\"}")).unwrap();
    let response = app.oneshot(request).await.unwrap();
    assert_eq!(read(response).await["outputs"]["answer"], "so");
}

#[tokio::test]
async fn an_openapi_parser_reads_the_whole_document() {
    // utoipa writes a schema that says nothing, for any value, and does not read it.
    let mut typed = schema();
    typed.inputs.retain(|field| field.name != "more");
    let mock = MockDspy::new([Reply::hang()]);
    let programs = Programs::new("questions", "1").program("/qa", &typed, mock);
    let document = get(&programs.into_router(), "/openapi.json").await;
    let read: OpenApi = serde_json::from_value(document.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), document);
}

#[tokio::test]
async fn every_possible_status_is_in_the_document() {
    let app = programs(&MockDspy::new([Reply::hang()])).into_router();
    let document = get(&app, "/openapi.json").await;
    let responses = &document["paths"]["/qa"]["post"]["responses"];
    let told: BTreeMap<String, Value> = serde_json::from_value(responses.clone()).unwrap();
    let statuses: Vec<_> = told.keys().map(String::as_str).collect();
    assert_eq!(
        statuses,
        [
            "200", "400", "402", "408", "413", "415", "422", "429", "499", "500", "502", "503",
            "504"
        ]
    );
    let kinds = &document["components"]["schemas"]["Problem"]["properties"]["kind"]["enum"];
    let kinds: Vec<ErrorKind> = serde_json::from_value(kinds.clone()).unwrap();
    assert_eq!(kinds.len(), 12);
    for kind in kinds {
        let response = match error_of(kind) {
            Some(error) => ErrorResponse::of(error),
            None => ErrorResponse::of_kind(kind),
        };
        let told = &told[response.status().as_str()];
        assert_eq!(
            told["content"]["application/problem+json"]["schema"]["$ref"],
            "#/components/schemas/Problem"
        );
    }
    assert!(told["503"]["headers"]["Retry-After"].is_object());
    for status in ["200", "422", "503", "504"] {
        assert!(told[status]["headers"]["x-call-id"].is_object(), "{status}");
    }
}

#[tokio::test]
async fn a_program_that_streams_has_both_types_of_an_answer() {
    let mock = MockDspy::new([Reply::answer(json!({"answer": "so"}))]);
    let streaming = service_fn(|_: PredictRequest| async {
        let done = StreamEvent::Done(Box::default());
        Ok::<_, Error>(PredictionStream::new(stream::iter([Ok(done)])))
    });
    let app = Programs::new("questions", "1")
        .stream_options(StreamOptions::new().without_tools())
        .program_stream("/qa", &schema(), mock, streaming)
        .into_router();
    let document = get(&app, "/openapi.json").await;
    let content = &document["paths"]["/qa"]["post"]["responses"]["200"]["content"];
    assert_eq!(content["text/event-stream"]["schema"]["type"], "string");
    assert_eq!(content["application/json"]["schema"]["type"], "object");

    for (accept, expected) in [
        ("text/event-stream", "event: done"),
        ("application/json", "{\"outputs\":{\"answer\":\"so\"}"),
    ] {
        let request = Request::post("/qa")
            .header("content-type", "application/json")
            .header("accept", accept)
            .body(Body::from("{\"question\":\"?\"}"))
            .unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let body = body(response).await;
        assert!(body.starts_with(expected.as_bytes()), "{body:?}");
    }
}
