//! A client over one connection at a time: hyper's, which says of a request that failed whether it
//! was sent.

use std::{io, net::SocketAddr};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{net::TcpStream, task::AbortHandle};

/// What a request came to.
#[derive(Debug)]
pub(crate) enum Came {
    Answer(StatusCode),
    /// It was not sent: the connection was closed before.
    Unsent,
    /// It was sent, and there is no whole answer.
    Lost(hyper::Error),
}

pub(crate) struct Connection {
    /// Of this end.
    pub(crate) address: SocketAddr,
    sender: http1::SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

impl Connection {
    pub(crate) async fn open(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let address = stream.local_addr()?;
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(io::Error::other)?;
        let driver = tokio::spawn(connection).abort_handle();
        Ok(Self {
            address,
            sender,
            driver,
        })
    }

    pub(crate) async fn ask(&mut self, question: &str) -> Came {
        if self.sender.ready().await.is_err() {
            return Came::Unsent;
        }
        let answered = match self.sender.try_send_request(request(question)).await {
            Ok(response) => read(response).await,
            Err(mut failed) => match failed.take_message() {
                Some(_) => return Came::Unsent,
                None => Err(failed.into_error()),
            },
        };
        answered.map_or_else(Came::Lost, Came::Answer)
    }
}

/// The socket is closed with it.
impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn read(response: Response<Incoming>) -> hyper::Result<StatusCode> {
    let (parts, body) = response.into_parts();
    body.collect().await?;
    Ok(parts.status)
}

pub(crate) fn request(question: &str) -> Request<Full<Bytes>> {
    let inputs = json!({"question": question}).to_string();
    Request::post("/qa")
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::from(inputs))
        .expect("a request")
}
