//! Our layers in tonic's `Server::layer`, through `Serve`, and around its `Channel`.

use std::{
    convert::Infallible,
    net::SocketAddr,
    task::{Context, Poll},
    time::Duration,
};

use http::uri::PathAndQuery;
use tokio::sync::oneshot;
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    codegen::BoxFuture,
    server::{NamedService, UnaryService},
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::{
    BoxError, Service, ServiceBuilder, limit::ConcurrencyLimitLayer, load_shed::LoadShedLayer,
    timeout::TimeoutLayer as TowerTimeoutLayer,
};
use tower_dspy::{
    CallContext, DeadlineLayer, DspyServiceBuilderExt, ErrorKind, Serve, Shutdown, ShutdownLayer,
    TimeoutLayer, TrackLayer, Tracker,
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
            Ok(grpc.unary(service, request).await)
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

/// Asks through any stack over a channel.
async fn ask<S, B>(service: S, text: &str) -> Result<String, Status>
where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error: Into<BoxError>>,
    B: http_body::Body<Data = bytes::Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let mut client = tonic::client::Grpc::new(service);
    let ready = client.ready().await;
    ready.map_err(|error| Status::from_error(error.into()))?;
    let path = PathAndQuery::from_static("/test.Echo/Ask");
    let codec = ProstCodec::<Words, Words>::default();
    let answer = client.unary(Request::new(words(text)), path, codec).await?;
    Ok(answer.into_inner().text)
}

#[tokio::test]
async fn a_handler_is_stopped_at_the_deadline_and_the_client_told() {
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
        .layer(TowerTimeoutLayer::new(Duration::from_millis(200)))
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
async fn a_channel_below_our_layers_is_stopped_and_so_is_its_server() {
    let mut ends = Ends::new();
    let (_alive, address) = serve!(tower::layer::util::Identity::new(), ends);
    let tracker = Tracker::new();
    let stack = ServiceBuilder::new()
        .layer(TrackLayer::new(tracker.clone()))
        .layer(DeadlineLayer::new(SOON))
        .layer(TimeoutLayer::new(Duration::from_millis(200)))
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
