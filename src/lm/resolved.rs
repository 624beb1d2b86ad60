//! [`ResolvedLm`]: an LM with its key and address found.

use std::sync::Arc;

use super::{
    LmRequest,
    charge::ListPrice,
    credential::Credential,
    estimate::CompletionHistory,
    key::SecretKey,
    model::{Lm, LmKey},
    model_name, placeholder,
};
use crate::{call::Price, error::LmFailure, request::Tenant};

/// What all calls of one LM have in common.
pub(super) struct ResolvedLm {
    pub(super) lm: Lm,
    pub(super) credential: Arc<Credential>,
    /// What its answers took lately.
    pub(super) completions: CompletionHistory,
}

impl ResolvedLm {
    /// The provider and the model, as the provider knows it.
    pub(super) fn names(&self) -> (&str, &str) {
        model_name::split(&self.lm.model)
    }

    /// The price of `request`: the LM's own, else that of DSPy's table.
    pub(super) fn price(&self, request: &LmRequest) -> Option<Arc<Price>> {
        let listed = || request.extensions().get::<ListPrice>();
        let own = self.lm.price.clone();
        own.or_else(|| listed().map(|ListPrice(price)| price.clone()))
    }

    /// What `request` is sent with; it may bring a key of its own.
    pub(super) fn credential(&self, request: &LmRequest) -> Result<Arc<Credential>, LmFailure> {
        let key_of = match &self.lm.key {
            LmKey::By(key_of) if placeholder::is_in(request) => key_of,
            _ => return Ok(self.credential.clone()),
        };
        let tenant = request.extensions().get::<Tenant>();
        let refused = |what| {
            let whose = tenant.map_or("a call without a tenant".into(), |tenant| {
                format!("the tenant `{tenant}`")
            });
            LmFailure::refused(format!("no LM call was made: {what} {whose}"))
        };
        let key = key_of(tenant).ok_or_else(|| refused("there is no key for"))?;
        let key = SecretKey::new(&key).ok_or_else(|| {
            refused("a key is empty or has characters that cannot be sent, that of")
        })?;
        Ok(Arc::new(Credential {
            key: Some(key),
            origin: self.credential.origin.clone(),
        }))
    }
}
