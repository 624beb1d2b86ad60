//! [`Programs`]: programs behind a route each, and the OpenAPI document of them.

mod failures;

use ::axum::{Json, Router, routing::get};
use http::HeaderName;
use serde_json::{Map, Value, json};
use tower::{BoxError, Service};

use super::predict;
use crate::{
    call::deadline::RequestTimeout,
    error::Classify,
    request::{PredictRequest, Prediction},
    service::{JsonType, Schema},
};

/// Programs behind routes, each as [`predict`] serves it, and `GET /openapi.json`, an OpenAPI
/// document of what they take, what they give, and how they fail.
///
/// The document is made of the fields and types that DSPy knows of each program, and of the
/// [table](crate::inbound::respond) of statuses.
///
/// ```no_run
/// use std::time::Duration;
/// use axum::Router;
/// use tower::ServiceBuilder;
/// use tower_dspy::{DeadlineLayer, Host, InboundLayer, inbound::axum::Programs};
///
/// # async fn example(host: Host) -> Result<(), Box<dyn std::error::Error>> {
/// let qa = host.load("question, k: int -> answer, sources: list[str]").await?;
/// let schema = qa.schema().clone();
/// let qa = ServiceBuilder::new()
///     .layer(DeadlineLayer::new(Duration::from_secs(10)))
///     .service(qa);
///
/// let app: Router = Programs::new("questions", env!("CARGO_PKG_VERSION"))
///     .program("/qa", &schema, qa)
///     .into_router()
///     .layer(InboundLayer::new().max(Duration::from_secs(30)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "it becomes a router by `into_router`"]
pub struct Programs<T = ()> {
    title: String,
    version: String,
    paths: Map<String, Value>,
    header: HeaderName,
    router: Router<T>,
}

impl<T: Clone + Send + Sync + 'static> Programs<T> {
    /// None yet; the document will have this title, and say that the API is of this version.
    pub fn new(title: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            version: version.into(),
            paths: Map::new(),
            header: RequestTimeout::HEADER,
            router: Router::new(),
        }
    }

    /// The header by which a client says how long it waits, if
    /// [`InboundLayer::header`](crate::InboundLayer::header) is given another than
    /// `x-request-timeout`; for the programs that are added from now on.
    pub fn timeout_header(mut self, name: HeaderName) -> Self {
        self.header = name;
        self
    }

    /// Serves POST requests to `path` by `service`, a program with this schema.
    ///
    /// # Panics
    /// If the path is there already, or does not begin with a slash: as axum's `Router::route`.
    pub fn program<S>(mut self, path: &str, schema: &Schema, service: S) -> Self
    where
        S: Service<PredictRequest, Response = Prediction> + Clone + Send + Sync + 'static,
        S::Error: Classify + Into<BoxError>,
        S::Future: Send,
    {
        let mut responses = failures::by_status();
        let answer = json!({
            "description": "The program's prediction",
            "content": {"application/json": {"schema": prediction(schema)}},
        });
        responses.insert("200".into(), answer);
        let body = json!({"application/json": {"schema": inputs(schema)}});
        let operation = json!({
            "operationId": path.trim_matches('/').replace('/', "_"),
            "parameters": [timeout(&self.header)],
            "requestBody": {"required": true, "content": body},
            "responses": responses,
        });
        self.paths.insert(path.into(), json!({"post": operation}));
        self.router = self.router.route(path, predict(service));
        self
    }

    /// The document.
    #[must_use]
    pub fn openapi(&self) -> Value {
        json!({
            "openapi": "3.1.0",
            "info": {"title": self.title, "version": self.version},
            "paths": self.paths,
            "components": {"schemas": {"Problem": failures::problem(), "Usage": usage()}},
        })
    }

    /// The routes of the programs, and that of the document.
    pub fn into_router(self) -> Router<T> {
        let document = self.openapi();
        let answer = move || std::future::ready(Json(document.clone()));
        self.router.route("/openapi.json", get(answer))
    }
}

fn timeout(header: &HeaderName) -> Value {
    json!({
        "name": header.as_str(),
        "in": "header",
        "required": false,
        "description": "How long the client waits: seconds, as `2` or `2.5`, or with a unit, as \
                        `1500ms`. When that has passed the work is stopped.",
        "schema": {"type": "string"},
    })
}

/// What a request's body is.
fn inputs(schema: &Schema) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for field in &schema.inputs {
        let mut value = typed(field.types.as_deref());
        value["description"] = field.expected.as_str().into();
        properties.insert(field.name.clone(), value);
        if field.required {
            required.push(&field.name);
        }
    }
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// What an answer's body is.
fn prediction(schema: &Schema) -> Value {
    let outputs = match schema.typed_outputs() {
        None => json!({
            "type": "object",
            "description": "The program's own: only running it tells its fields.",
        }),
        Some(fields) => {
            let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
            let values = fields.iter().map(|(_, types)| typed(*types));
            let properties: Map<_, _> = names
                .iter()
                .copied()
                .map(String::from)
                .zip(values)
                .collect();
            json!({"type": "object", "properties": properties, "required": names})
        }
    };
    let count = |what: &str| json!({"type": "integer", "minimum": 0, "description": what});
    json!({
        "type": "object",
        "properties": {
            "outputs": outputs,
            "usage": {"$ref": "#/components/schemas/Usage"},
            "lm_calls": count("How many LM calls there were."),
            "lm_calls_bypassed": count("How many more went past the server."),
            "elapsed_ms": count("How long it took."),
            "stale_age_ms": count("The age of an earlier answer that stands in for one."),
        },
        "required": ["outputs", "usage", "lm_calls", "lm_calls_bypassed", "elapsed_ms"],
    })
}

fn usage() -> Value {
    let count = json!({"type": "integer", "minimum": 0});
    json!({
        "type": "object",
        "description": "The tokens of all LM calls.",
        "properties": {"prompt_tokens": count, "completion_tokens": count, "total_tokens": count},
        "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
    })
}

/// A value of one of these types; of any if none are known.
fn typed(types: Option<&[JsonType]>) -> Value {
    match types {
        None | Some([]) => json!({}),
        Some([only]) => one(only),
        Some(several) => json!({"anyOf": several.iter().map(one).collect::<Vec<_>>()}),
    }
}

fn one(json: &JsonType) -> Value {
    match json {
        JsonType::Null => json!({"type": "null"}),
        JsonType::Boolean => json!({"type": "boolean"}),
        JsonType::Integer => json!({"type": "integer"}),
        JsonType::Number => json!({"type": "number"}),
        JsonType::String => json!({"type": "string"}),
        JsonType::Object => json!({"type": "object"}),
        JsonType::StringArray => json!({"type": "array", "items": {"type": "string"}}),
        JsonType::Array => json!({"type": "array", "items": {}}),
        JsonType::Unknown => json!({}),
    }
}
