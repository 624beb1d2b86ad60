//! Our layers in tonic's `Server::layer`, through `Serve`, and around its `Channel`.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use http::uri::PathAndQuery;
use tokio::sync::oneshot;
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    codegen::{BoxFuture, BoxStream},
    server::{NamedService, ServerStreamingService, UnaryService},
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::{
    BoxError, Service, ServiceBuilder, limit::ConcurrencyLimitLayer, load_shed::LoadShedLayer,
    timeout::TimeoutLayer as TowerTimeoutLayer,
};
use tower_dspy::{
    CallContext, Cause, DeadlineLayer, DspyServiceBuilderExt, ErrorKind, InboundLayer,
    OutboundLayer, Serve, Shutdown, ShutdownLayer, TimeoutLayer, TrackLayer, Tracker,
};
use tower_http::trace::TraceLayer;

use super::support::{End, Ends, Probes, SOON, secs};

/// Stands for a message that protoc would have made.
#[derive(Clone, PartialEq, prost::Message)]
struct Words {
    #[prost(string, tag = "1")]
    text: String,
}

fn words(text: &str) -> Words {
    Words { text: text.into() }
}

/// Repeats what it is sent; is silent for ever at `never`; tells the time left at `left`.
#[derive(Clone, Debug)]
struct Echo(Probes);

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl UnaryService<Words> for Echo {
    type Response = Words;
    type Future = BoxFuture<Response<Words>, Status>;

    fn call(&mut self, request: Request<Words>) -> Self::Future {
        let probe = self.0.begin();
        Box::pin(async move {
            let context = request.extensions().get::<CallContext>();
            let left = context.and_then(|context| context.deadline);
            let asked = request.get_ref().text.as_str();
            let text = match asked {
                "never" => std::future::pending().await,
                "left" if left.is_some() => "limited".to_owned(),
                _ => asked.to_owned(),
            };
            probe.done();
            Ok(Response::new(Words { text }))
        })
    }
}

/// Sends one word, and then no other.
impl ServerStreamingService<Words> for Echo {
    type Response = Words;
    type ResponseStream = BoxStream<Words>;
    type Future = BoxFuture<Response<BoxStream<Words>>, Status>;

    fn call(&mut self, _: Request<Words>) -> Self::Future {
        let probe = self.0.begin();
        Box::pin(async move {
            let never = stream::once(async move {
                let _probe = probe;
                std::future::pending().await
            });
            let words = stream::iter([Ok(words("one"))]).chain(never);
            let words: BoxStream<Words> = Box::pin(words);
            Ok(Response::new(words))
        })
    }
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::default());
            Ok(match request.uri().path() {
                "/test.Echo/Drip" => grpc.server_streaming(service, request).await,
                _ => grpc.unary(service, request).await,
            })
        })
    }
}

/// Serves on a free port for as long as the sender lives.
macro_rules! serve {
    ($layer:expr, $ends:expr) => {{
        let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = incoming.local_addr().unwrap();
        let (alive, end) = oneshot::channel::<()>();
        let server = Server::builder()
            .layer($layer)
            .add_service(Echo($ends.probes()))
            .serve_with_incoming_shutdown(incoming, async { drop(end.await) });
        tokio::spawn(server);
        (alive, address)
    }};
}

async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

/// Asks `text` through any stack over a channel.
async fn ask<S, B>(service: S, text: &str) -> Result<String, Status>
where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error: Into<BoxError>>,
    B: http_body::Body<Data = bytes::Bytes, Error: Into<BoxError>> + Send + 'static,
{
    send(service, Request::new(words(text))).await
}

/// Sends a request through any stack over a channel.
async fn send<S, B>(service: S, request: Request<Words>) -> Result<String, Status>
where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error: Into<BoxError>>,
    B: http_body::Body<Data = bytes::Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let mut client = tonic::client::Grpc::new(service);
    let ready = client.ready().await;
    ready.map_err(|error| Status::from_error(error.into()))?;
    let path = PathAndQuery::from_static("/test.Echo/Ask");
    let codec = ProstCodec::<Words, Words>::default();
    let answer = client.unary(request, path, codec).await?;
    Ok(answer.into_inner().text)
}

#[tokio::test]
async fn a_passed_deadline_is_answered_as_deadline_exceeded() {
    let mut ends = Ends::new();
    let layer = Serve::new(DeadlineLayer::new(Duration::from_millis(200)));
    let (_alive, address) = serve!(layer, ends);
    let channel = channel(address).await;

    let status = ask(channel.clone(), "never").await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(status.message().contains("deadline"), "{status:?}");
    assert_eq!(ends.next().await, End::Dropped);
}

#[tokio::test]
async fn answers_pass_and_the_handler_gets_the_context() {
    let mut ends = Ends::new();
    let (_alive, address) = serve!(Serve::new(DeadlineLayer::new(SOON)), ends);
    let channel = channel(address).await;
    assert_eq!(ask(channel.clone(), "hello").await.unwrap(), "hello");
    assert_eq!(ask(channel, "left").await.unwrap(), "limited");
    assert_eq!(ends.next().await, End::Done);
}

#[tokio::test]
async fn after_shutdown_the_handler_is_not_called() {
    let mut ends = Ends::new();
    let shutdown = Shutdown::new();
    let (_alive, address) = serve!(Serve::new(ShutdownLayer::new(shutdown.clone())), ends);
    let channel = channel(address).await;
    shutdown.run(secs(1), secs(1)).await;
    let status = ask(channel, "hello").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(ends.seen(), None);
}

/// Ours, tower's and tower-http's, inside and outside.
#[tokio::test]
async fn the_layers_of_tower_and_tower_http_fit_among_ours() {
    let mut ends = Ends::new();
    let tracker = Tracker::new();
    let inside = ServiceBuilder::new()
        .shutdown(Shutdown::new())
        .tracked(tracker.clone())
        .deadline(SOON)
        .cancellable()
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(8))
        .layer(TowerTimeoutLayer::new(secs(2)))
        .layer(TraceLayer::new_for_grpc())
        .attempt_timeout(SOON)
        .into_inner();
    let layers = ServiceBuilder::new()
        .layer(TraceLayer::new_for_grpc())
        .layer(Serve::new(inside))
        .into_inner();
    let (_alive, address) = serve!(layers, ends);
    let channel = channel(address).await;

    assert_eq!(ask(channel.clone(), "hello").await.unwrap(), "hello");
    assert_eq!(ends.next().await, End::Done);
    // Tower's timeout, which tonic by itself tells as UNKNOWN.
    let status = ask(channel, "never").await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(ends.next().await, End::Dropped);
    assert_eq!(tracker.counts().completed, 1);
}

#[tokio::test]
async fn layers_around_a_channel_stop_the_call_and_its_server() {
    let mut ends = Ends::new();
    let (_alive, address) = serve!(tower::layer::util::Identity::new(), ends);
    let tracker = Tracker::new();
    let stack = ServiceBuilder::new()
        .layer(TrackLayer::new(tracker.clone()))
        .layer(DeadlineLayer::new(SOON))
        .layer(TimeoutLayer::new(secs(2)))
        .layer(TraceLayer::new_for_grpc())
        .map_err(BoxError::from)
        .service(channel(address).await);

    assert_eq!(ask(stack.clone(), "hello").await.unwrap(), "hello");
    assert_eq!(ends.next().await, End::Done);
    let status = ask(stack, "never").await.unwrap_err();
    assert_eq!(ErrorKind::of(&status), ErrorKind::Elapsed, "{status:?}");
    // The stream was reset, and the server dropped the handler.
    assert_eq!(ends.next().await, End::Dropped);
    assert_eq!(tracker.counts().timed_out, 1);
}

/// The call of gRPC's interoperability tests that is named `timeout_on_sleeping_server`.
#[tokio::test]
async fn the_clients_timeout_stops_a_sleeping_handler() {
    let mut ends = Ends::new();
    // A tonic server keeps the client's limit too, and says CANCELLED; so ours is to be earlier.
    let deadline = DeadlineLayer::from_context().with_reserve(Duration::from_millis(4_500));
    let layers = ServiceBuilder::new()
        .layer(InboundLayer::new())
        .layer(Serve::new(deadline))
        .into_inner();
    let (_alive, address) = serve!(layers, ends);
    let mut sleeping = Request::new(words("never"));
    sleeping.set_timeout(secs(5));
    let status = send(channel(address).await, sleeping).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(ends.next().await, End::Dropped);
}

/// The call of gRPC's interoperability tests that is named `cancel_after_begin`, with an answer
/// that never comes.
#[tokio::test]
async fn a_client_that_gives_up_stops_the_handler() {
    let mut ends = Ends::new();
    let tracker = Tracker::new();
    let layers = ServiceBuilder::new()
        .layer(InboundLayer::new())
        .layer(Serve::new(TrackLayer::new(tracker.clone())))
        .into_inner();
    let (_alive, address) = serve!(layers, ends);
    let channel = channel(address).await;
    let asked = tokio::spawn(async move { ask(channel, "never").await });
    ends.begun().await;
    asked.abort();
    assert_eq!(ends.next().await, End::Dropped);
    assert_eq!(tracker.counts().live(), 0);
}

/// The call of gRPC's interoperability tests that is named `cancel_after_first_response`: here the
/// handler has answered, and it is the body that is stopped.
#[tokio::test]
async fn a_client_that_gives_up_in_the_middle_of_a_stream_stops_the_stream() {
    let mut ends = Ends::new();
    let causes = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&causes);
    let see = tower::util::MapRequestLayer::new(move |request: http::Request<Body>| {
        let context = request.extensions().get::<CallContext>();
        *seen.lock().unwrap() = context.map(|context| context.cancel.clone());
        request
    });
    let layers = ServiceBuilder::new()
        .layer(InboundLayer::new())
        .layer(see)
        .into_inner();
    let (_alive, address) = serve!(layers, ends);
    let mut client = tonic::client::Grpc::new(channel(address).await);
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/test.Echo/Drip");
    let codec = ProstCodec::<Words, Words>::default();
    let ask = client.server_streaming(Request::new(words("")), path, codec);
    let mut answers = ask.await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap(), Some(words("one")));
    let call = causes.lock().unwrap().clone().expect("a call");
    assert_eq!(call.cause(), None);
    drop(answers);
    assert_eq!(ends.next().await, End::Dropped);
    assert_eq!(call.cause(), Some(Cause::ClientGone));
}

/// What a client's stack has left travels to the handler of the next server.
#[tokio::test]
async fn the_time_left_travels_through_a_channel() {
    let mut ends = Ends::new();
    let (_alive, address) = serve!(InboundLayer::new(), ends);
    let stack = ServiceBuilder::new()
        .layer(DeadlineLayer::new(SOON))
        .layer(OutboundLayer::grpc())
        .map_err(BoxError::from)
        .service(channel(address).await);
    assert_eq!(ask(stack, "left").await.unwrap(), "limited");
    assert_eq!(ends.next().await, End::Done);
}
