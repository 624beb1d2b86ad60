//! [`LmProvider`]: what is known of a provider, and what Python is asked for it.
//!
//! Where a provider is, and which variables hold its key, is known to the libraries that DSPy calls
//! it by. Python's side asks them when a program is loaded, see `lm_address.py`.

use serde::Deserialize;

#[cfg(feature = "_host")]
use super::model::LmKey;
use super::{model::Lm, model_name::split};

/// The provider of an LM, as DSPy and its libraries know it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct LmProvider {
    /// Where a request of the LM goes; `None` while that is not known.
    pub(crate) url: Option<String>,
    /// The environment variables that may hold the key, the first of them first.
    pub(crate) variables: Vec<String>,
    /// Whether its library finds credentials of its own where there is no key, as those of a cloud.
    pub(crate) has_credentials: bool,
}

impl LmProvider {
    /// The provider of an LM without Python: it has the variable that nearly all have.
    pub(super) fn by_name(lm: &Lm) -> Self {
        let name = split(&lm.model).0.to_ascii_uppercase();
        Self {
            variables: vec![format!("{name}_API_KEY")],
            ..Self::default()
        }
    }
}

#[cfg(feature = "_host")]
impl Lm {
    /// What Python's side builds the LM from. The key is not among it: Python has a placeholder.
    pub(crate) fn config(&self) -> serde_json::Value {
        serde_json::json!({
            "model": self.model,
            "base_url": self.base_url,
            "options": self.options,
            // Else it is that of one of the provider's variables.
            "has_key": !matches!(self.key, LmKey::ProvidersOwn),
            // A worker takes it out of its environment.
            "key_env": match &self.key {
                LmKey::Env(variable) => Some(variable),
                _ => None,
            },
        })
    }
}
