//! The body of an answer, or of the error in its place.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of what a service answered, or of the error that was answered in its place.
    #[derive(Debug)]
    pub struct OrErrorBody<B> {
        #[pin]
        inner: Option<B>,
        // In the place of `inner`.
        error: String,
    }
}

impl<B> OrErrorBody<B> {
    pub(super) const fn inner(body: B) -> Self {
        Self {
            inner: Some(body),
            error: String::new(),
        }
    }

    pub(super) const fn error(error: String) -> Self {
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
