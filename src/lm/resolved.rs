//! [`ResolvedLm`]: an LM with its key and address found.

use std::sync::Arc;

use super::{
    LmRequest,
    credential::Credential,
    model::{Lm, LmKey},
    model_name, placeholder,
};
use crate::error::LmFailure;

/// What all calls of one LM have in common.
#[derive(Debug)]
pub(super) struct ResolvedLm {
    pub(super) lm: Lm,
    pub(super) credential: Arc<Credential>,
}

impl ResolvedLm {
    /// The provider and the model, as the provider knows it.
    pub(super) fn names(&self) -> (&str, &str) {
        model_name::split(&self.lm.model)
    }

    /// What `request` is sent with; it may bring a key of its own.
    pub(super) fn credential(&self, request: &LmRequest) -> Result<Arc<Credential>, LmFailure> {
        match &self.lm.key {
            LmKey::By(keys) if placeholder::is_in(request) => {
                keys.credential(request, &self.credential).map(Arc::new)
            }
            _ => Ok(self.credential.clone()),
        }
    }
}
