//! The LM that a program's request belongs to.

use std::sync::Arc;

use serde::Deserialize;

use crate::{
    call::PriceTier,
    lm::{Lm, LmHandle, LmProvider, LmRequest, Placeholder},
};

/// The numbers of the LMs that a request may belong to, the likeliest first; the model that is asked,
/// by DSPy's name; its price in DSPy's table; and whether an embedder makes the request.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LmCandidates(
    pub(crate) Vec<i64>,
    pub(crate) String,
    pub(crate) Option<Vec<PriceTier>>,
    pub(crate) bool,
);

/// The same as a tuple, which is what Python's side passes.
#[cfg(feature = "python")]
pub(crate) type LmRoute = (Vec<i64>, String, Option<Vec<PriceTier>>, bool);

#[cfg(feature = "python")]
impl From<LmRoute> for LmCandidates {
    fn from((lms, model, price, is_embedding): LmRoute) -> Self {
        Self(lms, model, price, is_embedding)
    }
}

/// The LM of a request: the one whose placeholder it has; else the first of `lms` that `find`
/// returns. `None` if there is none, and the request brings its own key.
///
/// # Errors
/// If the placeholder's LM is gone, or, for a request of a call, is not one of `lms`: a client that
/// a module keeps for all programs would have one tenant pay for another.
pub(super) fn lm_of(
    request: &LmRequest,
    lms: &[i64],
    of_call: bool,
    find: impl Fn(i64) -> Option<Arc<LmHandle>>,
) -> Result<Option<Arc<LmHandle>>, &'static str> {
    let first = || lms.iter().find_map(|lm| find(*lm));
    match Placeholder::in_request(request) {
        None => Ok(first()),
        Some(Placeholder::Of(lm)) if of_call && !lms.contains(&lm) => {
            Err("the request has the placeholder of an LM that is none of its program's")
        }
        Some(Placeholder::Of(lm)) => find(lm)
            .map(Some)
            .ok_or("the LM of this request is gone: the host has forgotten its program"),
        Some(Placeholder::Any) => {
            let mut there = lms.iter().filter_map(|lm| find(*lm));
            let at_address = there.find(|lm| lm.is_at(request.uri()));
            at_address.or_else(first).map(Some).ok_or(
                "the request has a placeholder for a key, and its program was loaded without an LM \
                 of the host's: give it one by `.lm(..)`",
            )
        }
    }
}

/// The handle of an LM that a program brought along. Until it is resolved, Python keeps its key.
pub(crate) fn adopt(
    model: String,
    base_url: Option<String>,
    key: Option<String>,
) -> Result<LmHandle, String> {
    let mut lm = Lm::new(model);
    if let Some(base_url) = base_url {
        lm = lm.base_url(base_url);
    }
    if let Some(key) = key {
        lm = lm.key(key);
    }
    lm.prepare().map_err(|error| error.to_string())
}

/// Finds the key and the address of an LM by what Python's side knows of its provider; returns
/// whether the host has its key.
pub(crate) fn resolve(lm: Option<&LmHandle>, provider: &LmProvider) -> Result<bool, String> {
    let lm = lm.ok_or("the LM is gone: its program is not loaded any more")?;
    lm.resolve(provider).map_err(|error| error.to_string())
}
