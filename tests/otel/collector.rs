//! An OTLP collector: the spans that it was sent, by gRPC of Rust and by HTTP of Python.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;
use tokio::{net::TcpListener, sync::Notify, time::timeout};
use tonic::{Request, Response, Status, service::Routes};

/// Far beyond what a busy machine needs.
const LIMIT: Duration = Duration::from_secs(60);

/// A span that was exported.
#[derive(Clone, Debug)]
pub(crate) struct Exported {
    /// `service.name` of what exported it.
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) kind: i32,
    /// 0 if it is unset, 2 if it is an error.
    pub(crate) status: i32,
    pub(crate) attributes: BTreeMap<String, String>,
    /// The names and the attributes of its events.
    pub(crate) events: Vec<(String, BTreeMap<String, String>)>,
    /// The spans that it is linked to.
    pub(crate) links: Vec<String>,
    pub(crate) ended: SystemTime,
    trace: String,
    id: String,
    parent: String,
}

impl Exported {
    pub(crate) fn get(&self, attribute: &str) -> Option<&str> {
        self.attributes.get(attribute).map(String::as_str)
    }
}

/// The spans of one trace.
pub(crate) struct Trace {
    pub(crate) spans: Vec<Exported>,
}

impl Trace {
    /// The spans of this name, the first that began first.
    pub(crate) fn named(&self, name: &str) -> Vec<&Exported> {
        self.spans.iter().filter(|span| span.name == name).collect()
    }

    /// The names from a span up to the outermost, and the id of the parent of that.
    pub(crate) fn path<'a>(&'a self, span: &'a Exported) -> (Vec<&'a str>, &'a str) {
        let (mut names, mut at) = (vec![&*span.name], span);
        while let Some(parent) = self.spans.iter().find(|other| other.id == at.parent) {
            names.push(&parent.name);
            at = parent;
        }
        (names, &at.parent)
    }
}

impl Trace {
    /// Fails if a span of this crate, or an event in it, has one of these texts.
    pub(crate) fn assert_without(&self, secrets: &[&str]) {
        let ours = self.spans.iter().filter(|span| span.service != "python");
        let ours = format!("{:?}", ours.collect::<Vec<_>>());
        assert!(ours.contains("tower_dspy.call"), "{ours}");
        for secret in secrets {
            assert!(!ours.contains(secret), "{secret} in {ours}");
        }
    }
}

/// Each span with its ancestors.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for span in &self.spans {
            let (path, parent) = self.path(span);
            writeln!(
                f,
                "{} of {parent}, status {}",
                path.join(" < "),
                span.status
            )?;
        }
        Ok(())
    }
}

#[derive(Clone, Default)]
pub(crate) struct Collector {
    spans: Arc<Mutex<Vec<(u64, Exported)>>>,
    came: Arc<Notify>,
}

impl Collector {
    /// Serves a collector; returns its address too.
    pub(crate) async fn start() -> (Self, String) {
        let collector = Self::default();
        let grpc = Routes::new(TraceServiceServer::new(collector.clone()));
        let http = Router::new().route("/v1/traces", post(take));
        let app = grpc
            .into_axum_router()
            .merge(http.with_state(collector.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, app).await });
        (collector, format!("http://{address}"))
    }

    /// Waits until the trace of this id is as `is_complete` asks.
    pub(crate) async fn trace(&self, id: &str, is_complete: impl Fn(&Trace) -> bool) -> Trace {
        let complete = async {
            loop {
                let came = self.came.notified();
                let trace = self.read(id);
                if is_complete(&trace) {
                    return trace;
                }
                came.await;
            }
        };
        let trace = timeout(LIMIT, complete).await;
        trace.unwrap_or_else(|_| panic!("only these came:\n{}", self.read(id)))
    }

    fn read(&self, id: &str) -> Trace {
        let spans = self.lock();
        let mut spans: Vec<_> = spans.iter().filter(|(_, span)| span.trace == id).collect();
        spans.sort_by_key(|(began, _)| *began);
        let spans = spans.into_iter().map(|(_, span)| span.clone()).collect();
        Trace { spans }
    }

    /// All that was exported, as text.
    pub(crate) fn text(&self) -> String {
        format!("{:?}", *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Exported)>> {
        self.spans.lock().expect("a lock")
    }

    fn add(&self, request: ExportTraceServiceRequest) {
        for resource in request.resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let service = attributes.iter().find(|pair| pair.key == "service.name");
            let service = service.and_then(|pair| text(pair.value.as_ref()?.value.as_ref()?));
            for span in resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans)
            {
                let began = span.start_time_unix_nano;
                let exported = exported(service.clone().unwrap_or_default(), span);
                self.lock().push((began, exported));
            }
        }
        self.came.notify_waiters();
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.add(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn take(State(collector): State<Collector>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).expect("spans");
    collector.add(request);
}

fn exported(service: String, span: Span) -> Exported {
    let events = span.events.into_iter();
    let links = span.links.iter();
    Exported {
        service,
        name: span.name,
        kind: span.kind,
        status: span.status.map_or(0, |status| status.code),
        attributes: texts(span.attributes),
        events: events
            .map(|event| (event.name, texts(event.attributes)))
            .collect(),
        links: links.map(|link| hex(&link.span_id)).collect(),
        ended: SystemTime::UNIX_EPOCH + Duration::from_nanos(span.end_time_unix_nano),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
    }
}

fn texts(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    let texts = pairs.into_iter().filter_map(|pair| {
        let value = text(pair.value?.value.as_ref()?)?;
        Some((pair.key, value))
    });
    texts.collect()
}

fn text(value: &Value) -> Option<String> {
    Some(match value {
        Value::StringValue(text) => text.clone(),
        Value::BoolValue(flag) => flag.to_string(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::ArrayValue(list) => {
            let items = list.values.iter();
            let items = items.map(|item| item.value.as_ref().and_then(text).unwrap_or_default());
            format!("{:?}", items.collect::<Vec<_>>())
        }
        other => format!("{other:?}"),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
