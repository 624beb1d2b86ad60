//! The client that sends LM calls, unless [`Lm::http`](crate::Lm::http) gives another.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tower::{BoxError, Service};

use super::{
    LmRequest, LmResponse,
    config_error::LmConfigError,
    departure::{DepartingBody, Departure},
    http::LmBody,
    proxy,
    redact::Redact,
};

/// In bytes: that of some hundred streams.
const CONNECTION_WINDOW: u32 = 1 << 30;

/// An HTTP client as a tower service: HTTP/1.1, or HTTP/2 where TLS offers it, over a pool of
/// connections, through the proxy that the environment names.
///
/// It follows no redirect, which would carry the key elsewhere, keeps no cookies, and never sends
/// a request again of its own accord: retries belong to a [`RetryLayer`](crate::RetryLayer).
///
/// It looks once more at the request's context as its connection is about to write it: what is
/// cancelled, or past its deadline, by then is not sent, and its connection closes without a byte of
/// it. (Over HTTP/2 the head may have left; the request is then broken off without its body.)
///
/// # Cancel safety
/// Dropping the future, or the body of an answer before its end, closes the connection at once;
/// with HTTP/2, resets the stream.
#[derive(Clone, Debug)]
pub struct LmClient(reqwest::Client);

impl LmClient {
    /// A client that gives up on a connection after `connect`; on none, if that is `None`.
    ///
    /// # Errors
    /// If TLS cannot be set up, as without any root certificate on the system; and if one of the
    /// variables `HTTP_PROXY`, `HTTPS_PROXY` and `ALL_PROXY` that it goes by names no proxy that it
    /// can use: those of HTTP and of SOCKS.
    pub fn new(connect: Option<Duration>) -> Result<Self, LmConfigError> {
        let client = Self::builder(connect)?.build();
        let client = client.map_err(|error| LmConfigError::Client {
            reason: Redact::new(None).error(&error),
        })?;
        Ok(Self(client))
    }

    pub(super) fn builder(
        connect: Option<Duration>,
    ) -> Result<reqwest::ClientBuilder, LmConfigError> {
        let mut client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            // The last token of a stream is small, and is not to wait for more.
            .tcp_nodelay(true)
            // Each stream of HTTP/2 has a window of its own. An answer that its program does not read
            // is not to use up that of the connection, which all its streams share.
            .http2_initial_connection_window_size(CONNECTION_WINDOW);
        if let Some(limit) = connect {
            client = client.connect_timeout(limit);
        }
        if !proxy::any()? {
            client = client.no_proxy();
        }
        Ok(client)
    }

    /// A client of your own (feature `reqwest`), as for a private certificate authority. What it
    /// follows, keeps and repeats is then yours to set.
    #[cfg(feature = "reqwest")]
    #[must_use]
    pub const fn from_reqwest(client: reqwest::Client) -> Self {
        Self(client)
    }
}

impl Service<LmRequest> for LmClient {
    type Response = LmResponse;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<LmResponse, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: LmRequest) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move {
            let departure = Departure::of(&request);
            let request = request.map(|body| match body.is_empty() {
                true => reqwest::Body::from(body),
                false => reqwest::Body::wrap(DepartingBody {
                    body: Some(body),
                    departure,
                }),
            });
            let request = reqwest::Request::try_from(request).map_err(quiet)?;
            let answer = client.execute(request).await.map_err(quiet)?;
            let (head, reader) = http::Response::<reqwest::Body>::from(answer).into_parts();
            let reader = http_body_util::BodyExt::map_err(reader, quiet);
            Ok(http::Response::from_parts(head, LmBody::new(reader)))
        })
    }
}

/// The error without the URL, whose query may hold the key.
fn quiet(error: reqwest::Error) -> BoxError {
    error.without_url().into()
}
