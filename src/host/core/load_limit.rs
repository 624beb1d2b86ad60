//! The limit of the loading of one program.

use std::time::Duration;

/// The default, of a load in this process as of one in a worker.
pub(in crate::host) const LOAD_LIMIT: Duration = Duration::from_secs(30 * 60);

/// The longest limit that Python's timers can hold.
pub(in crate::host) const LONGEST_LOAD_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);
