//! The LMs that a worker's programs made themselves, by the worker's numbers, which are negative.

use std::{collections::HashMap, mem, sync::Arc};

use super::{numbers::LoadId, wire::OwnLm};
use crate::{host::core::lm_candidates, lm::LmHandle};

type Lms = HashMap<i64, Arc<LmHandle>>;

/// The LMs that the programs of one worker made.
#[derive(Default)]
pub(super) struct OwnLms {
    /// Those of the program that is being loaded.
    loading: Lms,
    of_load: HashMap<LoadId, Lms>,
}

impl OwnLms {
    /// Takes over an LM of the program that is being loaded; returns whether the host has its key.
    pub(super) fn adopt(&mut self, own: OwnLm) -> Result<bool, String> {
        let key = own.key.map(|key| key.0);
        let (handle, keyed) = lm_candidates::adopt(own.model, own.base_url, key)?;
        self.loading.insert(own.lm, Arc::new(handle));
        Ok(keyed)
    }

    pub(super) fn get(&self, lm: i64) -> Option<Arc<LmHandle>> {
        let mut all = self.of_load.values().chain([&self.loading]);
        all.find_map(|lms| lms.get(&lm)).cloned()
    }

    /// The program has been loaded.
    pub(super) fn loaded(&mut self, load: LoadId) {
        self.of_load.insert(load, mem::take(&mut self.loading));
    }

    /// The program has not been loaded.
    pub(super) fn not_loaded(&mut self) {
        self.loading.clear();
    }

    pub(super) fn unloaded(&mut self, load: LoadId) {
        self.of_load.remove(&load);
    }
}
