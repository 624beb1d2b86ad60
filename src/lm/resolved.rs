//! [`ResolvedLm`]: an LM with its key and address, once they are found.

use std::sync::{Arc, OnceLock};

use super::{
    LmRequest,
    charge::ListPrice,
    config_error::LmConfigError,
    credential::Credential,
    credential_lookup,
    estimate::CompletionHistory,
    key::SecretKey,
    model::{Lm, LmKey},
    model_name, placeholder,
    provider::LmProvider,
};
use crate::{call::Price, error::LmFailure, request::Tenant};

/// What all calls of one LM have in common.
pub(super) struct ResolvedLm {
    pub(super) lm: Lm,
    /// Set when a program is loaded with the LM. Before that no key is sent.
    found: OnceLock<Arc<Credential>>,
    /// What its answers took lately; nothing is known of LMs that are none of the host's.
    pub(super) completions: CompletionHistory,
}

impl ResolvedLm {
    pub(super) fn new(lm: Lm) -> Self {
        Self {
            lm,
            found: OnceLock::new(),
            completions: CompletionHistory::default(),
        }
    }

    /// Finds the key and the address by what is known of the provider. Once there is an address
    /// they stay, for each worker resolves the LMs of its programs.
    pub(super) fn resolve(&self, provider: &LmProvider) -> Result<Arc<Credential>, LmConfigError> {
        if let Some(found) = self.found.get() {
            return Ok(found.clone());
        }
        let found = Arc::new(credential_lookup::credential(&self.lm, provider)?);
        match found.origin {
            Some(_) => Ok(self.found.get_or_init(|| found).clone()),
            None => Ok(found),
        }
    }

    /// The LM's own credential, also for a request with a key of its own.
    pub(super) fn own_credential(&self) -> Arc<Credential> {
        self.found.get().cloned().unwrap_or_default()
    }

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

    /// An answer took so many tokens. LMs that are none of the host's have one handle, and their answers
    /// say nothing of each other's.
    pub(super) fn answered(&self, tokens: u64) {
        if !self.lm.model.is_empty() {
            self.completions.record(tokens);
        }
    }

    /// The credential that `request` is sent with, which may have a key of its own.
    pub(super) fn credential(&self, request: &LmRequest) -> Result<Arc<Credential>, LmFailure> {
        let key_of = match &self.lm.key {
            LmKey::By(key_of) | LmKey::Token(key_of) if placeholder::is_in(request) => key_of,
            _ => return Ok(self.own_credential()),
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
            origin: self.own_credential().origin.clone(),
            is_token: matches!(self.lm.key, LmKey::Token(_)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_lms_that_are_none_of_the_hosts_are_in_no_history() {
        let request: LmRequest = http::Request::new("{}".into());
        for (model, expected) in [("", 1024), ("openai/x", 4000)] {
            let lm = ResolvedLm::new(Lm::new(model));
            lm.answered(4000);
            assert_eq!(lm.completions.estimate(&request).completion, expected);
        }
    }
}
