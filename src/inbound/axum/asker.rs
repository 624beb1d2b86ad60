//! [`Asker`]: what the routes of programs know of a request besides its body.

use std::{convert::Infallible, future::poll_fn, pin::pin};

use ::axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Request, rejection::JsonRejection},
};
use http::{StatusCode, request::Parts};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    call::{
        CallContext, CallId,
        termination::{Terminated, Termination},
    },
    error::{Cancelled, Error},
    inbound::respond::ErrorResponse,
    request::{PredictRequest, Tenant},
};

/// The context and the tenant that layers put into the extensions of a request.
pub(super) struct Asker {
    context: CallContext,
    tenant: Option<Tenant>,
}

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        Ok(Self {
            context: CallContext::from_request_parts(parts, state).await?,
            tenant: parts.extensions.get().cloned(),
        })
    }
}

impl Asker {
    /// The id of the call.
    pub(super) fn id(&mut self) -> CallId {
        self.context.id()
    }

    /// The body of `request`, if it comes before the call has to end.
    pub(super) async fn body<T>(&self, request: Request) -> Result<T, ErrorResponse>
    where
        T: DeserializeOwned,
    {
        let (cancel, deadline) = (self.context.cancel.clone(), self.context.deadline);
        let mut end = pin!(Termination::new(cancel, deadline));
        let read = tokio::select! {
            biased;
            read = Json::from_request(request, &()) => read,
            end = poll_fn(|cx| end.as_mut().poll(cx)) => return Err(match end {
                Terminated::Cancelled(cause) => ErrorResponse::of(Error::from(Cancelled::new(cause))),
                Terminated::DeadlinePassed => ErrorResponse::slow_body(),
            }),
        };
        let refused = |refused: JsonRejection| match deadline {
            // The server has ended the body for it.
            Some(deadline) if deadline.is_past() && is_cut(&refused) => ErrorResponse::slow_body(),
            _ => ErrorResponse::refused(refused.status(), refused.body_text()),
        };
        let Json(body) = read.map_err(refused)?;
        Ok(body)
    }

    /// The request for a program's answer to these inputs.
    pub(super) fn asks(self, inputs: impl Into<Value>) -> PredictRequest {
        let request = PredictRequest::new(inputs).with_context(self.context);
        for_tenant(request, self.tenant)
    }

    #[cfg(feature = "_host")]
    pub(super) fn into_parts(self) -> (CallContext, Option<Tenant>) {
        (self.context, self.tenant)
    }
}

/// The request, made for this tenant if there is one.
pub(super) fn for_tenant(request: PredictRequest, tenant: Option<Tenant>) -> PredictRequest {
    match tenant {
        Some(tenant) => request.with_tenant(tenant),
        None => request,
    }
}

/// Whether the body broke off, and was not too large or no JSON.
fn is_cut(refused: &JsonRejection) -> bool {
    matches!(refused, JsonRejection::BytesRejection(_))
        && refused.status() != StatusCode::PAYLOAD_TOO_LARGE
}
