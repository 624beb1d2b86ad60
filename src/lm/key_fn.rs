//! Which key a request is sent with: the one of its LM, or the one that a function names for its
//! tenant.

use std::{fmt, sync::Arc};

use tower::BoxError;

use super::{
    LmRequest,
    key::{Lock, Origin, SecretKey},
    redact::Redact,
};
use crate::{
    error::{LmFailure, LmFailureKind},
    request::Tenant,
};

/// A key in use: where it may go, and how it is kept out of messages.
#[derive(Debug)]
pub(super) struct Keyed {
    pub(super) lock: Lock,
    pub(super) redact: Redact,
}

impl Keyed {
    pub(super) fn new(lock: Lock) -> Self {
        Self {
            redact: Redact::new(lock.key.clone()),
            lock,
        }
    }

    /// The failure that an error of the client or of a layer is, of a request that went `to` there.
    pub(super) fn failure(&self, error: &BoxError, to: Option<&Origin>) -> LmFailure {
        LmFailure::found(&**error).unwrap_or_else(|| {
            let said = self.redact.error(&**error);
            let to = to.map_or_else(|| "no address".to_owned(), ToString::to_string);
            let message = format!("the LM call to {to} failed: {said}");
            LmFailure::saying(&**error, message.into())
        })
    }
}

/// A function that names the key of a tenant.
#[derive(Clone)]
pub(super) struct KeyFn(Arc<Of>);

type Of = dyn Fn(Option<&Tenant>) -> Option<String> + Send + Sync;

impl KeyFn {
    pub(super) fn new(
        key: impl Fn(Option<&Tenant>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(key))
    }

    /// What `request` is sent with; `usual` says where to.
    pub(super) fn keyed(&self, request: &LmRequest, usual: &Keyed) -> Result<Keyed, LmFailure> {
        let tenant = request.extensions().get::<Tenant>();
        let whose = || match tenant {
            Some(tenant) => format!("the tenant `{tenant}`"),
            None => "a call without a tenant".into(),
        };
        let refused = |what| {
            let message = format!("no LM call was made: {what} {}", whose());
            LmFailure::new(LmFailureKind::Refused, message)
        };
        let key = (self.0)(tenant).ok_or_else(|| refused("there is no key for"))?;
        let key = SecretKey::new(&key).map_err(|_| {
            refused("a key is empty or has characters that cannot be sent, that of")
        })?;
        Ok(Keyed::new(Lock {
            key: Some(key),
            origin: usual.lock.origin.clone(),
        }))
    }
}

impl fmt::Debug for KeyFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyFn")
    }
}
