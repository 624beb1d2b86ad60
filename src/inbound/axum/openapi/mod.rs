//! [`Programs`]: programs behind a route each, and the OpenAPI document of them.

mod failures;

use ::axum::{
    Json, Router,
    routing::{MethodRouter, get},
};
use http::HeaderName;
use tower::{BoxError, Service};
use utoipa::openapi::{
    Content, HttpMethod, Info, Object, ObjectBuilder, OpenApi, OpenApiBuilder, Paths, Ref, RefOr,
    Required, Response, ResponseBuilder, Schema as JsonSchema, Type,
    path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
    request_body::RequestBodyBuilder,
    schema::{AdditionalProperties, AnyOfBuilder, ArrayBuilder, ComponentsBuilder, SchemaType},
};

use super::{predict, stream::StreamOptions};
use crate::{
    call::{CallId, deadline::RequestTimeout},
    error::Classify,
    request::{PredictRequest, Prediction},
    service::{JsonType, Schema},
    stream::PredictionStream,
};

const USAGE: &str = "Usage";
const COST: &str = "Cost";

/// Programs behind routes, each as [`predict`] serves it, and `GET /openapi.json`, which tells what
/// they take, what they give, and how they fail (feature `openapi`).
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
///
/// With documents of your own, made by utoipa, [`openapi`](Self::openapi) goes into
/// `OpenApi::merge`.
#[derive(Debug)]
#[must_use = "it becomes a router by `into_router`"]
pub struct Programs<T = ()> {
    info: Info,
    paths: Paths,
    header: HeaderName,
    stream_options: StreamOptions,
    router: Router<T>,
}

impl<T: Clone + Send + Sync + 'static> Programs<T> {
    /// None yet; the document will have this title, and say that the API is of this version.
    pub fn new(title: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            info: Info::new(title.into(), version.into()),
            paths: Paths::new(),
            header: RequestTimeout::HEADER,
            stream_options: StreamOptions::new(),
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

    /// How streams are sent; for the programs that are added from now on.
    pub const fn stream_options(mut self, options: StreamOptions) -> Self {
        self.stream_options = options;
        self
    }

    /// Serves POST requests to `path` by `service`, a program with this schema.
    ///
    /// # Panics
    /// If the path is there already, or does not begin with a slash: as axum's `Router::route`.
    pub fn program<S>(self, path: &str, schema: &Schema, service: S) -> Self
    where
        S: Service<PredictRequest, Response = Prediction> + Clone + Send + Sync + 'static,
        S::Error: Classify + Into<BoxError>,
        S::Future: Send,
    {
        let answer = json_answer(schema).build();
        self.route(path, schema, answer, predict(service))
    }

    /// Serves POST requests to `path` as [`predict_stream`](super::stream::predict_stream()) does: by
    /// `whole`, or as the program writes by `streaming`; both are a program with this schema.
    ///
    /// # Panics
    /// As [`program`](Self::program).
    pub fn program_stream<W, S>(self, path: &str, schema: &Schema, whole: W, streaming: S) -> Self
    where
        W: Service<PredictRequest, Response = Prediction> + Clone + Send + Sync + 'static,
        W::Error: Classify + Into<BoxError>,
        W::Future: Send,
        S: Service<PredictRequest, Response = PredictionStream> + Clone + Send + Sync + 'static,
        S::Error: Classify + Into<BoxError>,
        S::Future: Send,
    {
        let events = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(
                "Server-sent events, version 1 of `x-tower-dspy-stream`: `text`, `thinking`, \
                 `replace`, `restart`, `status`, `tool_call`, `tool_result`, and as the last one \
                 `done`, whose data is the JSON of this response, or `error`, whose data is a \
                 failure. Sent to clients that prefer this type.",
            ));
        let answer = json_answer(schema)
            .content("text/event-stream", Content::new(Some(events)))
            .build();
        let route = self.stream_options.predict_stream(whole, streaming);
        self.route(path, schema, answer, route)
    }

    fn route(
        mut self,
        path: &str,
        schema: &Schema,
        answer: Response,
        route: MethodRouter<T>,
    ) -> Self {
        let operation = OperationBuilder::new()
            .operation_id(Some(path.trim_matches('/').replace('/', "_")))
            .parameter(timeout(&self.header))
            .request_body(Some(
                RequestBodyBuilder::new()
                    .required(Some(Required::True))
                    .content("application/json", Content::new(Some(inputs(schema))))
                    .build(),
            ))
            .response("200", answer);
        let operation = failures::by_status()
            .into_iter()
            .fold(operation, |operation, (status, failure)| {
                operation.response(status, failure)
            });
        self.paths
            .add_path_operation(path, vec![HttpMethod::Post], operation);
        self.router = self.router.route(path, route);
        self
    }

    /// The document.
    #[must_use]
    pub fn openapi(&self) -> OpenApi {
        OpenApiBuilder::new()
            .info(self.info.clone())
            .paths(self.paths.clone())
            .components(Some(
                ComponentsBuilder::new()
                    .schema(failures::PROBLEM, failures::problem())
                    .schema(USAGE, usage())
                    .schema(COST, cost())
                    .build(),
            ))
            .build()
    }

    /// The routes of the programs, and that of the document.
    pub fn into_router(self) -> Router<T> {
        let document = self.openapi();
        let answer = move || std::future::ready(Json(document.clone()));
        self.router.route("/openapi.json", get(answer))
    }
}

fn timeout(header: &HeaderName) -> Parameter {
    ParameterBuilder::new()
        .name(header.as_str())
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "How long the client waits: seconds, as `2` or `2.5`, or with a unit, as `1500ms`. \
             When that has passed the work is stopped.",
        ))
        .schema(Some(Object::with_type(Type::String)))
        .build()
}

/// What a request's body is.
fn inputs(schema: &Schema) -> ObjectBuilder {
    let fields =
        ObjectBuilder::new().additional_properties(Some(AdditionalProperties::FreeForm(false)));
    schema.inputs.iter().fold(fields, |fields, field| {
        let fields = if field.required {
            fields.required(&field.name)
        } else {
            fields
        };
        let value = typed(field.types.as_deref(), Some(&field.expected));
        fields.property(&field.name, value)
    })
}

fn json_answer(schema: &Schema) -> ResponseBuilder {
    ResponseBuilder::new()
        .description("The program's prediction")
        .header(CallId::HEADER.as_str(), failures::call_id())
        .content("application/json", Content::new(Some(prediction(schema))))
}

/// What an answer's body is.
fn prediction(schema: &Schema) -> ObjectBuilder {
    let outputs = match schema.typed_outputs() {
        None => ObjectBuilder::new()
            .description(Some("The program's own: only running it tells its fields.")),
        Some(typed_outputs) => typed_outputs
            .into_iter()
            .fold(ObjectBuilder::new(), |outputs, (name, types)| {
                outputs.property(name, typed(types, None)).required(name)
            }),
    };
    let body = ObjectBuilder::new()
        .property("outputs", outputs)
        .property("usage", Ref::from_schema_name(USAGE))
        .property("cost", Ref::from_schema_name(COST))
        .property(
            "lm_calls",
            count().description(Some("How many LM calls there were.")),
        )
        .property(
            "lm_calls_bypassed",
            count().description(Some("How many more went past the server.")),
        )
        .property("elapsed_ms", count())
        .property(
            "stale_age_ms",
            count().description(Some("The age of an earlier answer that stands in for one.")),
        );
    let required = [
        "outputs",
        "usage",
        "cost",
        "lm_calls",
        "lm_calls_bypassed",
        "elapsed_ms",
    ];
    required.into_iter().fold(body, ObjectBuilder::required)
}

fn count() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(0))
}

fn usage() -> ObjectBuilder {
    let usage = ObjectBuilder::new().description(Some("The tokens of all LM calls."));
    let usage = ["prompt_tokens", "completion_tokens", "total_tokens"]
        .into_iter()
        .fold(usage, |usage, name| {
            usage.property(name, count()).required(name)
        });
    // Left out where they are 0.
    ["cached_tokens", "reasoning_tokens"]
        .into_iter()
        .fold(usage, |usage, name| usage.property(name, count()))
}

fn cost() -> ObjectBuilder {
    let usd = || {
        ObjectBuilder::new()
            .schema_type(Type::Number)
            .minimum(Some(0))
    };
    let cost = ObjectBuilder::new().description(Some("What the LM calls cost, in USD."));
    let cost = cost.property("usd", usd()).property(
        "estimated_usd",
        usd().description(Some("Of tokens that no provider counted; not in `usd`.")),
    );
    let cost = cost.property(
        "unknown_calls",
        count().description(Some("How many LM calls have no known price.")),
    );
    let required = ["usd", "estimated_usd", "unknown_calls"];
    required.into_iter().fold(cost, ObjectBuilder::required)
}

/// A value of one of these types; of any if none are known.
fn typed(types: Option<&[JsonType]>, python: Option<&str>) -> RefOr<JsonSchema> {
    match types {
        None | Some([]) => one(JsonType::Unknown, python),
        Some([only]) => one(*only, python),
        Some(several) => several
            .iter()
            .fold(AnyOfBuilder::new(), |any, each| any.item(one(*each, None)))
            .description(python)
            .into(),
    }
}

fn one(json: JsonType, python: Option<&str>) -> RefOr<JsonSchema> {
    let of = |kind: SchemaType| {
        let object = ObjectBuilder::new().schema_type(kind);
        object.description(python).into()
    };
    let list = |item| {
        let list = ArrayBuilder::new().items(one(item, None));
        list.description(python).into()
    };
    match json {
        JsonType::Null => of(Type::Null.into()),
        JsonType::Boolean => of(Type::Boolean.into()),
        JsonType::Integer => of(Type::Integer.into()),
        JsonType::Number => of(Type::Number.into()),
        JsonType::String => of(Type::String.into()),
        JsonType::Object => of(Type::Object.into()),
        JsonType::StringArray => list(JsonType::String),
        JsonType::Array => list(JsonType::Unknown),
        JsonType::Unknown => of(SchemaType::AnyValue),
    }
}
