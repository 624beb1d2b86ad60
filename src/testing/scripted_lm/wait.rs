//! [`NotSeen`]: the error of a wait that saw nothing in time.

use std::time::Duration;

use thiserror::Error;

use super::RequestRecord;

/// The limit of a wait by default: far beyond what a busy machine needs.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// What a test waited for did not happen in time.
#[derive(Clone, Debug, Error)]
#[error("{0}")]
pub struct NotSeen(pub(super) String);

/// Lists records in few words.
pub(super) fn list(records: &[RequestRecord]) -> String {
    const MOST: usize = 8;
    if records.is_empty() {
        return "no requests".to_owned();
    }
    let shown = records.iter().take(MOST);
    let mut list: Vec<_> = shown
        .map(|r| format!("#{} {:?} with {} tokens", r.n, r.outcome, r.tokens))
        .collect();
    if records.len() > MOST {
        list.push(format!("and {} more", records.len() - MOST));
    }
    list.join(", ")
}
