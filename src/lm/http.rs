//! The HTTP types of an LM call, and how a service of any body type becomes one of them.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use tower::{BoxError, Service, ServiceExt, util::BoxCloneSyncService};

use crate::call::TraceContext;

/// A request to an LM provider: its whole body, and in its extensions the
/// [`CallContext`](crate::CallContext) of the call that it is made for.
///
/// It is `Clone` and a [`Carrier`](crate::Carrier), as retry and timeout layers need it.
pub type LmRequest = http::Request<Bytes>;

/// The body of a provider's answer, as it arrives.
#[derive(Debug)]
pub struct LmBody(UnsyncBoxBody<Bytes, BoxError>);

/// A provider's answer, whatever its status.
pub type LmResponse = http::Response<LmBody>;

/// Any service that answers LM requests: what the layers of an [`Lm`](crate::Lm) are put around.
pub type LmHttp = BoxCloneSyncService<LmRequest, LmResponse, BoxError>;

impl LmBody {
    /// Makes a body of any type the one that LM answers have.
    pub fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(body.map_err(Into::into).boxed_unsync())
    }
}

impl Body for LmBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// The span of the program's call, among the extensions of its requests.
#[derive(Clone, Debug)]
pub(crate) struct CallSpan(pub(crate) tracing::Span);

/// The model of an LM call by DSPy's name, among the extensions of its requests, where it is not the
/// LM's own.
#[derive(Clone, Debug)]
pub(crate) struct AskedModel(pub(crate) Arc<str>);

/// The trace that the program made an LM call in, among the extensions of its requests.
#[derive(Clone, Debug)]
pub(crate) struct RequestTrace(pub(crate) Arc<TraceContext>);

/// The number of the program's exchange, among the extensions of its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExchangeNumber(pub(crate) u64);

/// How long the program waits for the next byte of an answer, among the extensions of its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadTimeout(pub(crate) std::time::Duration);

/// How long a member of an LM that is made of several may take until its first content, layers
/// included, among the extensions of its requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemberLimit(pub(crate) std::time::Duration);

/// Forgets the types of a service.
pub(super) fn erase<S, B>(service: S) -> LmHttp
where
    S: Service<LmRequest, Response = http::Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    BoxCloneSyncService::new(
        service
            .map_response(|answer: http::Response<B>| answer.map(LmBody::new))
            .map_err(Into::into),
    )
}
