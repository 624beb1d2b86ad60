//! Streams whose server breaks off.

use bytes::Bytes;
use futures_util::StreamExt;
use prost::Message;
use tokio::{net::TcpListener, sync::oneshot};
use tonic::transport::Endpoint;
use tower::ServiceExt;
use tower_dspy::{Classify, ErrorKind, outbound::tonic::ProgramClient, proto::v1};

use super::{
    streams::{next, text},
    why,
};

/// What a raw server does after one event.
#[derive(Clone, Copy, Debug)]
enum End {
    WithoutTrailers,
    Reset(h2::Reason),
    Closed,
    Ok,
}

/// A cut answer never looks whole.
#[tokio::test]
async fn a_stream_that_ends_without_an_answer_or_a_status_is_lost() {
    for end in [
        End::WithoutTrailers,
        End::Reset(h2::Reason::CANCEL),
        End::Reset(h2::Reason::INTERNAL_ERROR),
        End::Closed,
        End::Ok,
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{}", listener.local_addr().unwrap()));
        let client = ProgramClient::new("qa", endpoint.unwrap().connect_lazy()).streaming();
        let (read_first, was_read) = oneshot::channel();
        let server = tokio::spawn(serve_cut(listener, end, was_read));
        let mut stream = client.oneshot(why()).await.unwrap();
        assert_eq!(next(&mut stream).await.unwrap(), text("bl"));
        read_first.send(()).unwrap();
        let error = next(&mut stream).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Lost, "{end:?}: {error:?}");
        assert!(error.may_have_started());
        assert!(stream.next().await.is_none());
        server.abort();
    }
}

async fn serve_cut(listener: TcpListener, end: End, was_read: oneshot::Receiver<()>) {
    let (io, _) = listener.accept().await.unwrap();
    let mut connection = h2::server::handshake(io).await.unwrap();
    let (_, mut respond) = connection.accept().await.unwrap().unwrap();
    let work = async move {
        let head = http::Response::builder().header("content-type", "application/grpc");
        let mut body = respond
            .send_response(head.body(()).unwrap(), false)
            .unwrap();
        let event = v1::predict_event::Text {
            lm_call: 1,
            predictor: "self".into(),
            field: "answer".into(),
            delta: "bl".into(),
        };
        let event = v1::predict_event::Event::Text(event);
        let message = v1::PredictEvent { event: Some(event) }.encode_to_vec();
        let mut frame = vec![0];
        frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        frame.extend(message);
        body.send_data(Bytes::from(frame), false).unwrap();
        was_read.await.unwrap();
        match end {
            End::WithoutTrailers => body.send_data(Bytes::new(), true).unwrap(),
            End::Reset(reason) => body.send_reset(reason),
            End::Closed => return true,
            End::Ok => {
                let status = http::HeaderMap::from_iter([(
                    http::HeaderName::from_static("grpc-status"),
                    http::HeaderValue::from_static("0"),
                )]);
                body.send_trailers(status).unwrap();
            }
        }
        std::future::pending().await
    };
    // The connection is driven until the work closes it.
    tokio::select! {
        _ = connection.accept() => {}
        _ = work => {}
    }
}
