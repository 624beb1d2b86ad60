//! [`Programs`]: programs behind the gRPC service.

use std::collections::BTreeMap;

use ::tonic::{Request, Response, Status, async_trait};
use futures_util::{StreamExt, stream::BoxStream};
use tower::{BoxError, Service, ServiceExt, util::BoxCloneSyncService};

use crate::{
    call::{CallContext, CallId, Carrier},
    error::{Classify, Error, ErrorKind, InvalidInput},
    inbound::respond::ErrorResponse,
    proto::{
        self, StructError,
        v1::{self, predict_server},
    },
    request::{PredictRequest, Prediction, Tenant},
    stream::{PredictionStream, StreamEvent},
};

type BoxedProgram<T> = BoxCloneSyncService<PredictRequest, T, ErrorResponse>;

/// A program of a name.
#[derive(Clone, Debug)]
struct NamedProgram {
    whole: BoxedProgram<Prediction>,
    /// `None`: its stream is the whole answer as one event.
    streaming: Option<BoxedProgram<PredictionStream>>,
}

/// Answers the gRPC service [`Predict`](predict_server::Predict) by programs, each of a name.
///
/// A program is any service of [`PredictRequest`]: a whole stack, with the limits, retries and
/// fallbacks that its calls are to have.
///
/// ```
/// use std::time::Duration;
/// use axum::{Router, routing::get};
/// use serde_json::json;
/// use tonic::service::Routes;
/// use tower::ServiceBuilder;
/// use tower_dspy::{
///     DeadlineLayer, Error, InboundLayer, PredictRequest, Prediction,
///     inbound::{axum::liveness, tonic::Programs},
/// };
///
/// let qa = ServiceBuilder::new()
///     .layer(DeadlineLayer::new(Duration::from_secs(10)))
///     .service_fn(|_: PredictRequest| async {
///         let outputs = [("answer".to_owned(), json!("Rayleigh scattering"))];
///         Ok::<_, Error>(Prediction::new(outputs.into_iter().collect()))
///     });
/// let app: Router = Routes::new(Programs::new().program("qa", qa).into_service())
///     .into_axum_router()
///     .route("/livez", get(liveness)) // plain HTTP may go to the same port
///     .layer(InboundLayer::new().max(Duration::from_secs(30)));
/// ```
///
/// # The context
/// The call is given the [`CallContext`] that an [`InboundLayer`](crate::InboundLayer) made: the time
/// left by `grpc-timeout`, and a node that is cancelled when the client resets the stream or goes
/// away. Without that layer the call has no deadline, and is dropped when its client goes.
///
/// # What it answers
/// Each response has the [id of the call](CallId::HEADER) in its metadata. Failures are statuses by
/// [the table](crate::inbound::respond), with details. A name that no program
/// has is `NOT_FOUND`. Outputs that `google.protobuf.Struct` cannot hold exactly, see
/// [`to_struct`](proto::to_struct), are `UNKNOWN`, as a program that raises is, and the message tells
/// which output: declare such an output as a `str`.
///
/// `PredictStream` sends the events of a [streaming](Self::program_streaming) program, and of any
/// other its answer as the one event. A failure before the first event is answered as that of
/// `Predict`; one after it is the status at the end of the stream, with the same details.
///
/// # What clients may choose
/// The program and its inputs. The LM, and the tenant, only if you [say](Self::accept_lm)
/// [so](Self::accept_tenant): both may cost somebody else's money. A [`Tenant`] in the request's
/// extensions, from a layer of yours that knows who asks, is always taken, and goes before the
/// client's word.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    programs: BTreeMap<Box<str>, NamedProgram>,
    accept_lm: bool,
    accept_tenant: bool,
}

impl Programs {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a program, in the place of one of the same name. Requests that name none go to the only
    /// one, if there is only one.
    #[must_use]
    pub fn program<S>(mut self, name: impl Into<Box<str>>, service: S) -> Self
    where
        S: Service<PredictRequest, Response = Prediction> + Clone + Send + Sync + 'static,
        S::Error: Classify + Into<BoxError>,
        S::Future: Send,
    {
        let program = NamedProgram {
            whole: boxed(service),
            streaming: None,
        };
        self.programs.insert(name.into(), program);
        self
    }

    /// As [`program`](Self::program), with another service for `PredictStream`: a stack around
    /// the streaming service of the same program. Each has its own layers; the permits are the
    /// program's.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower::{Service, ServiceBuilder};
    /// use tower_dspy::{
    ///     DspyServiceBuilderExt, Error, PredictRequest, Prediction, PredictionStream,
    ///     StreamTimeoutLayer, inbound::tonic::Programs,
    /// };
    ///
    /// fn programs<W, S>(qa: W, streaming: S) -> Programs
    /// where
    ///     W: Service<PredictRequest, Response = Prediction, Error = Error>,
    ///     W: Clone + Send + Sync + 'static,
    ///     W::Future: Send,
    ///     S: Service<PredictRequest, Response = PredictionStream, Error = Error>,
    ///     S: Clone + Send + Sync + 'static,
    ///     S::Future: Send,
    /// {
    ///     let limits = StreamTimeoutLayer::new()
    ///         .with_first_content(Duration::from_secs(10))
    ///         .with_idle(Duration::from_secs(5));
    ///     let qa = ServiceBuilder::new().attempt_timeout(Duration::from_secs(30)).service(qa);
    ///     let streaming = ServiceBuilder::new().stream_timeout(limits).service(streaming);
    ///     Programs::new().program_streaming("qa", qa, streaming)
    /// }
    /// ```
    #[must_use]
    pub fn program_streaming<W, S>(
        mut self,
        name: impl Into<Box<str>>,
        whole: W,
        streaming: S,
    ) -> Self
    where
        W: Service<PredictRequest, Response = Prediction> + Clone + Send + Sync + 'static,
        W::Error: Classify + Into<BoxError>,
        W::Future: Send,
        S: Service<PredictRequest, Response = PredictionStream> + Clone + Send + Sync + 'static,
        S::Error: Classify + Into<BoxError>,
        S::Future: Send,
    {
        let program = NamedProgram {
            whole: boxed(whole),
            streaming: Some(boxed(streaming)),
        };
        self.programs.insert(name.into(), program);
        self
    }

    /// Lets clients name the LM that a program calls, of those it was loaded with.
    #[must_use]
    pub const fn accept_lm(mut self) -> Self {
        self.accept_lm = true;
        self
    }

    /// Believes clients whom they call for.
    #[must_use]
    pub const fn accept_tenant(mut self) -> Self {
        self.accept_tenant = true;
        self
    }

    /// The service, for tonic's `Routes` or its `Server`; how large messages may be is set there.
    #[must_use]
    pub fn into_service(self) -> predict_server::PredictServer<Self> {
        predict_server::PredictServer::new(self)
    }

    fn find(&self, name: &str) -> Result<&NamedProgram, ErrorResponse> {
        let mut all = self.programs.values();
        let program = match (all.next(), all.next()) {
            (Some(only), None) if name.is_empty() => Some(only),
            _ => self.programs.get(name),
        };
        program.ok_or_else(|| {
            let known: Vec<_> = self.programs.keys().map(|name| &**name).collect();
            ErrorResponse::no_program(name, &known)
        })
    }

    fn read(
        &self,
        message: v1::PredictRequest,
        context: CallContext,
        tenant: Option<Tenant>,
    ) -> Result<PredictRequest, ErrorResponse> {
        let name = message.program;
        let refuse = |field: &str, problem: String, expected: &str| {
            let refused = InvalidInput::new(&name, Some(field), problem, expected);
            ErrorResponse::of(Error::from(refused))
        };
        let inputs = proto::from_struct(message.inputs.unwrap_or_default());
        let inputs = inputs.map_err(|error| {
            let field = error.field().unwrap_or_default();
            refuse(field, error.to_string(), "what JSON has")
        })?;
        let mut request = PredictRequest::new(inputs).with_context(context);
        if !message.lm.is_empty() {
            if !self.accept_lm {
                let problem = "this server does not let its clients choose the LM";
                return Err(refuse("lm", problem.into(), "none"));
            }
            request = request.with_lm(message.lm);
        }
        if let Some(tenant) = tenant {
            request = request.with_tenant(tenant);
        } else if !message.tenant.is_empty() {
            if !self.accept_tenant {
                let problem = "this server does not believe its clients whom they call for";
                return Err(refuse("tenant", problem.into(), "none"));
            }
            request = request.with_tenant(Tenant::new(message.tenant));
        }
        Ok(request)
    }

    /// The program that is asked, and what it is asked.
    fn asked(
        &self,
        request: Request<v1::PredictRequest>,
    ) -> Result<(NamedProgram, PredictRequest), ErrorResponse> {
        let (_, mut extensions, message) = request.into_parts();
        let program = self.find(&message.program)?.clone();
        let context = extensions.remove::<CallContext>().unwrap_or_default();
        let request = self.read(message, context, extensions.remove::<Tenant>())?;
        Ok((program, request))
    }

    async fn answer(
        &self,
        request: Request<v1::PredictRequest>,
    ) -> Result<v1::PredictResponse, ErrorResponse> {
        let (program, request) = self.asked(request)?;
        let prediction = program.whole.oneshot(request).await?;
        proto::to_response(&prediction).map_err(|error| unsendable(&error))
    }

    /// The stream is there with its first event.
    async fn stream(
        &self,
        request: Request<v1::PredictRequest>,
    ) -> Result<PredictionStream, ErrorResponse> {
        let (program, request) = self.asked(request)?;
        match program.streaming {
            Some(streaming) => streaming.oneshot(request).await,
            None => Ok(program.whole.oneshot(request).await?.into()),
        }
    }
}

fn boxed<S, T>(service: S) -> BoxedProgram<T>
where
    S: Service<PredictRequest, Response = T> + Clone + Send + Sync + 'static,
    S::Error: Classify + Into<BoxError>,
    S::Future: Send,
{
    BoxCloneSyncService::new(service.map_err(ErrorResponse::of))
}

fn unsendable(error: &StructError) -> ErrorResponse {
    let output = format!("the output {error}");
    let failed = ErrorResponse::of_kind(ErrorKind::Program);
    let status = failed.status();
    failed.with(status, output)
}

/// An event as it is sent. A status ends the stream.
fn message(event: Result<StreamEvent, Error>) -> Result<v1::PredictEvent, ErrorResponse> {
    let event = event.map_err(ErrorResponse::of)?;
    proto::to_event(event).map_err(|error| unsendable(&error))
}

/// The response of the call with this id, or its status.
fn respond<T>(id: CallId, answer: Result<T, ErrorResponse>) -> Result<Response<T>, Status> {
    let mut response = Response::new(answer.map_err(|failed| failed.with_call_id(id))?);
    proto::write_call_id(id, response.metadata_mut());
    Ok(response)
}

#[async_trait]
impl predict_server::Predict for Programs {
    type PredictStreamStream = BoxStream<'static, Result<v1::PredictEvent, Status>>;

    async fn predict(
        &self,
        mut request: Request<v1::PredictRequest>,
    ) -> Result<Response<v1::PredictResponse>, Status> {
        let id = request.context_mut().id();
        respond(id, self.answer(request).await)
    }

    async fn predict_stream(
        &self,
        mut request: Request<v1::PredictRequest>,
    ) -> Result<Response<Self::PredictStreamStream>, Status> {
        let id = request.context_mut().id();
        let sent = move |event| {
            let message = message(event);
            Ok(message.map_err(|failed| failed.with_call_id(id))?)
        };
        let events = self.stream(request).await;
        respond(id, events.map(|events| events.map(sent).boxed()))
    }
}
