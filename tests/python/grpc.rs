//! A program of real DSPy on a server, called over gRPC. A call that ends at the client stops on
//! the server.

use futures_util::StreamExt;
use serde_json::json;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{
    service::Routes,
    transport::{Channel, Endpoint},
};
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    Classify, Deadline, DspyService, DspyServiceBuilderExt, Error, ErrorKind, Host, InboundLayer,
    PredictRequest, PredictionStream, Shutdown, StreamEvent,
    inbound::tonic::Programs,
    outbound::tonic::ProgramClient,
    server::{GracefulShutdown, ServeReport, serve},
    testing::scripted_lm::{Outcome, Reply},
};

use crate::support::{HOUR, ask, eventually, host, lm_server, question};

struct Server {
    qa: DspyService,
    client: ProgramClient<Channel>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<ServeReport>>,
}

impl Server {
    async fn start(host: &Host, model: &str) -> Self {
        let qa = question(host, model).await;
        let stack = ServiceBuilder::new().deadline(HOUR);
        let (whole, streaming) = (stack.clone().service(qa.clone()), qa.streaming());
        let programs = Programs::new();
        let programs = programs.program_streaming("qa", whole, stack.service(streaming));
        let programs = programs.into_service();
        let app = Routes::new(programs)
            .add_service(host.grpc_health())
            .into_axum_router()
            .layer(InboundLayer::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        // The host is that of other tests too.
        let until = GracefulShutdown::new(Shutdown::new(), HOUR)
            .with_signal(async move { drop(stopped.await) });
        let served = tokio::spawn(serve(listener, app, until).into_future());
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let client = ProgramClient::new("qa", channel.connect_lazy());
        Self {
            qa,
            client,
            stop,
            served,
        }
    }

    async fn end(self) -> ServeReport {
        eventually("its permits", || self.qa.in_flight() == 0).await;
        drop((self.stop, self.client));
        self.served.await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn an_answer_arrives_with_its_usage() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("grpc", Reply::answer("Paris"));
    let server = Server::start(&host, "grpc").await;
    let answer = server.client.clone().oneshot(ask("the capital?")).await;
    let answer = answer.unwrap();
    assert_eq!(answer.outputs["answer"], "Paris");
    assert!(answer.usage.total_tokens > 0);
    assert_eq!(answer.lm_calls_not_kept, 1);

    let nothing = PredictRequest::new(json!({}));
    let refused = server.client.clone().oneshot(nothing).await;
    let Err(Error::InvalidInput(refused)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refused.field(), Some("question"));
    let report = server.end().await;
    assert_eq!(report.requests.completed, 2, "{report}");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn a_dropped_call_stops_the_lm_call_on_the_server() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("grpc-gone", Reply::hang());
    let server = Server::start(&host, "grpc-gone").await;
    let asked = tokio::spawn(server.client.clone().oneshot(ask("for ever?")));
    let requests = || lm.requests("grpc-gone");
    eventually("the LM call", || requests().len() == 1).await;
    asked.abort();
    let gone = || requests()[0].outcome == Outcome::ClientGone;
    eventually("the LM call to be stopped", gone).await;
    assert_eq!(server.end().await.requests.cancelled, 1);
}

#[tokio::test]
async fn the_callers_deadline_stops_the_lm_call_on_the_server() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("grpc-late", Reply::hang());
    let server = Server::start(&host, "grpc-late").await;
    // Long enough for the LM call to begin, on a busy machine as well.
    let seconds = std::time::Duration::from_secs(5);
    // The server's part of the hour.
    let client = server.client.clone().with_reserve(HOUR - seconds);
    let request = ask("for ever?").with_deadline(Deadline::within(HOUR));
    let error = client.oneshot(request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline, "{error}");
    let requests = || lm.requests("grpc-late");
    let gone = || requests().len() == 1 && requests()[0].outcome == Outcome::ClientGone;
    eventually("the LM call to be stopped", gone).await;
    // It tells what it was in the middle of.
    let spent = error.spent().expect("one LM call");
    assert_eq!(spent.lm_calls_not_kept, 1);
    assert_eq!(server.end().await.requests.failed, 1);
}

const ANSWER: &str = "[[ ## answer ## ]]\nfour [[it]] is\n\n[[ ## completed ## ]]";

/// The texts of a stream until an event that is none.
async fn texts(stream: &mut PredictionStream) -> (String, Result<StreamEvent, Error>) {
    let mut text = String::new();
    loop {
        match stream.next().await.expect("an end before `None`") {
            Ok(StreamEvent::Text { delta, .. }) => text += &delta,
            other => return (text, other),
        }
    }
}

#[tokio::test]
async fn a_stream_arrives_with_its_texts_and_its_usage() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("grpc-stream", Reply::content(ANSWER));
    let server = Server::start(&host, "grpc-stream").await;
    let stream = server.client.streaming().oneshot(ask("2 + 2?")).await;
    let mut stream = stream.unwrap();
    let (text, end) = texts(&mut stream).await;
    let Ok(StreamEvent::Done(answer)) = end else {
        panic!("{end:?}");
    };
    assert_eq!(
        (&*text, &answer.outputs["answer"]),
        ("four [[it]] is", &json!(text))
    );
    assert!(answer.usage.total_tokens > 0);
    assert!(stream.next().await.is_none());
    drop(stream);
    let report = server.end().await;
    assert_eq!(report.requests.completed, 1, "{report}");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn a_dropped_stream_stops_the_lm_call_on_the_server() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("grpc-stream-gone", Reply::content(ANSWER).stall_after(6));
    let server = Server::start(&host, "grpc-stream-gone").await;
    let stream = server.client.streaming().oneshot(ask("2 + 2?")).await;
    let mut stream = stream.unwrap();
    let first = stream.next().await;
    assert!(
        matches!(first, Some(Ok(StreamEvent::Text { .. }))),
        "{first:?}"
    );
    let outcome = || lm.requests("grpc-stream-gone")[0].outcome;
    assert_ne!(outcome(), Outcome::ClientGone);
    drop(stream);
    eventually("the LM call to be stopped", || {
        outcome() == Outcome::ClientGone
    })
    .await;
    server.end().await;
}

#[tokio::test]
async fn the_callers_deadline_stops_a_stream_and_its_error_has_what_was_spent() {
    let (host, lm) = (host().await, lm_server().await);
    lm.script("grpc-stream-late", Reply::content(ANSWER).stall_after(6));
    let server = Server::start(&host, "grpc-stream-late").await;
    // Long enough for the LM call to begin, on a busy machine as well.
    let seconds = std::time::Duration::from_secs(5);
    // The server's part of the hour.
    let client = server.client.clone().with_reserve(HOUR - seconds);
    let request = ask("2 + 2?").with_deadline(Deadline::within(HOUR));
    let mut stream = client.streaming().oneshot(request).await.unwrap();
    let (text, end) = texts(&mut stream).await;
    let error = end.unwrap_err();
    assert_eq!(
        (&*text, error.kind()),
        ("four", ErrorKind::Deadline),
        "{error}"
    );
    assert_eq!(error.spent().expect("one LM call").lm_calls_not_kept, 1);
    let gone = || lm.requests("grpc-stream-late")[0].outcome == Outcome::ClientGone;
    eventually("the LM call to be stopped", gone).await;
    drop((stream, client));
    server.end().await;
}
