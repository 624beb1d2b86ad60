//! The default client over TLS.

use std::{convert::Infallible, sync::Arc};

use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use super::*;

const PIECE: usize = 16 << 10;

/// A body of some pieces, with an end or without one, which tells when it is dropped.
struct Pieces {
    left: usize,
    ends: bool,
    gone: mpsc::UnboundedSender<()>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return if self.ends {
                Poll::Ready(None)
            } else {
                Poll::Pending
            };
        }
        self.left -= 1;
        let piece = Bytes::from_static(&[b'x'; PIECE]);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl Drop for Pieces {
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

/// Each of its answers has this many pieces.
async fn server(pieces: usize, ends: bool) -> Server {
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
                    let body = Pieces {
                        left: pieces,
                        ends,
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

impl Server {
    /// An LM there whose client trusts the certificate.
    fn lm(&self) -> LmHandle {
        let certificate = reqwest::Certificate::from_der(&self.certificate);
        let client = LmClient::builder(None).expect("a proxy, if any");
        let client = client.tls_certs_only([certificate.expect("a certificate")]);
        let client = LmClient::from_reqwest(client.build().expect("a client"));
        connect(&lm_at(&self.base).http(client))
    }
}

/// The flow control of the connection would let a few of them hold up all.
#[tokio::test]
async fn over_http2_answers_that_are_not_read_do_not_hold_up_others() {
    let mut server = server((3 << 19) / PIECE, true).await;
    let lm = server.lm();
    let mut answers = Vec::new();
    for _ in 0..8 {
        let sent = lm.send(request(&server.base, "x", true));
        answers.push(sent.await.expect("a head"));
    }
    for _ in &answers {
        let gone = timeout(Duration::from_secs(30), server.gone.recv()).await;
        gone.expect("all are sent").expect("a body");
    }
    server.connections.recv().await.expect("a connection");
    assert!(server.connections.try_recv().is_err(), "and only one");
}

#[tokio::test]
async fn over_http2_dropping_a_body_resets_its_stream_alone() {
    let mut server = server(1, false).await;
    let lm = server.lm();
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
    let server = server(1, false).await;
    let lm = connect(&lm_at(&server.base));
    let error = lm
        .send(request(&server.base, "x", true))
        .await
        .expect_err("no trust");
    assert_eq!(error.kind(), LmFailureKind::Connect);
    assert!(error.message().contains("certificate"), "{error}");
    shows_no_key(&error);
}
