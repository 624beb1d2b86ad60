//! The LMs that a worker's programs made themselves, by the worker's numbers, which are negative.

use std::{collections::HashMap, mem, sync::Arc};

use super::{messages::OwnLm, numbers::LoadId};
use crate::{host::core::lm_candidates, lm::LmHandle};

/// The LMs that the programs of one worker made.
#[derive(Default)]
pub(super) struct OwnLms {
    lms: HashMap<i64, Arc<LmHandle>>,
    /// Those of the program that is being loaded.
    loading: Vec<i64>,
    /// Those of each program that is loaded.
    of_load: HashMap<LoadId, Vec<i64>>,
}

impl OwnLms {
    /// Takes over an LM of the program that is being loaded; returns whether the host has its key.
    pub(super) fn adopt(&mut self, own: OwnLm) -> Result<bool, String> {
        self.loading.push(own.lm);
        let key = own.key.map(|key| key.0);
        let (handle, keyed) = lm_candidates::adopt(own.model, own.base_url, key)?;
        self.lms.insert(own.lm, Arc::new(handle));
        Ok(keyed)
    }

    pub(super) fn get(&self, lm: i64) -> Option<Arc<LmHandle>> {
        self.lms.get(&lm).cloned()
    }

    /// The program has been loaded.
    pub(super) fn loaded(&mut self, load: LoadId) {
        self.of_load.insert(load, mem::take(&mut self.loading));
    }

    /// The program has not been loaded.
    pub(super) fn not_loaded(&mut self) {
        for lm in mem::take(&mut self.loading) {
            self.lms.remove(&lm);
        }
    }

    pub(super) fn unloaded(&mut self, load: LoadId) {
        for lm in self.of_load.remove(&load).unwrap_or_default() {
            self.lms.remove(&lm);
        }
    }
}
