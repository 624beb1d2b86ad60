//! The bodies of answers: those of errors, and those that may be either.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;

/// The body of an error's response: all of it at once, or none.
#[derive(Clone, Debug, Default)]
pub struct ErrorBody(Full<Bytes>);

impl ErrorBody {
    pub(super) fn new(bytes: impl Into<Bytes>) -> Self {
        Self(Full::new(bytes.into()))
    }
}

impl Body for ErrorBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

pin_project! {
    /// The body of what a service answered, or of the error that was answered in its place.
    #[derive(Debug)]
    pub struct OrErrorBody<B> {
        #[pin]
        inner: Option<B>,
        // In the place of `inner`.
        error: ErrorBody,
    }
}

impl<B> OrErrorBody<B> {
    pub(super) fn inner(body: B) -> Self {
        Self {
            inner: Some(body),
            error: ErrorBody::default(),
        }
    }

    pub(super) const fn error(error: ErrorBody) -> Self {
        Self { inner: None, error }
    }
}

impl<B: Body<Data = Bytes>> Body for OrErrorBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        match this.inner.as_pin_mut() {
            Some(inner) => inner.poll_frame(cx),
            None => {
                let frame = Pin::new(this.error).poll_frame(cx);
                frame.map_err(|never| match never {})
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let inner = self.inner.as_ref();
        inner.map_or_else(|| self.error.is_end_stream(), Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.as_ref();
        inner.map_or_else(|| self.error.size_hint(), Body::size_hint)
    }
}
