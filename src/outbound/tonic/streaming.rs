//! [`StreamingProgramClient`]: a program on another server, with answers that are read as they are
//! written.

use std::{
    future::{poll_fn, ready},
    pin::Pin,
    task::{Context, Poll},
};

use ::tonic::{Request, body::Body};
use bytes::Bytes;
use futures_util::{
    FutureExt, Stream, StreamExt, TryFutureExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use http::uri::PathAndQuery;
use tokio::time::Instant;
use tonic_prost::ProstCodec;
use tower::{BoxError, Service};

use super::{ProgramClient, status::Sent};
use crate::{
    call::{CallId, Scope},
    error::{Cancelled, Error, Lost},
    proto::{self, v1},
    request::PredictRequest,
    service::termination::ServiceTermination,
    stream::{PredictionStream, StreamEvent},
};

const PATH: PathAndQuery = PathAndQuery::from_static("/tower_dspy.v1.Predict/PredictStream");

/// A program that another server answers for, with answers that are read as they are written: from
/// [`ProgramClient::streaming`].
///
/// ```
/// use std::time::Duration;
/// use futures_util::StreamExt;
/// use serde_json::json;
/// use tonic::transport::Endpoint;
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_dspy::{
///     DeadlineLayer, DspyServiceBuilderExt, PredictRequest, StreamEvent, StreamTimeoutLayer,
///     outbound::tonic::ProgramClient,
/// };
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let channel = Endpoint::from_static("http://qa.internal:50051").connect_lazy();
/// let qa = ServiceBuilder::new()
///     .layer(DeadlineLayer::new(Duration::from_secs(60))) // of the whole stream
///     .retries(2) // until the first event
///     .stream_timeout(StreamTimeoutLayer::new().with_first_content(Duration::from_secs(5)))
///     .service(ProgramClient::new("qa", channel).streaming());
/// let mut answer = qa.oneshot(PredictRequest::new(json!({"question": "Why?"}))).await?;
/// while let Some(event) = answer.next().await {
///     if let StreamEvent::Text { delta, .. } = event? {
///         print!("{delta}");
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// # What it does to a request
/// As [`ProgramClient`], with the same errors. The future is ready with the first event: a status
/// before it is the error of the future, and one after it the last item of the stream, without a
/// partial answer: the reader has the texts that came. A stream that ends without an answer or a
/// status is [`Lost`]. A server that has no `PredictStream` is
/// [`InvalidInput`](crate::InvalidInput), and says so.
///
/// # Time and cancellation
/// The deadline that goes out is that of the whole stream. The limit of an attempt, a share or a
/// reserve is kept here, until the response. Dropping the future or the stream, a cancelled
/// context and the deadline reset the stream; the server then stops the program. Once there is a
/// stream, they are seen when it is polled; the server keeps the deadline meanwhile.
///
/// # Slow readers
/// The events are read from the connection as the stream is polled. HTTP/2 then holds the server up.
///
/// # Cancel safety
/// Dropping the future or the stream cancels the call. An event is never lost by dropping the future of
/// a `next()`.
#[derive(Clone, Debug)]
pub struct StreamingProgramClient<T>(ProgramClient<T>);

impl<T: Clone> ProgramClient<T> {
    /// The same program, with answers that are read as they are written.
    #[must_use]
    pub fn streaming(&self) -> StreamingProgramClient<T> {
        StreamingProgramClient(self.clone())
    }
}

impl<T, B> Service<PredictRequest> for StreamingProgramClient<T>
where
    T: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + 'static,
    T::Error: Into<BoxError>,
    T::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = PredictionStream;
    type Error = Error;
    type Future = BoxFuture<'static, Result<PredictionStream, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: PredictRequest) -> Self::Future {
        let message = self.0.message(&request);
        let (_, mut context) = request.into_parts();
        let call = context.id();
        let refused = ServiceTermination::refuse(&context);
        let began = Instant::now();
        let termination = ServiceTermination::new(&context, began);
        let limit = context.stream_limit();
        let (progress, cancel) = (context.progress.clone(), context.cancel.clone());
        // The server limits the whole stream by the deadline that is sent.
        context.deadline = limit.map(|limit| limit.at);
        let sent = Sent {
            program: self.0.program.clone(),
            deadline: context.deadline,
            scope: limit.map_or(Scope::Deadline, |limit| limit.scope),
            reserve: self.0.reserve,
            began,
        };
        let mut grpc = self.0.grpc();
        let opened = async move {
            let mut request = Request::new(message?);
            if let Some(error) = refused {
                return Err(error);
            }
            request.extensions_mut().insert(context);
            let codec = ProstCodec::<v1::PredictRequest, v1::PredictEvent>::default();
            let messages = match grpc.server_streaming(request, PATH, codec).await {
                Ok(response) => response.into_inner(),
                Err(status) => return Err(sent.error_of_stream(status)),
            };
            Ok(messages.filter_map(move |message| {
                ready(match message {
                    Ok(message) => proto::from_event(message)
                        .map_err(|error| sent.unreadable(&error))
                        .transpose(),
                    Err(status) => Some(Err(sent.error(status))),
                })
            }))
        };
        let mut events = RemoteEvents {
            events: Some(opened.try_flatten_stream().boxed()),
            call,
            termination,
        };
        let response = async move {
            let first = poll_fn(|cx| events.poll_event(cx)).await?;
            // The layers around the call end at the response.
            events.termination = ServiceTermination::of_stream(cancel, limit, began);
            let events = stream::iter([Ok(first)]).chain(events);
            Ok(PredictionStream::new(events).in_call(&progress))
        };
        response.fuse().boxed()
    }
}

/// The events of one call, from its start on.
struct RemoteEvents {
    /// `None` once the call was reset.
    events: Option<BoxStream<'static, Result<StreamEvent, Error>>>,
    call: CallId,
    termination: ServiceTermination,
}

impl RemoteEvents {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<StreamEvent, Error>> {
        let event = self.poll_remote(cx);
        event.map_err(|error| error.with_call_id(self.call))
    }

    fn poll_remote(&mut self, cx: &mut Context<'_>) -> Poll<Result<StreamEvent, Error>> {
        let Some(events) = &mut self.events else {
            return Poll::Ready(Err(Cancelled::new(self.termination.reason()).into()));
        };
        // What is ready wins the tie with the clock.
        match events.poll_next_unpin(cx) {
            Poll::Ready(Some(event)) => Poll::Ready(event),
            Poll::Ready(None) => {
                let lost = Lost::server("its stream ended without an answer");
                Poll::Ready(Err(lost.into()))
            }
            Poll::Pending => {
                let reset = |_| self.events = None;
                self.termination.poll(cx, reset).map(Err)
            }
        }
    }
}

impl Stream for RemoteEvents {
    type Item = Result<StreamEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(cx).map(Some)
    }
}
