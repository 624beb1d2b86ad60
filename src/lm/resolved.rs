//! [`ResolvedLm`]: an LM with its key and address found.

use std::sync::Arc;

use super::{
    keyed::{KeyFn, Keyed},
    limits::LmLimits,
};

/// What all calls of one LM have in common.
#[derive(Debug)]
pub(super) struct ResolvedLm {
    pub(super) provider: Arc<str>,
    pub(super) model: Arc<str>,
    pub(super) base_url: Option<String>,
    pub(super) limits: LmLimits,
    pub(super) keyed: Arc<Keyed>,
    pub(super) keys: Option<KeyFn>,
}
