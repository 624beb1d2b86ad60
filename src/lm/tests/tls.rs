//! The default client over TLS.

use std::{convert::Infallible, sync::Arc};

use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use super::*;

/// A body of one piece and no end, which tells when it is dropped.
struct Endless {
    piece: Option<Bytes>,
    gone: mpsc::UnboundedSender<()>,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.piece.take() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None => Poll::Pending,
        }
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        let _ = self.gone.send(());
    }
}

/// A server that speaks HTTP/2 over TLS: its address, its certificate, and what tells of each
/// connection and each body that is gone.
struct Server {
    base: String,
    certificate: Vec<u8>,
    connections: mpsc::UnboundedReceiver<()>,
    gone: mpsc::UnboundedReceiver<()>,
}

async fn server() -> Server {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .expect("they fit");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tls = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (connected, connections) = mpsc::unbounded_channel();
    let (ended, gone) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (tls, connected, ended) = (tls.clone(), connected.clone(), ended.clone());
            tokio::spawn(async move {
                let Ok(stream) = tls.accept(tcp).await else {
                    return;
                };
                let _ = connected.send(());
                let answer = service_fn(move |_: ::http::Request<Incoming>| {
                    let body = Endless {
                        piece: Some(Bytes::from_static(b"piece")),
                        gone: ended.clone(),
                    };
                    async move { Ok::<_, Infallible>(Response::new(body)) }
                });
                let _ = http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
            });
        }
    });
    Server {
        base: format!("https://localhost:{port}/v1"),
        certificate: own.cert.der().to_vec(),
        connections,
        gone,
    }
}

#[tokio::test]
async fn over_http2_dropping_a_body_resets_its_stream_alone() {
    let mut server = server().await;
    let certificate = reqwest::Certificate::from_der(&server.certificate).expect("a certificate");
    let client = reqwest::Client::builder()
        .tls_certs_only([certificate])
        .build();
    let client = LmClient::from_reqwest(client.expect("a client"));
    let lm = connect(&lm_at(&server.base).http(client));
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let answer = lm
            .send(request(&server.base, "x", true))
            .await
            .expect("a head");
        assert_eq!(answer.version(), ::http::Version::HTTP_2);
        let mut body = answer.into_body();
        assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
        bodies.push(body);
    }
    bodies.pop();
    server.gone.recv().await.expect("one body is gone");
    assert!(server.gone.try_recv().is_err(), "and only one");
    bodies.pop();
    server.gone.recv().await.expect("the other is gone");
    lm.send(request(&server.base, "x", true))
        .await
        .expect("a head");
    server.connections.recv().await.expect("a connection");
    assert!(server.connections.try_recv().is_err(), "and only one");
}

#[tokio::test]
async fn an_untrusted_certificate_is_refused() {
    let server = server().await;
    let lm = connect(&lm_at(&server.base));
    let error = lm
        .send(request(&server.base, "x", true))
        .await
        .expect_err("no trust");
    assert_eq!(error.kind(), LmFailureKind::Connect);
    assert!(error.message().contains("certificate"), "{error}");
    shows_no_key(&error);
}
