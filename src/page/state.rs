//! What the handlers of the page share.

use std::{ops::Deref, sync::Arc};

use serde::Deserialize;
use tokio::task::spawn_blocking;

use super::{
    access::{FormToken, PageToken},
    page_reading::PageReading,
    shared_reading::SharedReading,
    sources::PageSources,
    update_clients::UpdateClients,
};
use crate::call::record::timeline::CallTimeline;

/// What the handlers share.
#[derive(Clone)]
pub(super) struct PageState(pub(super) Arc<PageParts>);

pub(super) struct PageParts {
    pub(super) sources: PageSources,
    pub(super) token: Option<PageToken>,
    /// None if the page may change nothing.
    pub(super) form_token: Option<FormToken>,
    pub(super) updates: UpdateClients,
    pub(super) shared_reading: SharedReading,
}

impl Deref for PageState {
    type Target = PageParts;

    fn deref(&self) -> &PageParts {
        &self.0
    }
}

/// What may stand in the query of the page.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct PageQuery {
    by: Option<String>,
    pub(super) format: Option<String>,
    /// The page that is to be live is at the path of the router without a slash at the end.
    #[serde(default)]
    pub(super) flat: bool,
}

impl PageQuery {
    /// Whether finished calls are shown by the time that they took.
    pub(super) fn by_time(&self) -> bool {
        self.by.as_deref() == Some("time")
    }
}

impl PageState {
    /// A reading of now. It is made on a thread that may block: it reads files of worker processes.
    pub(super) async fn reading(&self) -> PageReading {
        let state = self.clone();
        let reading = spawn_blocking(move || PageReading::of(&state.sources)).await;
        // The runtime ends.
        reading.unwrap_or_else(|_| PageReading::of(&self.sources))
    }

    /// The reading that live pages share.
    pub(super) async fn recent_reading(&self) -> Arc<PageReading> {
        self.shared_reading.recent(|| self.reading()).await
    }
}

impl PageParts {
    /// The form token, if it cancels this call.
    pub(super) fn form_token_for(&self, call: &CallTimeline) -> Option<&FormToken> {
        let token = self.form_token.as_ref()?;
        let id = call.id?;
        let cancellable = self.sources.tracker.cancellable(&[id].into());
        cancellable.contains(&id).then_some(token)
    }

    /// The timeline of the call whose id is this text.
    pub(super) fn timeline(&self, id: &str) -> Option<CallTimeline> {
        self.sources.tracker.timeline(id.parse().ok()?)
    }
}

/// The relative path from a page at `path`, where the router is mounted, to the paths below it. A
/// relative link counts from the last slash of the path.
pub(super) fn base_from(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((_, last)) if !last.is_empty() => format!("./{last}/"),
        _ => String::new(),
    }
}

/// The relative path from a page at `path`, one below where the router is mounted, to the page of all
/// calls. It has no slash at its end: a nested router has no route for that.
pub(super) fn home_from(path: &str) -> String {
    let mounted = path.rsplit_once('/').map_or("", |(mounted, _)| mounted);
    match mounted.rsplit_once('/') {
        Some((_, last)) if !last.is_empty() => format!("../{last}"),
        _ => "./".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{base_from, home_from};

    #[test]
    fn a_base_counts_from_the_last_slash() {
        let bases = ["/", "/debug/calls/", "/debug/calls", "/a:b"].map(base_from);
        assert_eq!(bases, ["", "", "./calls/", "./a:b/"]);
    }

    #[test]
    fn a_page_of_a_call_leads_to_that_of_all_calls() {
        let homes = ["/8", "/debug/calls/8", "/calls/samples"].map(home_from);
        assert_eq!(homes, ["./", "../calls", "../calls"]);
    }
}
