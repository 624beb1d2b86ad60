//! [`KeyFn`]: a function that names the key of a tenant.

use std::sync::Arc;

use super::{LmRequest, credential::Credential, key::SecretKey};
use crate::{error::LmFailure, request::Tenant};

/// A function that names the key of a tenant.
#[derive(Clone)]
pub(super) struct KeyFn(Arc<TenantKey>);

type TenantKey = dyn Fn(Option<&Tenant>) -> Option<String> + Send + Sync;

impl KeyFn {
    pub(super) fn new(
        key: impl Fn(Option<&Tenant>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(key))
    }

    /// The credential of `request`, for the origin of the LM's `own`.
    pub(super) fn credential(
        &self,
        request: &LmRequest,
        own: &Credential,
    ) -> Result<Credential, LmFailure> {
        let tenant = request.extensions().get::<Tenant>();
        let refused = |what| {
            let whose = tenant.map_or("a call without a tenant".into(), |tenant| {
                format!("the tenant `{tenant}`")
            });
            LmFailure::refused(format!("no LM call was made: {what} {whose}"))
        };
        let key = (self.0)(tenant).ok_or_else(|| refused("there is no key for"))?;
        let key = SecretKey::new(&key).map_err(|_| {
            refused("a key is empty or has characters that cannot be sent, that of")
        })?;
        Ok(Credential {
            key: Some(key),
            origin: own.origin.clone(),
        })
    }
}
