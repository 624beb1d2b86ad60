//! The settings of a pool of workers.

use super::{phase::OverdueLimits, process::SpawnSettings, recycle::RecycleLimits};

/// The settings of a pool.
pub(super) struct PoolSettings {
    pub(super) workers: usize,
    pub(super) spawn: SpawnSettings,
    /// Whether workers are forked from a zygote.
    pub(super) fork: bool,
    pub(super) overdue: OverdueLimits,
    pub(super) recycle: RecycleLimits,
}
